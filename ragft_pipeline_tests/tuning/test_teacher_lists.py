"""The teacher's lists follow a change: kept, read again and followed, they teach the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from ragft_pipeline import schemas
from ragft_pipeline.retrieval.lexical import TermStatistics
from ragft_pipeline.settings import Settings
from ragft_pipeline.store import Artifact, ArtifactStore, Workspace
from ragft_pipeline.tuning.data import Questions
from ragft_pipeline.tuning.teacher import judged
from ragft_pipeline.tuning.teacher_lists import FirstLook, KeptLists
from ragft_pipeline_tests.corpora import prose

TEXTS = {f"{n:032x}": f"{prose(n, 12)} {prose(n % 5, 6)}" for n in range(48)}
NAMES = list(TEXTS)
STATISTICS = TermStatistics.of(TEXTS.values())


def questions_about(nodes: list[str]) -> Questions:
    """One a node, one that two nodes answer, and one that nobody labelled."""
    own = [*nodes[:20], nodes[3], nodes[30], ""]
    texts = [" ".join(TEXTS[node].split()[2:6]) for node in own[:20]] + ["twice", "twice", "asked"]
    ids = [f"q{node[-2:]}" for node in own[:20]] + [f"r{own[20][-2:]}", f"s{own[21][-2:]}", "t"]
    return Questions(ids, texts, own)


def look(folder: Path, nodes: list[str], kept: KeptLists | None = None) -> FirstLook:
    folder.mkdir(parents=True, exist_ok=True)
    settings = Settings(
        store=str(folder),
        teacher={"depth": 10, "late_questions": 4, "late_interaction": 0.6},
    )
    work = Workspace(ArtifactStore(folder), "teacher_scores", folder)
    texts = {node: TEXTS[node] for node in sorted(nodes)}
    return FirstLook(lambda: texts, STATISTICS, 0.5, settings, work, kept)


def taught(one: FirstLook, asked: Questions) -> pa.Table:
    lists = one.lists(asked)
    table, as_listed = judged(one, asked, lists)
    one.save(lists, as_listed, len(table.column("node_ids")[0]))
    schemas.TEACHER_SCORES.keyed.write(table, one.work.folder / "teacher_scores.parquet")
    return table


def test_lists_that_were_kept_teach_what_a_search_of_all_teaches(tmp_path: Path) -> None:
    before, now = NAMES[:44], NAMES[2:]
    first = look(tmp_path / "first", before)
    taught(first, questions_about(before))
    place = tmp_path / "first"
    artifact = Artifact("teacher_scores", "", str(place), place, "", {}, {})
    kept = KeptLists.load(artifact, {}, {})
    assert kept is not None
    assert kept.stand(questions_about(before), 0.5)
    assert not kept.stand(questions_about(before), 0.25)
    gone = {node: TEXTS[node] for node in before if node not in now}
    came = {node: TEXTS[node] for node in now if node not in before}
    asked = questions_about(now)
    follower = look(tmp_path / "followed", now, KeptLists.load(artifact, gone, came))
    followed, whole = taught(follower, asked), taught(look(tmp_path / "whole", now), asked)
    assert followed.equals(whole)
    counts = follower.work.counts
    assert counts["questions_followed"] + counts["questions_searched"] == len(asked)
    assert counts["questions_followed"] > 5
    assert counts["questions_searched"] > 1
    ours, theirs = (
        KeptLists.load(Artifact("teacher_scores", "", "", tmp_path / name, "", {}, {}), {}, {})
        for name in ("followed", "whole")
    )
    assert ours is not None
    assert theirs is not None
    assert ours.languages == theirs.languages
    for name in ("bounds", "having", "asking", "answer_scores"):
        one, other = (getattr(kept.lists, name) for kept in (ours, theirs))
        np.testing.assert_array_equal(one, other, err_msg=name)
    one, other = (kept.lists.names.take(pa.array(kept.lists.answers)) for kept in (ours, theirs))
    assert one.equals(other)
