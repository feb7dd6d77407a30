"""What does the service cost, and what happens to answers while the champion changes?

    python -m benchmarks.serve [--switches N] [--seconds S] [--clients N]

`ragft serve` runs as a process of its own over two bundles that share no passage and no model part.
Clients ask without a pause, first of one bundle that stays, then while the champion changes to and
fro. Each answer must come whole from the bundle that it names, and that bundle must be the one of
the history's entry that it names. Beside it, in the same run, stands a plain search in process.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from benchmarks.results_file import Results
from ragft_pipeline.serving.bundle import Bundle
from ragft_pipeline.serving.history import Entry, History
from ragft_pipeline.serving.searcher import Searcher
from ragft_pipeline.settings import Settings
from ragft_pipeline.store import ArtifactStore
from ragft_pipeline_tests.serving.conftest import (
    ADAPTED,
    UNTUNED,
    make_bundle,
    noisy_adapter,
    serve,
    serving_process,
)

SAMPLE = Path(__file__).parent.parent / "data" / "sample"
NAMES = ("even", "odd")
PATIENCE = 60.0  # seconds for one answer, and for one change to be followed
AT_LEAST = 20  # characters of a paragraph


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--switches", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=5, help="of each row without switches")
    parser.add_argument("--clients", type=int, default=32)
    options = parser.parse_args()
    results = Results("serve")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        store = ArtifactStore(folder / "store")
        bundles = build(store, folder)
        serve(store, bundles[0])
        questions = [json.loads(line)["question"] for line in lines(SAMPLE / "queries.jsonl")]
        searcher = Searcher(bundles[0], Settings().compute)
        print(f"{len(searcher)} passages a bundle, {options.clients} clients\n")
        print(
            "| who answers | callers | answers/s | p50 ms | p95 ms | slowest ms | errors | mixed |"
        )
        print("|---|---|---|---|---|---|---|---|")
        for callers in (1, options.clients):
            times = in_process(searcher, questions, callers, options.seconds)
            row(results, "in process", callers, [Reply(ms) for ms in times], options.seconds)
        with serving_process(store, folder / "log") as address:
            bench = Bench(address, store, questions)
            for callers in (1, options.clients):
                replies, seconds = asyncio.run(bench.steady(callers, options.seconds))
                row(results, "service", callers, replies, seconds)
            replies, seconds = asyncio.run(
                bench.switching(options.clients, bundles, options.switches)
            )
            row(results, "service that switches", options.clients, replies, seconds)
    seen = len({reply.entry for reply in replies} - {0}) - 1
    results.add("switches", seen, "switches seen in answers", at_least=options.switches)
    results.add("switching/follow/p50", float(np.median(bench.followed)), "s")
    results.add("switching/follow/slowest", max(bench.followed), "s")
    print(f"\n{seen} switches, each followed within {max(bench.followed):.1f} s")
    return results.finish()


def lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def build(store: ArtifactStore, folder: Path) -> list[Bundle]:
    """Deal the sample's paragraphs out to two bundles: an untuned one, and one with an adapter."""
    files = sorted((SAMPLE / "docs").rglob("*.md"))
    texts = [part.strip() for file in files for part in file.read_text("utf-8").split("\n\n")]
    texts = list(dict.fromkeys(text for text in texts if len(text) >= AT_LEAST))
    even, odd = NAMES
    return [
        make_bundle(store, even, texts[::2], UNTUNED),
        make_bundle(store, odd, texts[1::2], ADAPTED, noisy_adapter(folder)),
    ]


def in_process(
    searcher: Searcher, questions: list[str], callers: int, seconds: float
) -> list[float]:
    """Return the milliseconds of each search by so many threads that search without a pause."""
    searcher.search(questions[0])
    end = time.perf_counter() + seconds

    def search_on(place: int) -> Iterator[float]:
        for question in cycle(questions[place:] + questions[:place]):
            start = time.perf_counter()
            if start > end:
                return
            searcher.search(question)
            yield (time.perf_counter() - start) * 1000

    with ThreadPoolExecutor(callers) as pool:
        found = pool.map(lambda place: list(search_on(place)), range(callers))
        return [ms for times in found for ms in times]


@dataclass(frozen=True)
class Reply:
    """One answer: how long it took, which entry it names, and what is wrong with it."""

    ms: float
    entry: int = 0
    error: bool = False
    mixed: bool = False


class Bench:
    """Clients of one served store."""

    def __init__(self, address: str, store: ArtifactStore, questions: list[str]) -> None:
        self.address = address
        self.questions = questions
        self.store = store
        self.history: dict[int, Entry] = {}
        self.followed: list[float] = []

    async def steady(self, clients: int, seconds: float) -> tuple[list[Reply], float]:
        """Ask for so many seconds; return the answers and the seconds it took."""
        end = time.perf_counter() + seconds
        return await self._asked(clients, lambda: time.perf_counter() < end)

    async def switching(
        self, clients: int, bundles: list[Bundle], switches: int
    ) -> tuple[list[Reply], float]:
        """Ask while the champion changes so often, each time the service has followed."""
        changing = asyncio.create_task(self._switch(bundles, switches))
        found = await self._asked(clients, lambda: not changing.done())
        await changing
        return found

    async def _switch(self, bundles: list[Bundle], switches: int) -> None:
        async with httpx.AsyncClient(base_url=self.address, timeout=PATIENCE) as client:
            for number in range(1, switches + 1):
                bundle = bundles[number % 2]
                await asyncio.to_thread(serve, self.store, bundle)
                start = time.perf_counter()
                while (await client.get("/champion")).json()["bundle"] != bundle.digest:
                    if time.perf_counter() - start > PATIENCE:
                        raise TimeoutError(f"switch {number} was not followed")
                    await asyncio.sleep(0.05)
                self.followed.append(time.perf_counter() - start)
                await asyncio.sleep(0.2)  # so that some answers are of this one

    async def _asked(self, clients: int, go_on: Callable[[], bool]) -> tuple[list[Reply], float]:
        start = time.perf_counter()
        every = await asyncio.gather(*(self._client(place, go_on) for place in range(clients)))
        seconds = time.perf_counter() - start
        self.history = {entry.number: entry for entry in History(self.store).entries()}
        return [self._judged(*reply) for replies in every for reply in replies], seconds

    async def _client(self, place: int, go_on: Callable[[], bool]) -> list[tuple[float, Any]]:
        replies: list[tuple[float, Any]] = []
        async with httpx.AsyncClient(base_url=self.address, timeout=PATIENCE) as client:
            for question in cycle(self.questions[place:] + self.questions[:place]):
                if not go_on():
                    return replies
                start = time.perf_counter()
                try:
                    answer = await client.get("/search", params={"question": question})
                    body = answer.json() if answer.status_code == 200 else None
                except (httpx.HTTPError, ValueError):
                    body = None
                replies.append(((time.perf_counter() - start) * 1000, body))
        return replies

    def _judged(self, ms: float, body: Any) -> Reply:
        if body is None or not body["hits"]:
            return Reply(ms, error=True)
        served = body["served"]
        titles = {hit["title"] for hit in body["hits"]}
        entry = self.history[served["entry"]]
        whole = titles == {served["version"]} == {entry.version}
        return Reply(ms, entry.number, mixed=not whole or entry.bundle != served["bundle"])


def row(results: Results, name: str, callers: int, replies: list[Reply], seconds: float) -> None:
    """Print a row and record its figures."""
    times = np.array([reply.ms for reply in replies])
    median, late = np.percentile(times, [50, 95])
    errors, mixed = (sum(getattr(r, kind) for r in replies) for kind in ("error", "mixed"))
    rate = len(replies) / seconds
    print(
        f"| {name} | {callers} | {rate:.0f} | {median:.1f} | {late:.1f} | {times.max():.0f} "
        f"| {errors} | {mixed} |",
        flush=True,
    )
    key = f"{name}, {callers}"
    results.add(f"{key}/answers", len(replies), "answers")
    results.add(f"{key}/rate", rate, "answers/s")
    results.add(f"{key}/p50", float(median), "ms")
    results.add(f"{key}/p95", float(late), "ms")
    results.add(f"{key}/slowest", float(times.max()), "ms")
    results.add(f"{key}/errors", errors, "answers", at_most=0)
    results.add(f"{key}/mixed", mixed, "answers", at_most=0)


if __name__ == "__main__":
    raise SystemExit(main())
