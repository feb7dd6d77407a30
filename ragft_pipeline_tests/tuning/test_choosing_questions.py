"""What chooses is scored by lists that follow a change as by a search of all nodes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from ragft_pipeline import schemas
from ragft_pipeline.retrieval.lexical import TermStatistics
from ragft_pipeline.settings import Settings
from ragft_pipeline.store import ArtifactStore, Workspace
from ragft_pipeline.tuning.choosing_questions import DEPTH, ChoosingQuestions
from ragft_pipeline.tuning.followed_lists import FirstLook, KeptLists
from ragft_pipeline.tuning.teacher_weight import WEIGHTS
from ragft_pipeline_tests.corpora import prose

TEXTS = {f"{n:032x}": f"{prose(n, 12)} {prose(n % 4, 4)}" for n in range(90)}
NAMES = list(TEXTS)
STATISTICS = TermStatistics.of(TEXTS.values())
GOLD = schemas.GOLD_QUESTIONS.schema.empty_table()


def nodes_of(names: list[str]) -> pa.Table:
    rows = [
        {"node_id": name, "doc_key": name, "text": TEXTS[name], "start_char": 0, "end_char": 99}
        for name in names
    ]
    return pa.Table.from_pylist(rows, schema=schemas.NODES.schema)


def asked_about(names: list[str]) -> ChoosingQuestions:
    rows = [
        {
            "question_id": name[-4:], "question": " ".join(TEXTS[name].split()[1:3]),
            "kind": "heading", "node_id": name, "doc_key": name, "cluster": name,
            "answer_start": 0, "answer_end": 9,
        }
        for name in names[:40]
    ]  # fmt: skip
    pairs = pa.Table.from_pylist(rows, schema=schemas.QA_PAIRS.schema)
    return ChoosingQuestions.of(GOLD, pairs, nodes_of(names))


def scores(folder: Path, names: list[str], before: tuple[Path, list[str]] | None) -> np.ndarray:
    folder.mkdir()
    work = Workspace(ArtifactStore(folder), "teacher_scores", folder)
    kept = None
    if before is not None:
        place, earlier = before
        work.inherit(place)
        gone, came = (
            {name: TEXTS[name] for name in one if name not in other}
            for one, other in ((earlier, names), (names, earlier))
        )
        kept = KeptLists.load(place, "weight", gone, came)
        assert kept is not None
    texts = {name: TEXTS[name] for name in sorted(names)}
    settings = Settings(store=str(folder))
    look = FirstLook(lambda _: texts, STATISTICS, WEIGHTS, DEPTH, settings, work, "weight", kept)
    found = np.array(asked_about(names).scores(look))
    assert kept is None or 20 < work.counts["questions_followed"] < 40
    return found


def test_scores_follow_a_change(tmp_path: Path) -> None:
    before = NAMES[:80]
    scores(tmp_path / "0", before, None)
    place = tmp_path / "0"
    for number, now in enumerate((NAMES[:79], NAMES[2:82], NAMES[1:]), 1):
        followed = scores(tmp_path / f"{number}", now, (place, before))
        whole = scores(tmp_path / f"whole{number}", now, None)
        np.testing.assert_array_equal(followed, whole)
        assert len(set(followed.mean(axis=1))) > 1  # the weights differ
        place, before = tmp_path / f"{number}", now


def test_documents_that_nobody_asks_about_are_not_looked_up() -> None:
    choosing = asked_about(NAMES)
    assert choosing.node_ids == NAMES[:40]
    assert choosing.questions.relevant[3] == {3}
