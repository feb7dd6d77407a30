"""What does kill -9 at a random moment cost?

    python -m benchmarks.crash [--rounds N] [--at-changes N]

Each round materializes the data assets and the adapter in a fresh store, kills the process with
SIGKILL, looks at all that a reader of the store sees, runs to the end, and compares with a run that
nothing disturbed. Rounds are killed after a random delay; further rounds just before a random
change to the file system (a rename, a removal, a folder made, a file opened to be written), which
delays seldom hit. A server on the loopback writes questions, and counts the calls.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any

from benchmarks.question_server import answering
from benchmarks.results_file import Results
from benchmarks.store_inspection import answers_kept, visible_faults
from ragft_pipeline.corpus.snapshots import SnapshotStore
from ragft_pipeline.lineage.steps import materialize
from ragft_pipeline.recipes import RECIPES
from ragft_pipeline.settings import ExtractiveGenerator, LLMGenerator, Settings
from ragft_pipeline.store import ArtifactStore
from ragft_pipeline_tests.conftest import copy_sample
from ragft_pipeline_tests.equality import assert_same_version
from ragft_pipeline_tests.questions.openai_server import OpenAIServer

NAMES = [recipe.name for recipe in RECIPES]
MADE = (*RECIPES[: NAMES.index("log_scores") + 1], RECIPES[NAMES.index("embedding_adapter")])
BATCH_SIZE, CONCURRENCY = 2, 2
IN_FLIGHT = BATCH_SIZE * CONCURRENCY  # nodes in a batch of questions: what a kill may lose
# Imported once, by a process of one thread that does nothing else; every run is forked from it.
PRELOADED = (
    "ragft_pipeline.recipes", "ragft_pipeline.tuning.adapter", "ragft_pipeline.tuning.teacher",
    "sentence_transformers", "transformers", "datasketch", "llama_index.core.node_parser",
    "llama_index.llms.openai_like",
)  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=50, help="killed after a random delay")
    parser.add_argument("--at-changes", type=int, default=25, help="killed before a random change")
    parser.add_argument("--documents", type=int, default=6)
    parser.add_argument("--seed", type=int, default=13)
    options = parser.parse_args()
    results = Results("crash")
    os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    os.environ.setdefault("OPENAI_API_KEY", "none")
    draw = random.Random(options.seed)
    with answering() as server, tempfile.TemporaryDirectory() as folder:
        server.think_seconds = 0.02
        copy_sample(Path(folder) / "corpus", options.documents)
        bench = Bench(Path(folder), server)
        bench.run_undisturbed()
        delays = [bench.round(bench.kill_after, draw.random()) for _ in range(options.rounds)]
        changes = range(options.at_changes)
        writes = [bench.round(bench.kill_at_change, draw.random()) for _ in changes]
    results.add("undisturbed/run", bench.seconds, "s")
    results.add("undisturbed/paid_calls", bench.calls, "calls")
    results.add("in_flight", IN_FLIGHT, "calls")
    print("\n| killed | rounds | faults | answers kept | most paid twice | while making |")
    print("|---|---|---|---|---|---|")
    record("after_a_delay", delays, results)
    record("before_a_change", writes, results)
    results.add("kills", len(delays) + len(writes), "kills", at_least=50)
    return results.finish()


@dataclass(frozen=True)
class Round:
    """A killed run and the run after it.

    Attributes:
        making: the asset that was not finished.
        kept: nodes whose answers had been staged or published.
        paid_twice: calls of both runs beyond those of one undisturbed run.
        faults: whatever was visibly half-written, different at the end, or paid for again.
    """

    making: str
    kept: int
    paid_twice: int
    faults: tuple[str, ...]


def record(name: str, rounds: Sequence[Round], results: Results) -> None:
    """Print a row and record the figures of the rounds killed in one way."""
    if not rounds:
        return
    faults = sum(len(done.faults) for done in rounds)
    most = max(done.paid_twice for done in rounds)
    kept = sum(done.kept for done in rounds) / len(rounds)
    making = Counter(done.making for done in rounds).most_common()
    where = ", ".join(f"{asset} {number}" for asset, number in making)
    print(f"| {name} | {len(rounds)} | {faults} | {kept:.1f} | {most} | {where} |")
    results.add(f"{name}/rounds", len(rounds), "rounds")
    results.add(f"{name}/faults", faults, "faults", at_most=0)
    results.add(f"{name}/answers_kept", kept, "answers a round")
    results.add(f"{name}/most_paid_twice", most, "calls", at_most=IN_FLIGHT)


class Bench:
    """A corpus, a server that counts, and the undisturbed run that every round is held against."""

    def __init__(self, folder: Path, server: OpenAIServer) -> None:
        self._folder = folder
        self._server = server
        self._processes = multiprocessing.get_context("forkserver")
        self._processes.set_forkserver_preload(list(PRELOADED))
        self._reference = ArtifactStore(folder / "undisturbed")
        self._rounds = 0
        self.seconds = 0.0
        self.changes = 0
        self.calls = 0

    def run_undisturbed(self) -> None:
        """Run once to warm the machine up, and once to be measured and held against."""
        self._run(self._folder / "warm-up")
        start = time.monotonic()
        self._run(self._reference.root)
        self.seconds, self.calls = time.monotonic() - start, self._calls()
        counter = self._processes.Value("q", 0, lock=False)
        self._run(self._folder / "counted", counter)
        self.changes = counter.value
        if faults := visible_faults(self._reference):
            raise RuntimeError(f"an undisturbed run: {faults}")
        print(
            f"undisturbed: {self.seconds:.1f} s, {self.calls} paid calls, "
            f"{self.changes} changes to the file system",
            flush=True,
        )

    def round(self, kill: Callable[[Path, float], None], place: float) -> Round:
        """Kill a run in a fresh store at a place from 0 (its start) to 1 (its end); run again."""
        self._rounds += 1
        store = ArtifactStore(self._folder / f"round-{self._rounds}")
        kill(store.root, place)
        first, kept = self._calls(), answers_kept(store)
        making = unfinished(store)
        faults = [f"visible: {fault}" for fault in visible_faults(store)]
        self._run(store.root)
        second = self._calls()
        if second != self.calls - kept:
            faults.append(f"{second} calls, though {kept} of {self.calls} answers were kept")
        faults += [f"visible at the end: {fault}" for fault in visible_faults(store)]
        faults += differences(store, self._reference)
        shutil.rmtree(store.root)
        done = Round(making, kept, first + second - self.calls, tuple(faults))
        print(
            f"round {self._rounds}: killed at {place:.3f}, making {making}; {kept} answers kept, "
            + "; ".join((f"{done.paid_twice} paid twice", *faults)),
            flush=True,
        )
        return done

    def kill_after(self, store: Path, place: float) -> None:
        """Kill a run after a share of the undisturbed one's seconds; sooner, if it was faster."""
        process = self._start(store, None, 0)
        process.join(place * self.seconds)
        process.kill()
        process.join()
        if process.exitcode != -signal.SIGKILL:
            shutil.rmtree(store)
            self.kill_after(store, 0.9 * place)

    def kill_at_change(self, store: Path, place: float) -> None:
        """Kill a run just before one of its changes to the file system; sooner, if it had fewer."""
        counter = self._processes.Value("q", 0, lock=False)
        process = self._start(store, counter, 1 + int(place * self.changes))
        process.join()
        if process.exitcode != -signal.SIGKILL:
            shutil.rmtree(store)
            self.kill_at_change(store, 0.9 * place)

    def _run(self, store: Path, counter: Synchronized[int] | None = None) -> None:
        process = self._start(store, counter, 0)
        process.join()
        if process.exitcode:
            raise RuntimeError(f"a run ended with {process.exitcode}")

    def _start(self, store: Path, counter: Synchronized[int] | None, kill_at: int) -> Any:
        self._server.requests.clear()
        arguments = (self._settings(store), counter, kill_at)
        process = self._processes.Process(target=run_all, args=arguments)
        process.start()
        return process

    def _calls(self) -> int:
        """Return the calls of the last run, those that came in as it died among them."""
        time.sleep(5 * self._server.think_seconds)
        return len(self._server.requests)

    def _settings(self, store: Path) -> Settings:
        base = Settings()
        llm = LLMGenerator(
            model="scripted", base_url=self._server.url, share_of_nodes=1.0, max_nodes=0,
            batch_size=BATCH_SIZE, concurrency=CONCURRENCY,
        )  # fmt: skip
        changes = {
            "corpus": {"source": str(self._folder / "corpus")},
            "questions": {"generators": (ExtractiveGenerator(claims=1, headings=False), llm)},
            "adapter": {"epochs": 2, "checkpoints": 2},
            "compute": {"threads": 1, "device": "cpu"},
        }
        sections = {
            name: getattr(base, name).model_copy(update=update) for name, update in changes.items()
        }
        return base.model_copy(update={"store": str(store), **sections})


def run_all(settings: Settings, counter: Synchronized[int] | None, kill_at: int) -> None:
    """Freeze the documents and make every asset; with a counter, count changes, or die at one."""
    logging.getLogger("httpx").setLevel(logging.WARNING)  # a line a request
    if counter is not None:
        sys.addaudithook(partial(_on_event, counter, kill_at))
    version = SnapshotStore(ArtifactStore(settings.store)).freeze(settings).version
    for recipe in MADE:
        materialize(recipe, settings, version)


def _on_event(
    counter: Synchronized[int], kill_at: int, event: str, arguments: tuple[Any, ...]
) -> None:
    writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITING
    if writes or event in {"os.rename", "os.remove", "os.rmdir", "os.mkdir"}:
        counter.value += 1
        if counter.value == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)


_WRITING = os.O_WRONLY | os.O_RDWR


def unfinished(store: ArtifactStore) -> str:
    """Return the first asset that no version is linked to."""
    versions = SnapshotStore(store).versions()
    if not versions:
        return "the snapshot"
    names = (recipe.name for recipe in MADE if store.linked(versions[-1], recipe.name) is None)
    return next(names, "nothing")


def differences(store: ArtifactStore, reference: ArtifactStore) -> list[str]:
    """Say what differs from the undisturbed run: versions, row keys, values, data versions."""
    version, *more = SnapshotStore(reference).versions()
    if SnapshotStore(store).versions() != [version, *more]:
        return [f"versions {SnapshotStore(store).versions()}, not {[version, *more]}"]
    try:
        assert_same_version(store, reference, version, MADE)
    except AssertionError as error:
        return [f"differs: {error}"]
    return []


if __name__ == "__main__":
    raise SystemExit(main())
