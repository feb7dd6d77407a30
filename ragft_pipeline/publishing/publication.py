"""From a bundle to the live generation: plan, write the difference, compare, switch, prune.

A kill at any moment leaves the live generation as it was. What was written stays with the
generation that was begun, and the next run finds it and goes on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ragft_pipeline.errors import RagftError
from ragft_pipeline.publishing.content import Content
from ragft_pipeline.publishing.manifest import Manifest, Probe, State
from ragft_pipeline.publishing.planning import difference, plan
from ragft_pipeline.publishing.target import Target

Ask = Callable[[Sequence[str]], np.ndarray]  # questions to vectors, by the bundle's encoder
BATCH = 500  # points that are written at once
_ASKED, _PROBES, _TOP = 20, 3, 10
_NEAR = 1e-3  # of two scores that count as equal: a store may keep fewer digits
_RECALL = 0.95  # of the exact best ten, over the questions compared, at least


@dataclass(frozen=True)
class Published:
    """What a publication came to.

    Attributes:
        manifest: the live generation.
        event: see Plan; `switch` where a generation was whole already.
        written, updated, deleted, kept, copied: points, as in Plan.
        pruned: points of older generations that were removed.
        recall: share of the exact best ten that the store found, over the questions compared.
        seconds: of all of it.
        agreement: by the searches that the store can do, the share of the served system's best ten
            that they find; empty where nothing was written.
    """

    manifest: Manifest
    event: str
    written: int = 0
    updated: int = 0
    deleted: int = 0
    kept: int = 0
    copied: int = 0
    pruned: int = 0
    recall: float = 1.0
    seconds: float = 0.0
    agreement: dict[str, float] = field(default_factory=dict)

    @property
    def facts(self) -> dict[str, Any]:
        """Plain values for the lineage's page."""
        return {
            "generation": self.manifest.number,
            "event": self.event,
            "rows_written": self.written,
            "rows_updated": self.updated,
            "rows_deleted": self.deleted,
            "rows_kept": self.kept,
            "rows_copied": self.copied,
            "rows_pruned": self.pruned,
            "recall_at_10": round(self.recall, 4),
            "seconds": round(self.seconds, 2),
            "agreement": ", ".join(f"{name} {share}" for name, share in self.agreement.items()),
        }


def publish(
    target: Target,
    content: Content,
    ask: Ask,
    progress: Callable[[str], None] = lambda line: None,
) -> Published:
    """Make a bundle's points the live generation of a collection.

    Args:
        ask: the bundle's query encoder; it is called where something is to be written.

    Raises RagftError where another process writes, or where what was written does not answer as
    the bundle does: the live generation then stays.
    """
    start = time.monotonic()
    with target.writer():
        state = target.state()
        todo = plan(target, content, state)
        progress(todo.lines(target.collection))
        if todo.event == "nothing":
            assert state.live is not None
            pruned = target.prune()  # a run may have ended between switch and prune
            return Published(state.live, todo.event, kept=len(content), pruned=pruned)
        if todo.event == "sync":
            made, recall = _synced(target, content, ask, state, progress)
        elif todo.event == "label":
            assert state.live is not None
            made = replace(
                content.manifest(state.live.number, state.live.probes),
                points_per_second=state.live.points_per_second,
            ).at(state.live.place)
            recall = 1.0
        else:
            assert state.previous is not None
            made, recall = state.previous, 1.0
        same = state.live is not None and made.number == state.live.number
        target.switch(made, state.previous if same else state.live)
        pruned = target.prune()
    seconds = time.monotonic() - start
    kept = todo.kept if todo.event == "sync" else len(content)
    return Published(
        made, todo.event, len(todo.write), len(todo.update), len(todo.delete), kept, todo.copied,
        pruned, recall, seconds,
    )  # fmt: skip


def _synced(
    target: Target, content: Content, ask: Ask, state: State, progress: Callable[[str], None]
) -> tuple[Manifest, float]:
    """Write a generation, and return it whole and compared, with its recall."""
    texts = sampled(content)
    asked = ask(texts) if texts else np.zeros((0, content.vectors.shape[1]), np.float32)
    probes = [
        Probe(text, [round(float(value), 7) for value in vector])
        for text, vector in zip(texts[:_PROBES], asked)
    ]
    number = state.next_number(content.family)
    start = time.monotonic()
    made = target.begin(content.manifest(number, probes), state)
    write, update, delete = difference(target.stored(made), content)
    for at in range(0, len(delete), BATCH):
        target.delete(made, delete[at : at + BATCH])
    for at in range(0, len(write), BATCH):
        target.write(made, list(content.points(write[at : at + BATCH])))
        progress(f"{target.collection}: {min(at + BATCH, len(write))}/{len(write)} rows")
    for at in range(0, len(update), BATCH):
        target.update(made, list(content.points(update[at : at + BATCH])))
    seconds = max(time.monotonic() - start, 1e-3)
    done = len(write) + len(update) + len(delete)
    rate = done / seconds if done >= BATCH else (state.live.points_per_second if state.live else 0)
    made = target.finish(replace(made, points_per_second=round(rate, 1)))
    require_equal(target.stored(made), content.digests, made)
    recall = compared(target, made, content, asked)
    return made, recall


def sampled(content: Content) -> list[str]:
    """Return texts to ask: titles and headings of passages that lie evenly among all."""
    texts = []
    for passage in content.passages[:: max(1, len(content) // _ASKED)][:_ASKED]:
        about = [str(passage.metadata.get(name) or "") for name in ("title", "heading")]
        texts.append(" ".join(part for part in about if part) or passage.text[:200])
    return list(dict.fromkeys(texts))


def require_equal(stored: dict[str, str], wanted: dict[str, str], made: Manifest) -> None:
    """Raise RagftError unless a store holds exactly the points that it should."""
    if stored == wanted:
        return
    missing = sum(id_ not in stored for id_ in wanted)
    strange = sum(id_ not in wanted for id_ in stored)
    other = sum(stored.get(id_, digest) != digest for id_, digest in wanted.items())
    raise RagftError(
        f"{made.name}: {missing} points are missing in the store, {strange} are not the bundle's, "
        f"{other} differ; the live generation stays, publish again"
    )


def compared(target: Target, made: Manifest, content: Content, asked: np.ndarray) -> float:
    """Return how much of the exact best ten a store finds.

    Raises RagftError where it finds too little, or gives a passage another score.
    """
    if not len(asked):
        return 1.0
    _, exact = content.nearest(asked, _TOP)
    right = wanted = 0
    for vector, scores in zip(asked, exact):
        found = target.search(made, vector, _TOP)
        for hit in found:
            own = float(vector @ content.vectors[content.place[hit.id]])
            if abs(own - hit.score) > _NEAR:
                raise RagftError(
                    f"{made.name}: the store scores a passage {hit.score:.4f}, the bundle "
                    f"{own:.4f}; the live generation stays"
                )
            right += own >= scores[-1] - _NEAR
        wanted += len(scores)
    recall = float(right) / wanted
    if recall < _RECALL:
        raise RagftError(
            f"{made.name}: the store finds {recall:.0%} of the exact best ten, at least "
            f"{_RECALL:.0%} are wanted: a finer index is needed; the live generation stays"
        )
    return recall
