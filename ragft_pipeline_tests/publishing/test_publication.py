"""Generations in real stores: the difference alone, one switch, back again, and after failures."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from llama_index.core.vector_stores import MetadataFilter, MetadataFilters

from ragft_pipeline.errors import RagftError, TransientError
from ragft_pipeline.publishing.content import Content
from ragft_pipeline.publishing.planning import plan
from ragft_pipeline.publishing.publication import Published, publish
from ragft_pipeline.publishing.target import Target
from ragft_pipeline_tests.publishing.made import asker, content, vectors_of
from ragft_pipeline_tests.publishing.stores import opened

P20 = MetadataFilter(key="product", value="P20")


def published(target: Target, made: Content) -> Published:
    embedder, width = made.about.embedder.split("-")
    return publish(target, made, asker(embedder, int(width)))


def never(texts: Sequence[str]) -> np.ndarray:
    raise AssertionError("nothing is to be embedded")


def held(target: Target) -> set[str]:
    """Return the texts that a question to the live generation can find."""
    live = target.state().require_live(target.collection)
    asked = vectors_of(["anything"], "one", live.width)[0]
    return {hit.text for hit in target.search(live, asked, 1000)}


def test_an_edit_writes_the_difference_alone_and_the_plan_says_so(target: Target) -> None:
    first = published(target, content())
    assert (first.event, first.written, first.manifest.number) == ("sync", 40, 1)

    new = content(edited=[3, 7], without=[9])
    foreseen = plan(target, new, target.state())
    second = published(target, new)

    assert (len(foreseen.write), len(foreseen.delete), foreseen.kept) == (2, 3, 37)
    assert (second.written, second.deleted, second.kept) == (2, 3, 37)
    assert second.copied == foreseen.copied
    assert held(target) == {passage.text for passage in new.passages}
    assert published(target, new).event == "nothing"


def test_what_documents_say_otherwise_is_written_without_vectors(target: Target) -> None:
    said: dict[int, dict[str, Any]] = {n: {"product": "P10", "year": 2020} for n in range(40)}
    for edition in range(3):  # the third time every store takes up rows that were there
        said[edition] = {"product": "P20", "year": 2021}
        new = content(said=said)
        foreseen = plan(target, new, target.state())
        done = published(target, new)
        assert len(foreseen.update) == done.updated
    assert (done.written, done.deleted, done.copied) == (0, 0, 0)
    assert done.updated + done.kept == 40
    live = target.state().require_live(target.collection)
    asked = asker("one", 16)(["which?"])[0]
    found = target.search(live, asked, 3, MetadataFilters(filters=[P20]))
    assert [(hit.metadata["product"], hit.metadata["year"]) for hit in found] == [("P20", 2021)] * 3
    exact = sorted((float(asked @ vector) for vector in new.vectors[:3]), reverse=True)
    assert [hit.score for hit in found] == pytest.approx(exact, abs=1e-4)

    other = content(said={**said, 5: {"product": ["P20", "P30"], "weight": 1.5}})
    published(target, other)  # a list, and a key that was not there
    live = target.state().require_live(target.collection)
    assert live.fields == {"product": "list of text", "weight": "number", "year": "number"}
    assert len(target.search(live, asked, 9, MetadataFilters(filters=[P20]))) == 4


def test_another_embedder_makes_every_row_anew_beside_the_old_ones(target: Target) -> None:
    published(target, content())
    wider = published(target, content(width=24))
    other = published(target, content(embedder="two", width=24))

    assert (wider.written, wider.kept, other.written, other.kept) == (40, 0, 40, 0)
    state = target.state()
    assert state.live is not None
    assert state.previous is not None
    assert (state.live.embedder, state.previous.embedder) == ("two-24", "one-24")
    assert state.live.width == 24
    assert other.pruned == 40  # of the first width: two generations are kept


def test_a_roll_back_switches_and_embeds_nothing(target: Target) -> None:
    old, new = content(), content(edited=[1], embedder="two")
    published(target, old)
    published(target, new)

    back = publish(target, old, never)

    assert (back.event, back.written, back.manifest.bundle) == ("switch", 0, old.about.bundle)
    assert held(target) == {passage.text for passage in old.passages}
    assert publish(target, new, never).event == "switch"


def test_a_generation_after_a_roll_back_starts_from_what_is_there(target: Target) -> None:
    published(target, content())
    published(target, content(edited=[1]))
    publish(target, content(), never)
    new = content(edited=[2], without=[5])

    done = published(target, new)

    assert done.written + done.deleted <= 6
    assert held(target) == {passage.text for passage in new.passages}


def test_equal_points_of_another_bundle_take_its_name(target: Target) -> None:
    published(target, content(version="v1"))
    renamed = content()
    object.__setattr__(renamed.about, "bundle", "f" * 32)

    done = publish(target, renamed, never)

    assert (done.event, done.written, done.manifest.bundle) == ("label", 0, "f" * 32)
    live = target.state().require_live(target.collection)
    assert live.bundle == "f" * 32
    assert live.probes


def test_a_sync_that_fails_midway_leaves_the_old_one_and_is_taken_up(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ragft_pipeline.publishing.publication.BATCH", 5)
    old, new = content(), content(embedder="two", width=24)
    published(target, old)
    write, calls = target.write, []

    def dies(manifest: object, points: Sequence[object]) -> None:
        calls.append(len(points))
        if len(calls) == 4:
            raise KeyboardInterrupt
        write(manifest, points)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(target, "write", dies)
        with pytest.raises(KeyboardInterrupt):
            published(target, new)
    assert held(target) == {passage.text for passage in old.passages}
    assert len(plan(target, new, target.state()).write) == 25

    done = published(target, new)

    assert (done.written, done.kept) == (25, 15)
    assert target.state().building is None


def test_an_edition_that_was_begun_becomes_another_one(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    def said(product: str, number: int) -> dict[int, dict[str, Any]]:
        return {n: {"product": product if n < number else "P10"} for n in range(40)}

    old, new = content(said=said("P10", 0)), content(said=said("P30", 10), edited=[20])
    published(target, old)

    def dies(manifest: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(target, "finish", dies)
        with pytest.raises(KeyboardInterrupt):
            published(target, content(said=said("P20", 20)))
    done = published(target, new)

    assert target.stored(done.manifest) == new.digests
    assert publish(target, old, never).event == "switch"
    live = target.state().require_live(target.collection)
    assert target.stored(live) == old.digests


def test_what_a_run_did_not_prune_goes_with_the_next(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    published(target, content())
    published(target, content(width=24))
    new = content(embedder="two", width=24)
    with monkeypatch.context() as patch:
        patch.setattr(target, "prune", lambda: 0)
        published(target, new)
    done = publish(target, new, never)
    assert (done.event, done.pruned) == ("nothing", 40)


def test_what_the_store_lost_keeps_the_old_generation_live(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = content()
    published(target, old)
    write = target.write

    def loses_one(manifest: object, points: Sequence[object]) -> None:
        write(manifest, points[1:])  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(target, "write", loses_one)
        with pytest.raises(RagftError, match="1 points are missing"):
            published(target, content(edited=[3]))
    assert held(target) == {passage.text for passage in old.passages}
    published(target, content(edited=[3]))
    assert held(target) == {passage.text for passage in content(edited=[3]).passages}


def test_vectors_that_are_not_the_bundles_are_not_made_live(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    published(target, content())
    new = content(edited=range(40))
    right = new.points

    def turned(ids: Sequence[str]) -> object:
        for point in right(ids):
            object.__setattr__(point, "vector", np.roll(point.vector, 1))
            yield point

    monkeypatch.setattr(new, "points", turned)
    with pytest.raises(RagftError, match="the live generation stays"):
        published(target, new)
    assert target.state().require_live(target.collection).number == 1


def test_one_writer_at_a_time(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ragft_pipeline.publishing.postgres_connections._PATIENCE", 10)
    refused = []

    def second() -> None:
        try:
            published(target, content())
        except TransientError as error:
            refused.append(str(error))

    with target.writer():
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
    assert len(refused) == 1
    assert "another process is publishing" in refused[0]
    assert published(target, content()).written == 40


def test_questions_during_switches_are_answered_by_one_whole_generation(target: Target) -> None:
    """Every answer is what one of the two generations would say; none is empty."""
    contents = [content(), content(edited=range(40), embedder="two", width=24)]
    right = {}
    for made in contents:
        embedder, width = made.about.embedder.split("-")
        asked = vectors_of(["which?"], embedder, int(width))
        right[made.about.embedder] = (
            asked[0],
            {made.ids[n] for n in made.nearest(asked, 10)[0][0]},
        )
    published(target, contents[0])
    stop, wrong, answered = threading.Event(), [], []

    def ask() -> None:
        while not stop.is_set():
            live = target.state().require_live(target.collection)
            vector, expected = right[live.embedder]
            found = {hit.id for hit in target.search(live, vector, 10)}
            answered.append(live.embedder)
            if found != expected:
                wrong.append((live.embedder, len(found)))

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for turn in range(1, 5):
        published(target, contents[turn % 2])
    stop.set()
    for thread in threads:
        thread.join()
    assert not wrong
    assert len(answered) >= 3


def test_versions_that_are_kept_outlive_a_clean_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However old they are; others go."""
    target: Any = opened("lancedb", tmp_path, "")
    ages = "ragft_pipeline.publishing.lance_target.timedelta"
    with monkeypatch.context() as patch:
        patch.setattr(ages, lambda **age: timedelta(0))
        monkeypatch.setattr("ragft_pipeline.publishing.lance_target._POINTER_VERSIONS", 0)
        for edited in range(5):
            published(target, content(edited=[edited]))
    state = target.state()
    assert set(target.stored(state.live).values()) == set(content(edited=[4]).digests.values())
    assert publish(target, content(edited=[3]), never).event == "switch"
    assert held(target) == {passage.text for passage in content(edited=[3]).passages}
    assert len(target.table(state.live).list_versions()) < 8
