"""What is served follows the documents, the gate and the people: on a small finished project."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pyarrow.compute as pc
import pytest

from ragft_pipeline.errors import RagftError
from ragft_pipeline.lineage.steps import materialize
from ragft_pipeline.recipes import RECIPES, champion
from ragft_pipeline.release.housekeeping import kept_bundles, unused_bundles
from ragft_pipeline.release.promotion import promote, roll_back
from ragft_pipeline.retrieval.folds import folds_of
from ragft_pipeline.serving.bundle import BundleStore
from ragft_pipeline.serving.history import Entry, History
from ragft_pipeline.serving.live import Champion
from ragft_pipeline.serving.searcher import Searcher
from ragft_pipeline_tests.conftest import Project


def _bring_up_to_date(project: Project) -> Entry:
    version = project.snapshots.freeze(project.settings).version
    for recipe in RECIPES:
        materialize(recipe, project.settings, version)
    return History(project.store).require_current()


def _test_document(project: Project) -> Path:
    documents = project.artifact("corpus_snapshot").table()
    held_out = documents.filter(pc.equal(documents.column("split"), "test"))
    paths = [path for path in held_out.column("path").to_pylist() if path.endswith(".md")]
    return project.corpus / "docs" / sorted(paths)[0]


def test_the_documents_move_on_and_come_back(copied: Project) -> None:
    history, bundles = History(copied.store), BundleStore(copied.store)
    first = history.require_current()
    file = _test_document(copied)
    before = file.read_text(encoding="utf-8")
    sentence = "The zirconium sluice is opened at noon by the harbour pilot alone."
    file.write_text(f"{before}\n\n## The sluice\n\n{sentence}\n", encoding="utf-8")

    second = _bring_up_to_date(copied)
    assert second.event in ("refreshed", "kept"), second.why  # the questions may choose anew
    assert second.version != first.version
    assert bundles.load(second.bundle).measured == bundles.load(first.bundle).measured
    champion = Champion(copied.store)
    assert sentence in champion.searcher.search("who opens the zirconium sluice")[0].text
    assert _bring_up_to_date(copied) == second, "a second run decides nothing"

    file.write_text(before, encoding="utf-8")
    third = _bring_up_to_date(copied)
    assert (third.version, third.bundle) == (first.version, first.bundle)
    assert all(
        sentence not in hit.text
        for hit in champion.searcher.search("who opens the zirconium sluice")
    ), "a running searcher follows the pointer"

    assert roll_back(copied.store, "", copied.settings).bundle == second.bundle
    forced = promote(copied.store, first.version, True, "we like it", copied.settings)
    assert (forced.event, forced.why) == ("forced", "we like it")
    with pytest.raises(RagftError, match="is served already"):
        promote(copied.store, first.version, True, "", copied.settings)


def test_a_damaged_bundle_is_not_gone_back_to(copied: Project) -> None:
    history = History(copied.store)
    first = history.require_current()
    bundle = BundleStore(copied.store).load(first.bundle)
    nodes = next((bundle.folder / "nodes.parquet").iterdir())
    history.append(first, "forced", "another", first.version, "a test")
    nodes.write_bytes(nodes.read_bytes()[:-1] + b"?")
    with pytest.raises(RagftError, match="was changed"):
        roll_back(copied.store, "", copied.settings)
    assert history.require_current().bundle == "another"


def test_an_old_version_gets_a_bundle_and_no_decision(copied: Project) -> None:
    old = copied.snapshots.versions()[-1]
    file = _test_document(copied)
    file.write_text(file.read_text(encoding="utf-8") + "\n\nOne more line.\n", encoding="utf-8")
    copied.snapshots.freeze(copied.settings)
    link = copied.store.linked(old, "champion")
    assert link is not None
    shutil.rmtree(copied.store.artifact_path("champion", link.action))
    before = len(History(copied.store).entries())
    made = materialize(champion, copied.settings, old).artifact
    assert made.facts["event"] == "none"
    assert len(History(copied.store).entries()) == before


def test_clean_up_keeps_what_may_be_served_again(copied: Project) -> None:
    store = copied.store
    served = BundleStore(store).load(History(store).require_current().bundle)
    stray = served.folder.with_name("0" * 32)
    stray.mkdir()
    for folder in (stray, served.folder):
        os.utime(folder, (0, 0))
    kept = kept_bundles(store, [])
    assert [item.path for item in unused_bundles(store, kept)] == [stray]


def test_the_searcher_gives_the_nodes_that_were_evaluated(finished: Project) -> None:
    entry = History(finished.store).require_current()
    searcher = Searcher(BundleStore(finished.store).load(entry.bundle))
    rows = finished.artifact("retrieval_eval").table()
    rows = rows.filter(pc.equal(rows.column("question_set"), "as_served"))
    own = rows.filter(pc.equal(rows.column("system"), searcher.configuration.name)).to_pylist()
    folds, weight = searcher.configuration.folds, searcher.configuration.dense_weight
    asked_alike = [
        row for row in own if folds[str(folds_of([row["cluster"]])[0])] == weight
    ]  # the others were asked with the weight of their fold
    assert len(asked_alike) >= 5
    for row in asked_alike[:10]:
        assert [hit.node_id for hit in searcher.search(row["question"])] == row["top_nodes"]


def test_another_base_model_is_refused(copied: Project) -> None:
    folder = BundleStore(copied.store).load(History(copied.store).require_current().bundle).folder
    manifest = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))
    manifest["identities"]["query"] = "0" * 64
    (folder / "bundle.json").write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(RagftError, match="not of the query encoder"):
        Champion(copied.store)
