"""`kill -9` of a process that publishes, before and after each step of a sync.

The processes come from multiprocessing's fork server, which has the libraries and has used none:
they are forks, so a killed one costs little, of a process in which no thread runs.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ragft_pipeline.publishing import publication
from ragft_pipeline.publishing.content import Content
from ragft_pipeline.publishing.opening import open_target
from ragft_pipeline.publishing.publication import publish
from ragft_pipeline.publishing.target import Target
from ragft_pipeline.settings import TargetSettings
from ragft_pipeline_tests.publishing.made import asker, content

VERBS = ("begin", "delete", "write", "update", "finish", "switch", "prune")
_NODES, _BATCH, _WIDTH = 120, 8, 16
_LIBRARIES = (
    "lancedb", "lance", "psycopg2.extras", "qdrant_client", "llama_index.core.schema",
    "llama_index.core.vector_stores.utils", "ragft_pipeline.publishing.qdrant_target",
    "ragft_pipeline.publishing.postgres_target", "ragft_pipeline.publishing.lance_target",
    "ragft_pipeline_tests.publishing.killing",
)  # fmt: skip


def contents() -> tuple[Content, Content, Content]:
    """Return an edition, the next one, which is live, and what a sync makes of either.

    A third is new, a third gone, and a third said otherwise, of the live edition as of the first:
    Qdrant's collections take turns.
    """
    gone, edited, said = (range(start, _NODES, 3) for start in range(3))

    def edition(product: str, **changes: Sequence[int]) -> Content:
        about = {n: {"product": product if n in said else "all"} for n in range(_NODES)}
        return content(_NODES, said=about, **changes)

    return edition("P10"), edition("P20"), edition("P30", edited=edited, without=gone)


def points() -> int:
    """Return at how many points a sync may be killed: before and after each call of a verb."""
    thirds = -(-_NODES // 3)
    written, updated, deleted = thirds, thirds, 2 * thirds
    return 2 * (4 + sum(-(-rows // _BATCH) for rows in (written, updated, deleted)))


def switched(point: int) -> bool:
    """Say whether the new generation is live at a point."""
    return point >= points() - 3  # after `switch`, before and after `prune`


def outcome(settings: TargetSettings, locks: Path, point: int) -> dict[str, bool]:
    """Publish, kill the next sync at a point, and publish again.

    Returns:
        Whether after the kill the `live one` was `whole`, by its points and by its answer; whether
        the `next run finished`, with the new generation live; whether `nothing` was `left over`.
    """
    process = multiprocessing.get_context("forkserver").Process(
        target=_killed, args=(settings.model_dump(mode="json"), str(locks), point)
    )
    multiprocessing.set_forkserver_preload(list(_LIBRARIES))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL, process.exitcode
    _, old, new = contents()
    target = open_target(settings, locks)
    try:
        live = target.state().require_live(settings.collection)
        expected = new if switched(point) else old
        asked = asker("one", _WIDTH)(["which?"])[0]
        answered = {hit.id for hit in target.search(live, asked, _NODES)}
        whole = answered == set(expected.ids) and target.stored(live) == expected.digests
        done = publish(target, new, asker("one", _WIDTH))
        state = target.state()
        return {
            "live one whole": whole and live.bundle == expected.about.bundle,
            "next run finished": done.manifest.content == new.digest
            and target.stored(done.manifest) == new.digests,
            "nothing left over": state.building is None and left_over(target) == 0,
        }
    finally:
        target.close()


def left_over(target: Any) -> int:
    """Return what a store holds beside two generations of one embedder, and their pointer."""
    kind = type(target).__name__
    if kind == "LanceTarget":
        tags = target.table(target.state().live).tags.list()
        return len(target._names()) - 2 + len(tags) - 2
    if kind == "QdrantTarget":
        return max(0, len(target._collections()) - 2)
    state = target.state()
    with target._cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_tables WHERE tablename LIKE %s",
            (f"ragft\\_{target.collection}\\_%",),
        )
        tables = int(cursor.fetchone()[0])
        kept = " OR ".join(
            f"(since <= {made.number} AND until > {made.number})"
            for made in (state.live, state.previous)
        )
        cursor.execute(f'SELECT count(*) FROM "{state.live.place}" WHERE NOT ({kept})')
        return tables - 1 + int(cursor.fetchone()[0])


def _killed(settings: dict[str, Any], locks: str, point: int) -> None:
    """Publish two editions, then the third, and die at a point of that."""
    publication.BATCH = _BATCH
    target: Target = open_target(TargetSettings.model_validate(settings), Path(locks))
    first, old, new = contents()
    publish(target, first, asker("one", _WIDTH))
    publish(target, old, asker("one", _WIDTH))
    count = itertools.count()

    def wrapped(call: Callable[..., Any]) -> Callable[..., Any]:
        def called(*arguments: Any) -> Any:
            _die_at(point, next(count))
            result = call(*arguments)
            _die_at(point, next(count))
            return result

        return called

    for verb in VERBS:
        setattr(target, verb, wrapped(getattr(target, verb)))
    publish(target, new, asker("one", _WIDTH))


def _die_at(point: int, now: int) -> None:
    if now == point:
        os.kill(os.getpid(), signal.SIGKILL)


def spread(number: int) -> Sequence[int]:
    """Return so many points that lie evenly over a sync."""
    last = points() - 1
    return [round(at * last / (number - 1)) for at in range(number)]
