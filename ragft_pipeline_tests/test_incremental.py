"""Random histories of a corpus: what is computed step by step equals a rebuild from nothing.

More examples, drawn anew each time: ``RAGFT_EXAMPLES=100 pytest -m slow <this file>``.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, assume, event, example, given, settings
from hypothesis import strategies as st

from benchmarks.scale_stage import EVALUATION
from ragft_pipeline import schemas
from ragft_pipeline.corpus.snapshots import SnapshotStore
from ragft_pipeline.corpus.splitting import Splitter
from ragft_pipeline.lineage.steps import materialize
from ragft_pipeline.questions import pairs
from ragft_pipeline.recipes import RECIPES, SPLITS
from ragft_pipeline.retrieval import encoder
from ragft_pipeline.schemas import EVAL_ROWS
from ragft_pipeline.settings import Settings
from ragft_pipeline.store import ArtifactStore
from ragft_pipeline.tuning.teacher_lists import read_scores
from ragft_pipeline.versions.staleness import FRESH, states
from ragft_pipeline_tests.changing_corpus import NUMBER, STEPS, Change, first_docs
from ragft_pipeline_tests.corpora import settings_for, write_corpus
from ragft_pipeline_tests.equality import assert_same_rows, assert_same_version
from ragft_pipeline_tests.questions.openai_server import OpenAIServer, Request, Step, say, serving
from ragft_pipeline_tests.short_model import short_embedder

EXAMPLES = int(os.environ.get("RAGFT_EXAMPLES", "3"))
OPTIONS: dict[str, Any] = {
    "derandomize": "RAGFT_EXAMPLES" not in os.environ,
    "deadline": None,
    "suppress_health_check": list(HealthCheck),
}
HISTORY: dict[str, Any] = {
    "steps": STEPS,
    "share": st.sampled_from([0.1, 0.9]),
    "earlier": NUMBER,
    "backwards": st.booleans(),
}
BY_NAME = {recipe.name: recipe for recipe in RECIPES}
DATA = RECIPES[: [recipe.name for recipe in RECIPES].index("router_questions") + 1]
MODELS = tuple(BY_NAME[name] for name in ("tuned_embedder", "embedding_adapter", "reranker"))
TRAINING = ("train_nodes", "corpus_statistics", "train_qa_pairs", "teacher_scores")
SMALL = """
embedder: {{model: {embedder}}}
chunking: {{size: 64, overlap: 8}}
statistics: {{refresh_share: {share}}}
teacher: {{depth: 8}}
questions:
  round_trip_top_k: 3
  generators:
    - kind: extractive
    - {{kind: llm, model: scripted, base_url: "{url}", share_of_nodes: 0.5}}
"""


@dataclass
class Work:
    """What was really computed: documents cut, texts encoded, nodes asked about."""

    done: Counter[Any] = field(default_factory=Counter)
    url: str = ""

    def repeated(self) -> list[Any]:
        return [what for what, times in self.done.items() if times > 1]


@pytest.fixture(scope="module")
def work() -> Iterator[Work]:
    """Record the real parts at work; the model is loaded once, and questions come by HTTP."""
    seen = Work()
    cut, encode, extract = Splitter.cut, encoder.Encoder.encode, pairs.extract_questions

    def cut_once(self: Splitter, text: str, markdown: bool) -> Any:
        seen.done["cut", text, markdown] += 1
        return cut(self, text, markdown)

    def encode_once(self: encoder.Encoder, texts: Any, kind: Any, *rest: Any) -> Any:
        seen.done.update(("encode", kind, text) for text in texts)
        return encode(self, texts, kind, *rest)

    def extract_once(node: Any, options: Any, statistics: Any) -> Any:
        frequency = tuple(sorted(statistics.document_frequency.items()))
        seen.done["extract", node, frequency, statistics.nodes] += 1
        return extract(node, options, statistics)

    def answer(request: Request) -> Step:
        seen.done["ask", request.prompt] += 1
        words = re.findall(r"[a-z]{5,}", request.prompt.split("\n\nAsk ")[0].lower())
        picked = words[:: max(1, len(words) // 6)]
        return say(f"What of the {' and '.join(picked[:3])}?\nWhy {' '.join(picked[3:6])}?")

    with pytest.MonkeyPatch.context() as patch, serving() as server:
        patch.setattr(
            encoder, "load_sentence_transformer", lru_cache(encoder.load_sentence_transformer)
        )
        patch.setattr(Splitter, "cut", cut_once)
        patch.setattr(encoder.Encoder, "encode", encode_once)
        patch.setattr(pairs, "extract_questions", extract_once)
        patch.setattr(OpenAIServer, "enter", lambda self, request: answer(request))
        patch.setattr(OpenAIServer, "leave", lambda self: None)
        patch.setenv("OPENAI_API_KEY", "none")
        seen.url = server.url
        yield seen


class History:
    """A corpus that changes, and the store that follows it."""

    def __init__(self, folder: Path, work: Work, share: float = 0.9) -> None:
        self.folder, self.work = folder, work
        self.extra = SMALL.format(share=share, url=work.url, embedder=short_embedder())
        self.docs, self.past = first_docs(), [first_docs()]
        self.store = ArtifactStore(folder / "store")
        self.snapshots = SnapshotStore(self.store)
        self.settings = self.settings_of(self.store)
        self.complete: set[str] = set()
        self.held: dict[str, set[Any]] = {}
        self.cut_offs: list[str] = []
        self.version = ""
        questions = [
            {"question": f"what about {doc.title}?", "doc": path, "answer_text": doc.sentences[1]}
            for path, doc in self.docs.items()
        ]
        gold = "\n".join(json.dumps(line) for line in questions)
        write_corpus(self.folder / "corpus", {"queries.jsonl": gold})
        work.done.clear()

    def settings_of(self, store: ArtifactStore) -> Settings:
        return settings_for(self.folder / "corpus", store.root, self.extra)

    def held_out(self) -> list[str]:
        rows = self.snapshots.load(self.version).table(schemas.DOCUMENTS).to_pylist()
        return sorted(row["path"] for row in rows if row["split"] == "test")

    def step(self, changes: list[Change], materialized: bool = True) -> str:
        """Change the documents, freeze them, and bring the version up to date if asked to."""
        for change in changes:
            self.docs = change(self.docs, self.past, self.held_out())
        self.past.append(self.docs)
        shutil.rmtree(self.folder / "corpus" / "docs", ignore_errors=True)
        write_corpus(self.folder / "corpus/docs", {p: doc.text for p, doc in self.docs.items()})
        before, self.version = self.version, self.snapshots.freeze(self.settings).version
        documents = self.snapshots.load(self.version).table(schemas.DOCUMENTS)
        assume("train" in documents.column("split").to_pylist())  # else it is refused, rightly
        if materialized:
            self.materialize(self.version)
            if before in self.complete:
                self.check_cut_offs(before, self.version)
        return self.version

    def materialize(self, version: str) -> None:
        known = version in self.complete
        if known:
            found = states(version, self.snapshots, self.settings)
            assert {found[recipe.name] for recipe in DATA} <= set(FRESH), found
        count = self.work.done.total()
        how = {r.name: materialize(r, self.settings, version).link.how for r in DATA}
        if known:
            assert set(how.values()) == {"reused"}
            assert self.work.done.total() == count
        self.complete.add(version)
        self.check_no_traces(version)

    def column(self, version: str, asset: str, name: str) -> set[Any]:
        return set(self.store.read(version, asset).table().column(name).to_pylist())

    def data_versions(self, version: str, *assets: str) -> dict[str, str]:
        return {name: self.store.read(version, name).data_version for name in assets}

    def actions(self, version: str) -> dict[str, str]:
        """Return the action keys of the models."""
        snapshot = self.snapshots.load(version)
        return {
            r.name: r.action(self.settings, self.data_versions(version, *r.inputs), snapshot)
            for r in MODELS
        }

    def check_no_traces(self, version: str) -> None:
        """Nothing is left of documents that the version does not have, and nothing leaks."""
        documents = self.snapshots.load(version).table(schemas.DOCUMENTS).to_pylist()
        present = {row["doc_key"] for row in documents}
        for recipe in DATA:
            if recipe.table is not None and "doc_key" in recipe.table.schema.names:
                assert self.column(version, recipe.name, "doc_key") <= present, recipe.name
        nodes = {split: self.column(version, f"{split}_nodes", "node_id") for split in SPLITS}
        for split in SPLITS:
            assert self.column(version, f"{split}_qa_pairs", "node_id") <= nodes[split]
        self.held[version] = nodes["val"] | nodes["test"]
        chain = self.snapshots.versions()
        for name in chain[: chain.index(version) + 1]:  # what was once held out never trains
            assert not nodes["train"] & self.held.get(name, set())
        everything = set().union(*nodes.values())
        assert everything == self.column(version, "chunked_nodes", "node_id")
        assert everything == self.column(version, "node_embeddings", "text_id")
        asked = self.column(version, "train_qa_pairs", "question_id")
        assert self.column(version, "teacher_scores", "question_id") == asked
        scored = (
            read_scores(self.store.read(version, "teacher_scores")).column("node_ids").to_pylist()
        )
        assert {node for row in scored for node in row} <= nodes["train"]

    def check_cut_offs(self, before: str, after: str) -> None:
        """What did not change upstream keeps its data version downstream."""
        if self.snapshots.load(after).facts["parent"] != before:
            return
        old, new = self.places(before), self.places(after)
        if old == new:
            self.cut_offs.append("the same texts elsewhere")
            assert self.data_versions(before, "chunked_nodes") == self.data_versions(
                after, "chunked_nodes"
            )
        held_out = {
            split: self.column(after, f"{split}_nodes", "node_id") for split in ("val", "test")
        }
        train = self.column(before, "train_nodes", "node_id")
        if old["train"] == new["train"] and not train & (held_out["val"] | held_out["test"]):
            self.cut_offs.append("the same train documents")
            assert self.data_versions(before, *TRAINING) == self.data_versions(after, *TRAINING)
            val = self.column(before, "val_nodes", "node_id")
            if old["val"] == new["val"] and not val & held_out["test"]:
                self.cut_offs.append("the same train and val documents")
                assert self.actions(before) == self.actions(after)

    def places(self, version: str) -> dict[str, set[tuple[Any, ...]]]:
        """Return, by split, what of a version's documents can reach their nodes."""
        rows = self.snapshots.load(version).table(schemas.DOCUMENTS).sort_by("path").to_pylist()
        first = {row["doc_key"]: row for row in reversed(rows)}.values()
        return {
            split: {
                (row["doc_key"], row["markdown"], row["cluster"])
                for row in first
                if row["split"] == split
            }
            for split in SPLITS
        }

    def rebuild(self, versions: list[str]) -> ArtifactStore:
        """Materialize versions, in this order, in a store that holds frozen documents alone."""
        store = ArtifactStore(self.folder / "rebuilt")
        for name in ("snapshots", "blobs"):
            shutil.copytree(self.store.root / name, store.root / name)
        for version in versions:
            for recipe in DATA:
                materialize(recipe, self.settings_of(store), version)
        return store


@settings(phases=[Phase.explicit], **OPTIONS)
@given(**HISTORY)
@example(
    steps=[
        ([Change("copy", 1, 1), Change("move", 2, 0, 3)], True),
        ([Change("edit", 3, 2, 9), Change("delete", 0)], False),
        ([Change("rename", 4, 0, 4), Change("add", 1, 2, 8), Change("retitle", 3, 0, 7)], True),
        ([Change("revert", 0)], True),
        ([Change("move", 5, 1, 1)], True),
    ],
    share=0.9, earlier=2, backwards=True,
)  # fmt: skip
def test_incremental_equals_a_rebuild(work: Work, **history: Any) -> None:
    check(work, **history)


@pytest.mark.slow
@settings(max_examples=EXAMPLES, **OPTIONS)
@given(**HISTORY)
def test_incremental_equals_a_rebuild_in_more_histories(work: Work, **history: Any) -> None:
    check(work, **history)


def check(
    work: Work, steps: list[tuple[list[Change], bool]], share: float, earlier: int, backwards: bool
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        history = History(Path(folder), work, share)
        history.step([])
        for changes, materialized in steps:
            history.step(changes, materialized)
        for name in history.cut_offs:
            event(name)
        frozen = history.snapshots.versions()
        versions = [history.version, frozen[earlier % len(frozen)]]
        for version in versions:  # what was left out is caught up with, out of order
            history.materialize(version)
        assert work.repeated() == []  # each text was cut, encoded and asked about once
        rebuilt = history.rebuild(versions[::-1] if backwards else versions)
        for version in versions:
            assert_same_version(history.store, rebuilt, version, DATA)


def check_that_an_evaluation_follows(history: History, before: str, after: str) -> None:
    """What follows an earlier version's evaluation is what is made from nothing."""
    materialize(EVALUATION, history.settings, before)
    followed = materialize(EVALUATION, history.settings, after)
    assert followed.link.facts["questions_followed"] > 0
    assert followed.link.facts["nodes"] == len(history.column(after, "chunked_nodes", "node_id"))
    found = followed.artifact.table()
    shutil.rmtree(history.store.root / "artifacts" / EVALUATION.name)
    anew = materialize(EVALUATION, history.settings, after)
    assert anew.link.facts["questions_followed"] == 0
    assert_same_rows(EVAL_ROWS, found, anew.artifact.table(), EVALUATION.name)


def test_cut_offs(work: Work, tmp_path: Path) -> None:
    history = History(tmp_path, work)
    first = history.step([])
    everything = [recipe.name for recipe in DATA]
    edited = history.step([Change("edit_test")])
    old, new = (history.data_versions(version, *everything) for version in (first, edited))
    changed = {name for name in everything if old[name] != new[name]}
    assert {"corpus_snapshot", "chunked_nodes", "test_nodes", "test_qa_pairs"} <= changed
    assert not changed & {*TRAINING, "val_nodes", "val_qa_pairs"}
    assert history.actions(first) == history.actions(edited)

    count = work.done.total()
    renamed = history.step([Change("rename", 1, 1, 1)])
    assert renamed != edited
    nodes = everything[1:5]
    assert history.data_versions(renamed, *nodes) == history.data_versions(edited, *nodes)
    assert work.done.total() == count

    train = [p for p in sorted(history.docs) if p not in history.held_out()]
    deleted = history.step([Change("delete", sorted(history.docs).index(train[0]))])
    assert deleted != renamed
    check_that_an_evaluation_follows(history, renamed, deleted)
    assert history.step([Change("revert", 0)]) == first  # checked to be fresh, and to do nothing
