"""An evaluation that follows a change finds what one from nothing finds.

More examples, drawn anew each time: ``RAGFT_EXAMPLES=100 pytest -m slow <this file>``.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, Phase, event, example, given, settings
from hypothesis import strategies as st

from ragft_pipeline.evaluation import choosing, pools, trial
from ragft_pipeline.evaluation.nodes import Nodes
from ragft_pipeline.evaluation.question_pools import KeptPools
from ragft_pipeline.evaluation.retrieval_eval import rows_of
from ragft_pipeline.evaluation.retrievers import Retriever
from ragft_pipeline.evaluation.second_stages import PairScores
from ragft_pipeline.evaluation.trial import Trial
from ragft_pipeline.retrieval import evidence
from ragft_pipeline.retrieval.encoder import normalise_rows
from ragft_pipeline.retrieval.evidence import LATE_INTERACTION
from ragft_pipeline.retrieval.question_sets import SERVED, QuestionSet
from ragft_pipeline.schemas import NODES
from ragft_pipeline.settings import Settings
from ragft_pipeline.store import ArtifactStore, Workspace

WORDS = [f"w{n}" for n in range(40)]
COMMON = "handbook"
WIDTH, DEPTH, QUESTIONS, GRID = 6, 8, 12, (0.0, 0.3, 1.0)


def _drawn(*seed: object) -> np.random.Generator:
    digest = hashlib.sha256(repr(seed).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big"))


class HashedSource:
    """Vectors that depend on a text alone."""

    def encode(self, questions: Sequence[str]) -> np.ndarray:
        return np.stack([_drawn(text).normal(size=WIDTH) for text in questions])

    def known(self, texts: Mapping[str, str], kind: str) -> np.ndarray:
        vectors = [_drawn(kind, text).normal(size=WIDTH) for text in texts.values()]
        return normalise_rows(np.array(vectors).reshape(-1, WIDTH))


class SharedWords:
    """A scorer that counts shared words."""

    identity = "shared words"

    def score(self, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
        return np.array([len(set(q.split()) & set(t.split())) for q, t in pairs], np.float32)


@dataclass(frozen=True)
class Page:
    """A document's title and passages."""

    title: str
    passages: tuple[str, ...]


Corpus = dict[str, Page]


def _passage(*seed: object) -> str:
    drawn = _drawn("passage", *seed)
    rank = np.minimum(drawn.zipf(1.3, size=int(drawn.integers(1, 9))), len(WORDS)) - 1
    return " ".join([f"id{seed!r}".replace(" ", ""), *(WORDS[at] for at in rank)])


def _page(*seed: object) -> Page:
    drawn = _drawn("page", *seed)
    title = " ".join([COMMON, *(WORDS[at] for at in drawn.integers(0, 12, size=2))])
    return Page(title, tuple(_passage(*seed, n) for n in range(int(drawn.integers(1, 7)))))


def _table(corpus: Corpus) -> pa.Table:
    rows = []
    for key, page in sorted(corpus.items()):
        start = 0
        for text in page.passages:
            node = hashlib.sha256(text.encode()).hexdigest()[:12]
            end = start + len(text)
            rows.append(
                {"node_id": node, "doc_key": key, "cluster": key, "split": "train",
                 "title": page.title, "heading_path": [], "text": text, "start_char": start,
                 "end_char": end, "tokens": 1}
            )  # fmt: skip
            start = end
    rows.sort(key=lambda row: (row["doc_key"], row["node_id"], row["start_char"]))
    return pa.Table.from_pylist(rows, schema=NODES.schema)


def _questions(nodes: Nodes) -> QuestionSet:
    """Return questions in words of the corpus; the first node in each answers."""
    ids = [f"q{n}" for n in range(QUESTIONS)]
    texts = [
        " ".join(WORDS[at] for at in _drawn("question", n).integers(0, 40, size=1 + n % 4))
        for n in range(QUESTIONS - 1)
    ]
    texts[0], texts[1] = f"{COMMON} {texts[0]}", f"what {COMMON}"  # in all titles
    texts.append("?!")
    judged = [{n % len(nodes): 1} for n in range(QUESTIONS)]
    return QuestionSet(SERVED, ids, texts, ids, [False] * QUESTIONS, judged)


def _evaluate(
    folder: Path, path: Path, given: Settings, kept: KeptPools | None
) -> tuple[pa.Table, Trial]:
    """Measure all systems and keep the pools; return the rows."""
    folder.mkdir()
    nodes = Nodes(path)
    work = Workspace(ArtifactStore(folder / "store"), "retrieval_eval", folder)
    read = pools.READ if given.passages.context == "on" else pools.PLAIN
    retrievers = [
        Retriever("base", pools.PLAIN, HashedSource()),
        Retriever("tuned_embedder", read, HashedSource()),
        Retriever("adapter", read, HashedSource(), vectors_of=pools.PLAIN),
    ]
    tried = Trial("released", nodes, retrievers, None, {}, given, work, kept)
    tried.late_interaction = PairScores(LATE_INTERACTION, SharedWords(), tried.texts, work)
    asked = _questions(nodes)
    systems = tried.measure(asked)
    prior = choosing.prior_choice(systems, systems[0].name)
    rows = pa.concat_tables(rows_of(tried, asked, systems, prior))
    tried.save()
    return rows, tried


CHANGE = st.tuples(
    st.sampled_from(("add", "edit", "remove", "copy", "retitle")),
    st.integers(0, 30),
    st.integers(0, 30),
)


EXAMPLES = int(os.environ.get("RAGFT_EXAMPLES", "10"))
OPTIONS: dict[str, Any] = {
    "derandomize": "RAGFT_EXAMPLES" not in os.environ,
    "deadline": None,
    "suppress_health_check": list(HealthCheck),
}
HISTORY: dict[str, Any] = {
    "first": st.integers(3, 60),
    "steps": st.lists(st.lists(CHANGE, min_size=1, max_size=2), min_size=1, max_size=4),
    "context": st.booleans(),
}


def _changed(corpus: Corpus, change: tuple[str, int, int], time: int) -> Corpus:
    kind, a, b = change
    key = sorted(corpus)[a % len(corpus)]
    page = corpus[key]
    if kind == "add":
        return corpus | {f"d{time}-{a}": _page(time, a, b)}
    if kind == "remove" and len(corpus) > 2:
        return {name: one for name, one in corpus.items() if name != key}
    if kind == "copy":
        return corpus | {f"c{time}-{a}": Page(page.title, page.passages[: 1 + b % 3])}
    if kind == "retitle":
        return corpus | {key: Page(_page(time, b).title, page.passages)}
    place = b % len(page.passages)
    passages = (*page.passages[:place], _passage(time, a, b), *page.passages[place + 1 :])
    return corpus | {key: Page(page.title, passages)}


@pytest.fixture(scope="module", autouse=True)
def _shallow() -> Any:
    """Rank few, so that small corpora have nodes outside of pools."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (trial, evidence):
            patch.setattr(module, "DEPTH", DEPTH)
        patch.setattr(trial, "Shape", partial(pools.Shape, depth=DEPTH, spare=4, whole=20))
        yield


@settings(phases=[Phase.explicit], **OPTIONS)
@given(**HISTORY)
@example(
    first=30, context=True,
    steps=[[("edit", 3, 2)], [("copy", 5, 1), ("retitle", 8, 2)], [("remove", 4, 0)]],
)  # fmt: skip
@example(first=4, steps=[[("add", 1, 1)], [("add", 2, 2), ("add", 3, 3)]], context=False)
def test_what_is_followed_equals_what_is_made_anew(**history: Any) -> None:
    check(**history)


@pytest.mark.slow
@settings(max_examples=EXAMPLES, **OPTIONS)
@given(**HISTORY)
def test_what_is_followed_equals_what_is_made_anew_in_more_histories(**history: Any) -> None:
    check(**history)


def check(first: int, steps: list[list[tuple[str, int, int]]], context: bool) -> None:
    base = Settings()
    given = base.model_copy(
        update={
            "passages": base.passages.model_copy(
                update={"context": "on" if context else "off", "language": "off"}
            ),
            "evaluation": base.evaluation.model_copy(update={"fusion_weights": GRID}),
        }
    )
    corpus = {f"p{n}": _page("first", n) for n in range(first)}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        before, kept = _table(corpus), None
        NODES.layout.write(before, folder / "nodes0")
        _evaluate(folder / "kept0", folder / "nodes0", given, None)
        for time, changes in enumerate(steps, 1):
            for change in changes:
                corpus = _changed(corpus, change, time)
            after = _table(corpus)
            path = folder / f"nodes{time}"
            NODES.layout.write(after, path)
            kept = KeptPools.of(folder / f"kept{time - 1}", "v1", before, after, given)
            found, tried = _evaluate(folder / f"kept{time}", path, given, kept)
            share = tried.work.counts["questions_followed"] * 4 // QUESTIONS
            pooled = "some" if len(tried.nodes) > 20 else "all"
            event(f"{share} of 4 questions followed, {pooled} pooled")
            anew, _ = _evaluate(folder / f"anew{time}", path, given, None)
            assert found.equals(anew)
            before = after


def test_questions_that_stand_are_followed(tmp_path: Path) -> None:
    given = Settings()
    given = given.model_copy(
        update={"passages": given.passages.model_copy(update={"context": "off"})}
    )
    corpus = {f"p{n}": _page("first", n) for n in range(200)}
    before = _table(corpus)
    NODES.layout.write(before, tmp_path / "before")
    _evaluate(tmp_path / "first", tmp_path / "before", given, None)
    after = _table(_changed(corpus, ("edit", 3, 1), 1))
    NODES.layout.write(after, tmp_path / "after")
    kept = KeptPools.of(tmp_path / "first", "v1", before, after, given)
    _, tried = _evaluate(tmp_path / "second", tmp_path / "after", given, kept)
    assert tried.work.counts["questions_searched"] <= 1
    assert tried.work.counts["questions_followed"] >= QUESTIONS - 1
