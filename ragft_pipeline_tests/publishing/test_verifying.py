"""`ragft verify`: an endpoint serves the bundle's model, or it is said what is wrong with it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ragft_pipeline.errors import RagftError, TransientError
from ragft_pipeline.publishing.endpoints import Endpoint
from ragft_pipeline.publishing.verifying import Verified, verify
from ragft_pipeline.serving.bundle import Bundle
from ragft_pipeline.settings import ComputeSettings, EmbedderSettings, Settings
from ragft_pipeline.store import ArtifactStore
from ragft_pipeline_tests.publishing.loopback import embedding_server
from ragft_pipeline_tests.publishing.tiny_embedder import tiny_embedder
from ragft_pipeline_tests.serving.conftest import BREAD, PUMP, make_bundle

PROMPT = "query: "


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("verify")


@pytest.fixture(scope="module")
def bundle(folder: Path) -> Bundle:
    model = tiny_embedder(folder / "model")
    embedder = EmbedderSettings(model=str(model), query_prompt=PROMPT, max_tokens=96)
    settings = Settings(embedder=embedder)
    return make_bundle(ArtifactStore(folder / "store"), "both", [*PUMP, *BREAD], settings=settings)


def served(model: Any, prompt: str) -> Any:
    def embed(texts: Sequence[str]) -> np.ndarray:
        return np.asarray(model.encode([f"{prompt}{text}" for text in texts]))

    return embed


def asked(bundle: Bundle, embed: Any, api: str = "openai", **options: Any) -> Verified:
    with embedding_server(embed, api) as address:
        return verify(bundle, Endpoint.at(address, None, "", ""), ComputeSettings(), **options)


def loaded(folder: Path) -> Any:
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(folder), device="cpu")


@pytest.mark.parametrize("api", ["openai", "tei", "ollama"])
def test_the_right_model_passes_whatever_the_server_speaks(
    folder: Path, bundle: Bundle, api: str
) -> None:
    found = asked(bundle, served(loaded(folder / "model"), PROMPT), api)
    assert found.passed, found.line
    assert found.cosine > 0.9999


def test_a_missing_prompt_is_named_and_may_be_sent(folder: Path, bundle: Bundle) -> None:
    embed = served(loaded(folder / "model"), "")
    refused = asked(bundle, embed)
    assert not refused.passed
    assert "no prompt: the bundle's is 'query: '" in refused.line
    assert asked(bundle, embed, prompted=True).passed
    assert asked(bundle, embed, side="document").passed


def test_another_pooling_is_named(folder: Path, bundle: Bundle) -> None:
    cls = tiny_embedder(folder / "cls", pooling="cls")
    refused = asked(bundle, served(loaded(cls), PROMPT))
    assert not refused.passed
    assert "another pooling: the first token's, the model's is 'mean'" in refused.line


def test_a_dense_module_that_was_dropped_is_named(folder: Path, bundle: Bundle) -> None:
    plain = tiny_embedder(folder / "plain", dense=False)
    refused = asked(bundle, served(loaded(plain), PROMPT))
    assert not refused.passed
    assert "without its 1 Dense modules" in refused.line
    both = asked(bundle, served(loaded(plain), ""))
    assert "without its 1 Dense modules and no prompt" in both.line


def test_another_model_and_another_width_are_refused(bundle: Bundle) -> None:
    def random(width: int) -> Any:
        return lambda texts: np.random.default_rng(3).standard_normal((len(texts), width))

    assert "another model or other weights" in asked(bundle, random(32)).line
    assert "vectors of 7 numbers, not 32" in asked(bundle, random(7)).line


def test_what_is_no_endpoint_gives_one_line(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(TransientError, match=r"endpoint http://127.0.0.1:9"):
        Endpoint.at("http://127.0.0.1:9", None, "", "").embed(["a"])
    with pytest.raises(RagftError, match="the variable NO_SUCH_KEY is not set"):
        Endpoint.at("http://127.0.0.1:9", None, "", "NO_SUCH_KEY")
    monkeypatch.setenv("EMBED_KEY", "sesame")
    with embedding_server(lambda texts: np.ones((len(texts), 3)), "tei", key="sesame") as address:
        assert Endpoint.at(address, "tei", "", "EMBED_KEY").embed(["a"]).shape == (1, 3)
        with pytest.raises(RagftError, match="HTTP 401"):
            Endpoint.at(address, "tei", "", "").embed(["a"])
        with pytest.raises(RagftError, match="speaks neither"):
            Endpoint.at(address, "ollama", "", "EMBED_KEY").embed(["a"])
