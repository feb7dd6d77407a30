"""benchmarks.gpu runs to its end without a GPU, so that a card that is lent for minutes can."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import gpu, results_file
from benchmarks.gpu_bench import SAME_RANKING
from ragft_pipeline_tests.short_model import short_language_model

WANTED = {
    "encoding, document", "encoding, query", "token vectors", "MaxSim", "maps of both sides",
    "towers", "towers, accumulated", "towers, resumed", "cross-encoder, scoring",
    "cross-encoder, training", "LoRA", "LoRA, packed", "answering",
}  # fmt: skip


@pytest.mark.slow
def test_every_stage_is_compared_and_timed_on_a_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(results_file, "RESULTS", tmp_path)
    wanted = ["--device", "cpu", "--minutes", "60"]  # however busy the machine is
    code = gpu.main([*wanted, "--language-model", str(short_language_model())])
    printed = capsys.readouterr()
    assert "failed" not in printed.out, printed.err
    assert "4 bits: an NVIDIA GPU with bitsandbytes" in printed.out  # says what is missing
    saved = json.loads((tmp_path / "gpu.json").read_text(encoding="utf-8"))
    figures = {name.removeprefix("cpu/"): one["value"] for name, one in saved["figures"].items()}
    assert {name.split("/")[0] for name in figures} >= WANTED
    for name, value in figures.items():
        assert not name.endswith("/error") or 0 <= value < 0.1, name
        assert not name.endswith("float32/ndcg_apart") or value <= SAME_RANKING, name
        assert not name.endswith("/rate") or value > 0, name
    assert code == int(bool(saved["shortfalls"]))
    assert not [line for line in saved["shortfalls"] if "float32" in line]
