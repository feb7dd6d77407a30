"""What do a bundle, a search and a switch to the next bundle take at 10^4 to 10^6 chunks?

    python -m benchmarks.scale_serving [--sizes N …] [--work FOLDER]

The texts are those of benchmarks.scale, the models the real ones; vectors and token vectors of
passages are drawn at random, as encoding a million would take hours and changes neither memory nor
time of what is measured. The system is the largest that is served: an adapter, a ranker over late
interaction, passages read below their headings. Each stage is a process of its own. "anonymous" is
memory that is the process's own; the rest of "peak" are pages of mapped files, which the system
takes back when it needs them.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.results_file import Results
from benchmarks.scale import disk_use
from benchmarks.scale_corpus import CorpusMaker
from benchmarks.scale_stage import peak_bytes
from ragft_pipeline import schemas
from ragft_pipeline.corpus.nodes import with_context
from ragft_pipeline.digests import digest_of, text_key
from ragft_pipeline.evaluation.nodes import Nodes
from ragft_pipeline.evaluation.retrievers import Models
from ragft_pipeline.evaluation.trial import Trial
from ragft_pipeline.retrieval.adapters import Adapter, linear_adapter
from ragft_pipeline.retrieval.encoder import Encoder, normalise_rows
from ragft_pipeline.retrieval.evidence import FIRST_STAGE, LATE_INTERACTION
from ragft_pipeline.retrieval.question_sets import QuestionSet
from ragft_pipeline.retrieval.ranker import Ranker
from ragft_pipeline.retrieval.text_vectors import units_of, vectors_table
from ragft_pipeline.retrieval.token_vectors import STORAGE_VERSION, TOKENS
from ragft_pipeline.serving.bundle import BundleStore
from ragft_pipeline.serving.configuration import Configuration
from ragft_pipeline.serving.searcher import Searcher
from ragft_pipeline.settings import Settings
from ragft_pipeline.store import ArtifactStore, Workspace
from ragft_pipeline.store.tables import read_table

ROOT = Path(__file__).parent.parent
SEED, WIDTH, TOKENS_A_CHUNK, WORDS = 13, 384, 64, 45
CHUNKS_A_DOCUMENT, ASKED, EVALUATED = 20, 20, 200
SETTINGS = Settings.model_validate({"passages": {"context": "on"}})
STAGES = ("rows", "bundle", "search", "next bundle", "switch", "evaluation")
MEMORY = 8e9
UNITS = {
    "written": "MB", "cpu_seconds": "s", "peak": "GB", "anonymous": "GB", "question_ms": "ms",
    "switch_cpu_seconds": "s",
}  # fmt: skip


def documents(maker: CorpusMaker, size: int, edited: bool) -> Iterator[pa.RecordBatch]:
    """Yield NODES of documents of 20 chunks; the edited corpus has one other chunk."""
    number = size // CHUNKS_A_DOCUMENT
    keys = sorted((digest_of("document", place), place) for place in range(number))
    for key, place in keys:
        words = maker.document(place).split()
        rows = []
        for at in range(CHUNKS_A_DOCUMENT):
            text = f"{place} {at} " + " ".join(words[at * WORDS : (at + 1) * WORDS])
            if edited and place == number // 2 and at == 7:
                text += " This sentence was added later on."
            rows.append(
                {
                    "node_id": digest_of(text)[:32], "doc_key": key, "cluster": key,
                    "split": "train", "title": f"Document {place}", "heading_path": ["Care"],
                    "text": text, "start_char": 400 * at, "end_char": 400 * at + len(text),
                    "tokens": TOKENS_A_CHUNK,
                }
            )  # fmt: skip
        yield from pa.Table.from_pylist(rows, schema=schemas.NODES.schema).to_batches()


class Bench:
    """One size: its folder, and what its stages share."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = ArtifactStore(folder / "store")
        self.base = Encoder.base(SETTINGS.embedder, SETTINGS.compute)
        self.models = Models(adapter=folder / "adapter", late_interaction=folder / "late")
        weights = Ranker.prior((*FIRST_STAGE, LATE_INTERACTION)).weights
        self.configuration = Configuration("adapter", 0.5, "ranker", weights)

    def prepare(self, size: int) -> None:
        """Write the models and both versions' nodes."""
        import torch

        (self.folder / "late").mkdir(parents=True)
        draw = torch.Generator().manual_seed(SEED)
        noise = 0.05 * torch.randn(WIDTH, WIDTH, generator=draw)
        both = [linear_adapter(torch.eye(WIDTH) + noise) for _ in range(2)]
        Adapter(self.base.weights.digest, *both).save(self.folder / "adapter")
        maker = CorpusMaker([ROOT / "data" / "sample"], SETTINGS.chunking, SEED)
        for name, edited in (("nodes", False), ("edited", True)):
            schema = schemas.NODES.schema
            reader = pa.RecordBatchReader.from_batches(schema, documents(maker, size, edited))
            schemas.NODES.layout.write(reader, self.folder / f"{name}.parquet")

    def rows(self) -> None:
        """Put random vectors and token vectors of all passages into an artifact."""
        nodes = read_table(self.folder / "edited.parquet")
        more = read_table(self.folder / "nodes.parquet")
        with self.store.staging("rows") as folder:
            work = Workspace(self.store, "rows", folder)
            identity = self.base.identity("document")
            read = [*with_context(nodes).column("text").to_pylist()]
            read += with_context(more).column("text").to_pylist()
            alone = [*nodes.column("text").to_pylist(), *more.column("text").to_pylist()]
            vectors = work.rows("vectors_document", identity, schemas.VECTORS.schema, family="*")
            units = units_of({text: text for text in (*alone, *read)})
            for _ in vectors.batches(units, lambda unit: unit.row_key, _vectors, 8192):
                pass
            bits = SETTINGS.late_interaction.bits
            settings = digest_of(STORAGE_VERSION, identity, bits)
            tokens = work.rows("tokens_document", settings, TOKENS, family="*")
            for _ in tokens.batches(read, text_key, _tokens, 4096):
                pass
            self.store.publish("rows", "a", folder, data_version="d", facts={}, inputs={})

    def bundle(self, nodes: str) -> str:
        """Build a version's bundle; return its digest."""
        with self.store.staging("bundle") as folder:
            work = Workspace(self.store, "bundle", folder)
            bundle = BundleStore(self.store).build(
                nodes, self.configuration, self.models, {}, self.folder / f"{nodes}.parquet",
                {}, SETTINGS, work,
            )  # fmt: skip
        (self.folder / f"{nodes}.txt").write_text(bundle.digest, encoding="utf-8")
        return bundle.digest

    def searcher(self, nodes: str, before: Searcher | None = None) -> Searcher:
        """Load a version's bundle."""
        digest = (self.folder / f"{nodes}.txt").read_text(encoding="utf-8")
        return Searcher(BundleStore(self.store).load(digest), SETTINGS.compute, before)

    def questions(self, number: int) -> list[str]:
        """Return the middles of some passages."""
        texts = read_table(self.folder / "nodes.parquet", ["text"]).column("text")
        step = max(1, len(texts) // number)
        return [" ".join(texts[at * step].as_py().split()[9:20]) for at in range(number)]

    def evaluate(self) -> None:
        """Measure the systems, trained ones among them, on some questions."""
        texts = self.questions(EVALUATED)
        names = [f"q{number}" for number in range(EVALUATED)]
        with self.store.staging("evaluation") as staged:
            work = Workspace(self.store, "evaluation", staged)
            nodes = Nodes(self.folder / "nodes.parquet")
            trial = Trial.of("scale", nodes, self.models, SETTINGS, work)
            none: list[dict[int, int]] = [{0: 1} for _ in names]
            trial.measure(QuestionSet("asked", names, texts, names, [False] * len(names), none))

    def serve(self, switch: bool) -> dict[str, float]:
        """Ask some questions; then ask them again, or switch to the next bundle and ask it."""
        searcher, questions = self.searcher("nodes"), self.questions(ASKED)
        for question in questions:
            searcher.search(question)
        start, cpu = time.perf_counter(), time.process_time()
        if switch:
            after = self.searcher("edited", searcher)
            taken = time.process_time() - cpu
            after.search(questions[0])
            return {"switch_cpu_seconds": taken}
        for question in questions:
            searcher.search(question)
        return {"question_ms": (time.perf_counter() - start) * 1000 / ASKED}


def _vectors(units: Sequence[Any]) -> pa.Table:
    drawn = np.random.default_rng(len(units[0].text)).normal(size=(len(units), WIDTH))
    keys = [unit.row_key for unit in units]
    return vectors_table(keys, keys, normalise_rows(drawn))


def _tokens(texts: Sequence[str]) -> pa.Table:
    size = TOKENS_A_CHUNK * WIDTH * SETTINGS.late_interaction.bits // 8
    drawn = np.random.default_rng(len(texts)).integers(0, 256, (len(texts), size), np.uint8)
    codes = [row.tobytes() for row in drawn]
    keys = [text_key(text) for text in texts]
    return pa.table([keys, [TOKENS_A_CHUNK] * len(texts), codes], schema=TOKENS)


def run(bench: Bench, stage: str) -> dict[str, float]:
    """Run a stage; return its own figures."""
    before, digest = disk_use(bench.folder), ""
    if stage == "rows":
        bench.rows()
    elif stage == "bundle":
        digest = bench.bundle("nodes")
    elif stage == "next bundle":
        digest = bench.bundle("edited")
    elif stage == "evaluation":
        bench.evaluate()
    else:
        return bench.serve(switch=stage == "switch")
    return {"written": (disk_use(bench.folder) - before) / 1e6} if digest else {}


def peak_of_own(done: threading.Event, found: list[int]) -> None:
    """Watch this process's anonymous memory, in bytes."""
    while not done.wait(0.02):
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        line = next(line for line in lines if line.startswith("RssAnon"))
        found[0] = max(found[0], int(line.split()[1]) * 1024)


def stage_alone(folder: Path, stage: str) -> int:
    """Run a stage in this process and print what it took."""
    done, own = threading.Event(), [0]
    watching = threading.Thread(target=peak_of_own, args=(done, own))
    watching.start()
    figures = run(Bench(folder), stage)
    done.set()
    watching.join()
    used = resource.getrusage(resource.RUSAGE_SELF)
    figures |= {"cpu_seconds": used.ru_utime + used.ru_stime, "peak": peak_bytes() / 1e9}
    print(json.dumps(figures | {"anonymous": own[0] / 1e9}))
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--work", type=Path, default=Path(".ragft/benchmarks/scale_serving"))
    parser.add_argument("--stage", nargs=2)
    options = parser.parse_args()
    if options.stage:
        return stage_alone(Path(options.stage[0]), options.stage[1])
    results = Results("scale_serving")
    for size in options.sizes:
        folder = (options.work / f"{size}").resolve()
        shutil.rmtree(folder, ignore_errors=True)
        Bench(folder).prepare(size)
        for stage in STAGES:
            done = subprocess.run(
                [sys.executable, "-m", "benchmarks.scale_serving", "--stage", str(folder), stage],
                cwd=ROOT, env={**os.environ, "HF_HUB_OFFLINE": "1"}, stdout=subprocess.PIPE,
                text=True, check=True,
            )  # fmt: skip
            for name, value in json.loads(done.stdout.splitlines()[-1]).items():
                bar = MEMORY / 1e9 if name == "anonymous" else None
                results.add(f"{size}/{stage}/{name}", value, UNITS[name], at_most=bar)
                print(f"{size:9,} {stage:12} {name:20} {value:10.3f} {UNITS[name]}", flush=True)
        results.keep_others()
        results.save()
        shutil.rmtree(folder)
    return results.finish()


if __name__ == "__main__":
    raise SystemExit(main())
