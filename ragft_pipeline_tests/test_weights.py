from __future__ import annotations

import json
import shutil
from pathlib import Path

import huggingface_hub.constants
import pytest

from ragft_pipeline.digests import file_sha256
from ragft_pipeline.errors import RagftError
from ragft_pipeline.models.weights import (
    Weights,
    folder_digest,
    require_embedder,
    require_language_model,
    resolve_weights,
)

MINILM, SMOLLM = "embedded:all-minilm-l6-v2", "embedded:smollm2-135m-instruct"


def make_model(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for name in ("config.json", "model.safetensors", "tokenizer.json", "modeling_own.py"):
        (folder / name).write_text("{}")
    return folder


@pytest.mark.parametrize(
    "name",
    [
        "config.json", "model.safetensors", "tokenizer.json", "modeling_own.py",
        "chat_template.jinja", "additional_chat_templates/tools.jinja", "vocab.tiktoken",
    ],
)  # fmt: skip
def test_each_file_that_makes_a_model_changes_its_digest(tmp_path: Path, name: str) -> None:
    folder = make_model(tmp_path / "model")
    before = folder_digest(folder)
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("other")
    assert folder_digest(folder) != before


@pytest.mark.parametrize(
    "name",
    [
        "README.md", "LICENSE", "onnx/model.onnx", ".cache/x.json", "__pycache__/own.pyc",
        "ragft_card.json", "trained_on.json",
    ],
)  # fmt: skip
def test_what_changes_no_answer_is_no_part_of_a_model(tmp_path: Path, name: str) -> None:
    folder = make_model(tmp_path / ".cache" / "model")  # hidden are only its own parts
    before = folder_digest(folder)
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("text")
    assert folder_digest(folder) == before != folder_digest(tmp_path)


def test_a_model_saved_anew_is_another_one_in_the_same_process(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "model")
    before = resolve_weights(str(folder))
    assert resolve_weights(str(folder)) == before
    (folder / "model.safetensors").write_text("[]")  # as long as before
    assert resolve_weights(str(folder)).digest != before.digest


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the embedded embedder's package that goes before the installed one."""
    source = resolve_weights(MINILM).folder
    package = tmp_path / "site" / source.parent.name
    shutil.copytree(source, package / source.name)
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(package.parent))
    return package / source.name


def test_an_embedded_models_digest_covers_the_files_beside_its_weights(installed: Path) -> None:
    before = resolve_weights(MINILM)
    assert before.folder == installed
    config = json.loads((installed / "tokenizer_config.json").read_text())
    (installed / "tokenizer_config.json").write_text(json.dumps(config | {"do_lower_case": False}))
    assert resolve_weights(MINILM).digest != before.digest
    with (installed / "model.safetensors").open("ab") as file:
        file.write(b"x")
    with pytest.raises(RagftError, match="is not the published file"):
        resolve_weights(MINILM)


def test_a_gguf_file_is_the_whole_model() -> None:
    found = resolve_weights(SMOLLM)
    assert found.file is not None
    assert found.digest == file_sha256(found.file)


def test_an_embedded_model_is_used_for_what_it_is(tmp_path: Path) -> None:
    embedder, language = resolve_weights(MINILM), resolve_weights(SMOLLM)
    assert require_embedder(embedder) is embedder
    assert require_language_model(language) is language
    with pytest.raises(RagftError, match=f"^model '{SMOLLM}' is no embedder; give {MINILM} or"):
        require_embedder(language)
    with pytest.raises(RagftError, match=f"^model '{MINILM}' is no language model; give {SMOLLM}"):
        require_language_model(embedder)
    unknown = Weights("own", tmp_path, "digest")
    assert require_embedder(unknown) is require_language_model(unknown) is unknown


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache and no network, as the hub's own environment variables set them."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def cached_snapshot(hub_cache: Path) -> Path:
    repository = hub_cache / "models--team--own"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("a" * 40)
    return make_model(repository / "snapshots" / ("a" * 40))


def test_a_cached_model_is_found_without_a_network(hub_cache: Path) -> None:
    folder = cached_snapshot(hub_cache)
    found = resolve_weights("team/own")
    assert (found.folder, found.digest) == (folder, folder_digest(folder))


def test_a_cache_of_a_tokenizer_alone_is_no_model(hub_cache: Path) -> None:
    (cached_snapshot(hub_cache) / "model.safetensors").unlink()
    with pytest.raises(RagftError, match=r"^model 'team/own'.*fetch") as caught:
        resolve_weights("team/own")
    assert "\n" not in str(caught.value)
