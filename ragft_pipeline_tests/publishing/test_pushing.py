"""`ragft push`: private, with its card, and what comes back is what went up."""

from __future__ import annotations

from pathlib import Path

import pytest

from ragft_pipeline.errors import RagftError
from ragft_pipeline.publishing.pushing import push
from ragft_pipeline.settings import ComputeSettings, EmbedderSettings, Settings
from ragft_pipeline.store import ArtifactStore
from ragft_pipeline_tests.publishing.loopback import hub_server
from ragft_pipeline_tests.publishing.tiny_embedder import tiny_embedder
from ragft_pipeline_tests.serving.conftest import PUMP, make_bundle


def test_a_push_is_private_keeps_the_card_and_is_read_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    model = tiny_embedder(tmp_path / "model")
    settings = Settings(embedder=EmbedderSettings(model=str(model), query_prompt="query: "))
    bundle = make_bundle(ArtifactStore(tmp_path / "store"), "pump", PUMP, settings=settings)
    compute = ComputeSettings()
    with hub_server() as hub:
        with pytest.raises(RagftError, match="HUB_TOKEN, which is not set"):
            push(bundle, "team/handbook", compute, hub.address, "HUB_TOKEN")
        monkeypatch.setenv("HUB_TOKEN", "wrong")
        with pytest.raises(RagftError, match=r"^hub http://127") as refused:
            push(bundle, "team/handbook", compute, hub.address, "HUB_TOKEN")
        assert "wrong" not in str(refused.value)

        monkeypatch.setenv("HUB_TOKEN", hub.token)
        address = push(bundle, "team/handbook", compute, hub.address, "HUB_TOKEN")

        assert address == f"{hub.address}/team/handbook"
        assert hub.private["team/handbook"]
        files = hub.files["team/handbook"]
        assert bundle.digest.encode() in files["README.md"]
        assert "modules.json" in files
        assert "2_Dense/model.safetensors" in files

        files["README.md"] = b"# Ours, written by hand"
        push(bundle, "team/handbook", compute, hub.address, "HUB_TOKEN")
        assert files["README.md"] == b"# Ours, written by hand"

        hub.mangle = lambda name, data: data[:-1] if name == "modules.json" else data
        with pytest.raises(RagftError):
            push(bundle, "team/handbook", compute, hub.address, "HUB_TOKEN")
