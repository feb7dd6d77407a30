"""What does publishing write, how long does it take, and does anybody notice a switch or a kill?

    python -m benchmarks.publish [EVAL …] [--nodes N] [--queries N] [--kills N]
        [--kinds a,b] [--parts syncs,switches,kills,quality] [--store FOLDER]

In LanceDB, PostgreSQL with pgvector (a server of its own) and Qdrant (local mode): a table of syncs
of N nodes with drawn vectors; 1,000 queries from eight threads during twenty switches, each of
which must be answered whole by the generation that it asked; `kill -9` at thirty points of a sync;
and of the sample and each EVAL folder the nDCG@10 of people's questions through the store.
"""

from __future__ import annotations

import argparse
import itertools
import os
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.results_file import Results
from ragft_pipeline.publishing.content import About, Content
from ragft_pipeline.publishing.extras import Extras
from ragft_pipeline.publishing.opening import open_target
from ragft_pipeline.publishing.planning import plan
from ragft_pipeline.publishing.points import Passage
from ragft_pipeline.publishing.publication import Published, publish
from ragft_pipeline.publishing.target import Target
from ragft_pipeline.retrieval.lexical import LexicalIndex
from ragft_pipeline.retrieval.metrics import PRIMARY, score_rankings
from ragft_pipeline.retrieval.search import fuse, top_k
from ragft_pipeline_tests.publishing.killing import outcome, spread
from ragft_pipeline_tests.publishing.made import asker, content, vectors_of
from ragft_pipeline_tests.publishing.stores import KINDS, postgres, target_settings

SAMPLE = Path(__file__).parent.parent / "data" / "sample"
WIDTH, WIDER, THREADS, SWITCHES = 384, 768, 8, 20


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--nodes", type=int, default=10_000)
    parser.add_argument("--queries", type=int, default=1_000)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--store", type=Path, help="where vectors stay for another run")
    parser.add_argument("--parts", default="syncs,switches,kills,quality")
    options = parser.parse_args()
    results = Results("publish")
    os.environ["PYTHONWARNINGS"] = "ignore"  # of the processes that are killed
    memory = Path("/dev/shm")
    with (
        tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as temporary,
        postgres(Path(temporary) / "postgres") as database,
    ):
        bench = Bench(Path(temporary), database, results)
        kinds, parts = options.kinds.split(","), options.parts.split(",")
        for kind in kinds:
            if "syncs" in parts:
                bench.syncs(kind, options.nodes)
            if "switches" in parts:
                bench.switches(kind, options.queries)
            if "kills" in parts:
                bench.kills(kind, options.kills)
        for folder in (SAMPLE, *options.folders) if "quality" in parts else ():
            bench.quality(folder, kinds, options.store)
    results.keep_others()
    return results.finish()


class Bench:
    """Stores in one folder, and where the figures go."""

    def __init__(self, folder: Path, database: str, results: Results) -> None:
        self.folder, self.database, self.results = folder, database, results

    def open(self, kind: str, name: str, parts: str = "dense") -> Target:
        settings = target_settings(kind, self.folder / name, self.database, name, parts)
        return open_target(settings, self.folder / "locks")

    def syncs(self, kind: str, nodes: int) -> None:
        """First sync, 1% edited twice, another width, the same width, roll-back."""
        target = self.open(kind, "table")
        edited = range(0, nodes, 100)
        again = range(1, nodes, 100)
        rows = {
            "first sync": content(nodes, width=WIDTH),
            "1% edited": content(nodes, width=WIDTH, edited=edited),
            "1% edited again": content(nodes, width=WIDTH, edited=[*edited, *again]),
            "another width": content(nodes, width=WIDER),
            "another embedder, same width": content(nodes, width=WIDER, embedder="two"),
            "roll-back": content(nodes, width=WIDER),
        }
        print(f"\n{kind}, {nodes} nodes\n")
        print("| step | rows written | copied | deleted | kept | seconds | as planned |")
        print("|---|---|---|---|---|---|---|")
        for step, made in rows.items():
            foreseen = plan(target, made, target.state())
            start = time.monotonic()
            done = published(target, made)
            seconds = time.monotonic() - start
            same = (len(foreseen.write), len(foreseen.delete), foreseen.copied) == (
                done.written, done.deleted, done.copied,
            )  # fmt: skip
            print(
                f"| {step} | {done.written} | {done.copied} | {done.deleted} | {done.kept} | "
                f"{seconds:.1f} | {same} |"
            )
            name = f"syncs {kind}/{step}"
            self.results.add(f"{name}/rows written", done.written, "rows")
            self.results.add(f"{name}/rows copied", done.copied, "rows")
            self.results.add(f"{name}/rows deleted", done.deleted, "rows")
            self.results.add(f"{name}/seconds", seconds, "s")
            self.results.add(f"{name}/as planned", float(same), "", at_least=1)
        target.close()

    def switches(self, kind: str, queries: int) -> None:
        """Ask from eight threads while the collection is switched twenty times."""
        target = self.open(kind, "switched")
        contents = [content(1_000, width=64), content(1_000, width=96, embedder="two")]
        asked, right = {}, {}
        questions = [f"question {number}" for number in range(50)]
        for made in contents:
            embedder, width = made.about.embedder.split("-")
            vectors = vectors_of(questions, embedder, int(width))
            asked[made.about.embedder] = vectors
            right[made.about.embedder] = [
                {made.ids[place] for place in row} for row in made.nearest(vectors, 10)[0]
            ]
        published(target, contents[0])
        published(target, contents[1])
        counts = {"answered": 0, "empty": 0, "mixed": 0, "errors": 0}
        seen: set[tuple[int, str]] = set()
        turn = itertools.count()
        counting, done = threading.Lock(), threading.Event()

        def ask() -> None:
            while not done.is_set():
                number = next(turn) % len(questions)
                outcome = "errors"
                try:
                    live = target.state().require_live(target.collection)
                    found = target.search(live, asked[live.embedder][number], 10)
                    whole = {hit.id for hit in found} == right[live.embedder][number]
                    outcome = "answered" if whole else "mixed" if found else "empty"
                finally:
                    with counting:
                        counts[outcome] += 1
                        seen.add((switched[0], live.embedder))

        switched = [0]
        threads = [threading.Thread(target=ask) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        pause = queries // SWITCHES
        for number in range(SWITCHES):
            published(target, contents[number % 2])
            switched[0] = number + 1
            while sum(counts.values()) < (number + 1) * pause:
                time.sleep(0.01)
        done.set()
        for thread in threads:
            thread.join()
        print(f"\n{kind}: {counts} during {SWITCHES} switches, {len(seen)} states seen")
        name = f"switches {kind}/during {SWITCHES}"
        self.results.add(f"{name}/answered whole", counts["answered"], "", at_least=queries)
        for what in ("empty", "mixed", "errors"):
            self.results.add(f"{name}/{what}", counts[what], "", at_most=0)
        target.close()

    def kills(self, kind: str, kills: int) -> None:
        """Kill a sync at points that lie evenly over its steps."""
        good = Counter[str]()
        for number, point in enumerate(spread(kills)):
            name = f"killed{number}"
            settings = target_settings(kind, self.folder / name, self.database, name)
            good.update(
                what for what, so in outcome(settings, self.folder / "locks", point).items() if so
            )
        print(f"{kind}: of {kills} kills: {dict(good)}")
        for what in ("live one whole", "next run finished", "nothing left over"):
            found = good[what]
            self.results.add(f"kills {kind}/of {kills}: {what}", found, "", at_least=kills)

    def quality(self, folder: Path, kinds: Sequence[str], store: Path | None) -> None:
        """Compare nDCG@10 through the stores with the exact one."""
        from benchmarks.bench_set import Bench as Data

        kept = (store or self.folder / "store") / folder.name
        data = Data.begin(folder, kept, fresh=store is None)
        rows = {row["node_id"]: row for row in data.nodes.to_pylist()}
        order = sorted(rows)
        place = {node_id: at for at, node_id in enumerate(data.nodes["node_id"].to_pylist())}
        vectors = data.node_vectors[[place[node_id] for node_id in order]]
        passages = [
            Passage(
                node_id, rows[node_id]["doc_key"], rows[node_id]["text"], rows[node_id]["text"],
                {"path": "", "title": rows[node_id]["title"], "heading": ""},
            )
            for node_id in order
        ]  # fmt: skip
        texts = [passage.read for passage in passages]
        extras = Extras.of(texts, "auto", None)
        about = About("b" * 32, data.version, "hybrid(base)", "base", dense_weight=0.5)
        asked = data.question_vectors
        number = {node_id: at for at, node_id in enumerate(order)}
        relevant = [
            frozenset(number[data.nodes["node_id"][at].as_py()] for at in one)
            for one in data.people.relevant
        ]
        words = LexicalIndex(texts).scores(data.people.texts)
        exact = {
            "dense": asked @ vectors.T,
            "words": words,
            "hybrid": fuse(asked @ vectors.T, words, 0.5),
        }
        print(f"\n{folder.name}: {len(order)} nodes, {len(relevant)} questions, nDCG@10\n")
        print("| search | the bundle, exactly | through | difference |")
        print("|---|---|---|---|")
        for kind in kinds:
            target = self.open(kind, f"q{folder.name.replace('-', '')}", "all")
            held = "words" in target.holds
            made = Content(about, passages, vectors, extras if held else None)
            done = publish(target, made, lambda sampled: data.encoder.encode(sampled, "query"))
            for name, scores in exact.items():
                if name != "dense" and not held:
                    continue
                found = [
                    [made.place[hit.id] for hit in _asked(target, done, name, question, vector)]
                    for question, vector in zip(data.people.texts, asked)
                ]
                own = _mean(top_k(scores, 10), relevant)
                through = _mean(_padded(found), relevant)
                print(f"| {name} | {own:.4f} | {kind}: {through:.4f} | {through - own:+.4f} |")
                title = f"{folder.name} {kind}/{name}"
                self.results.add(f"{title}/nDCG@10", through, "")
                difference = abs(through - own)
                self.results.add(f"{title}/difference", difference, "", at_most=0.002)
            target.close()


def published(target: Target, made: Content) -> Published:
    embedder, width = made.about.embedder.split("-")
    return publish(target, made, asker(embedder, int(width)))


def _asked(target: Target, done: Published, name: str, question: str, vector: Any) -> Any:
    if name == "dense":
        return target.search(done.manifest, vector, 10)
    if name == "words":
        return target.search_words(done.manifest, question, 10)
    return target.search_hybrid(done.manifest, question, vector, 10)


def _padded(found: Sequence[Sequence[int]]) -> np.ndarray:
    return np.array([[*row, *[-1] * (10 - len(row))] for row in found])


def _mean(ranked: np.ndarray, relevant: Sequence[frozenset[int]]) -> float:
    return float(np.mean(score_rankings(ranked, relevant)[PRIMARY]))


if __name__ == "__main__":
    raise SystemExit(main())
