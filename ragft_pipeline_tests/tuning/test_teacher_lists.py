"""The teacher's lists follow a change: kept, read again and followed, they teach the same."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from ragft_pipeline import schemas
from ragft_pipeline.retrieval.lexical import TermStatistics
from ragft_pipeline.settings import Settings
from ragft_pipeline.store import Artifact, ArtifactStore, Workspace
from ragft_pipeline.store.segments import digest_in
from ragft_pipeline.tuning.data import Questions
from ragft_pipeline.tuning.followed_lists import FirstLook, KeptLists
from ragft_pipeline.tuning.teacher import judged, teacher_look
from ragft_pipeline.tuning.teacher_lists import LISTS, read_scores
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
    return teacher_look(lambda _: texts, STATISTICS, 0.5, settings, work, kept)


def taught(one: FirstLook, asked: Questions) -> pa.Table:
    lists = one.lists(asked)
    table = judged(one, asked, lists[0])
    one.save(lists)
    schemas.TEACHER_SCORES.keyed.write(table, one.work.folder / "teacher_scores.parquet")
    return read_scores(artifact_at(one.work.folder))


def artifact_at(place: Path) -> Artifact:
    return Artifact("teacher_scores", "", str(place), place, "", {}, {})


def kept_at(place: Path, before: list[str], now: list[str]) -> KeptLists:
    gone, came = ({n: TEXTS[n] for n in a if n not in b} for a, b in ((before, now), (now, before)))
    kept = KeptLists.load(place, LISTS, gone, came)
    assert kept is not None
    return kept


def test_lists_that_were_kept_teach_what_a_search_of_all_teaches(tmp_path: Path) -> None:
    place, before = tmp_path / "first", NAMES[:40]
    taught(look(place, before), questions_about(before))
    kept = kept_at(place, before, before)
    assert kept.stand(questions_about(before), [0.5])
    assert not kept.stand(questions_about(before), [0.25])
    parts, searched = [], 0
    for number, now in enumerate((NAMES[:39], NAMES[1:41], NAMES[2:], NAMES[2:42], NAMES[2:41])):
        kept, asked = kept_at(place, before, now), questions_about(now)
        follower = look(tmp_path / f"followed{number}", now, kept)
        follower.work.inherit(place)
        whole = taught(look(tmp_path / f"whole{number}", now), asked)
        assert taught(follower, asked).equals(whole)
        counts = follower.work.counts
        assert counts["questions_followed"] + counts["questions_searched"] == len(asked)
        assert counts["questions_followed"] > 5
        searched += counts["questions_searched"]
        place, before = tmp_path / f"followed{number}", now
        held = kept_at(place, now, now)
        assert held.languages == kept_at(tmp_path / f"whole{number}", now, now).languages
        files = {part.entries for part in held.lists[0].parts}
        assert files == {file for file in place.glob(f"{LISTS}.*.parquet") if digest_in(file.name)}
        parts.append(len(files))
    assert searched > 1
    assert max(parts) > 1
    assert 1 in parts  # what grew was made one


def test_only_what_changed_is_written(tmp_path: Path) -> None:
    before, now = NAMES[:40], NAMES[:39]
    taught(look(tmp_path / "first", before), questions_about(before))
    follower = look(tmp_path / "second", now, kept_at(tmp_path / "first", before, now))
    follower.work.inherit(tmp_path / "first")
    [lists] = follower.lists(questions_about(before))
    table = judged(follower, questions_about(before), lists)
    first, *_, last = lists.parts
    assert last.gone == NAMES[39:40]
    assert last.size < first.size / 4
    held = table.column("node_ids").is_valid().to_pylist()
    assert held[:4] == [True] * 4  # looked at again
    assert sum(held) < len(held)
