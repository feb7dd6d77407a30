"""What a person meets in Dagster first: no dialog, groups of the lineage, the top of a page."""

from __future__ import annotations

from graphlib import TopologicalSorter
from pathlib import Path

import dagster as dg
import pytest
import yaml

from ragft_pipeline import Corpus
from ragft_pipeline.defs.policy import run_metadata
from ragft_pipeline.defs.running import open_instance
from ragft_pipeline.lineage.steps import Outcome
from ragft_pipeline.settings import Settings
from ragft_pipeline.store.artifacts import Artifact, Link
from ragft_pipeline_tests.conftest import ROOT


def test_no_two_groups_read_each_other() -> None:
    graph = Corpus(settings_file="").definitions().resolve_asset_graph()
    reads: dict[str, set[str]] = {}
    for key in graph.get_all_asset_keys():
        node = graph.get(key)
        above = {graph.get(parent).group_name for parent in node.parent_keys}
        reads.setdefault(node.group_name, set()).update(above - {node.group_name})
    order = list(TopologicalSorter(reads).static_order())
    assert order[0] == "corpus"
    assert order.index("models") < order.index("evaluation") < order.index("release")


def test_decision_and_ladder_stand_above_all_numbers(tmp_path: Path) -> None:
    facts = {
        "answering": "keep base",
        "ladder": "||system|\n|--|--|",
        "base": 0.5,
        "verdict": "Use",
    }
    artifact = Artifact("eval_report", "key", str(tmp_path), tmp_path, "d", facts, {})
    link = Link("eval_report", "v0001", "key", "d", "computed", 1.0)
    metadata = run_metadata(Outcome(artifact, link))
    assert list(metadata)[:4] == [
        "ragft/verdict", "ragft/ladder", "ragft/answering", "ragft/base",
    ]  # fmt: skip
    assert isinstance(metadata["ragft/ladder"], dg.MarkdownMetadataValue)


def test_no_dialog_greets_a_new_browser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for file in (ROOT / "dagster.yaml", ROOT / "deploy" / "dagster.yaml"):
        assert yaml.safe_load(file.read_text(encoding="utf-8"))["nux"] == {"enabled": False}
    monkeypatch.chdir(tmp_path)  # where there is no file to copy
    monkeypatch.setenv("DAGSTER_HOME", "")
    with open_instance(Settings(store=str(tmp_path / "store"))) as instance:
        assert (instance.nux_enabled, instance.telemetry_enabled) == (False, False)
