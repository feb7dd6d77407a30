"""One stage of benchmarks.scale in a process of its own, so that its peak memory is its own.

    python -m benchmarks.scale_stage FOLDER STAGE

FOLDER holds `bench.json` (what `Bench` writes). Prints one line of JSON: seconds, CPU seconds, peak
bytes, and facts.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ragft_pipeline import recipes, schemas
from ragft_pipeline.corpus.snapshots import SnapshotStore
from ragft_pipeline.lineage.steps import Produced, Recipe, Step, materialize
from ragft_pipeline.settings import ExtractiveGenerator, Settings, load_settings
from ragft_pipeline.store import ArtifactStore

ENCODED = 256


@dataclass(frozen=True)
class Bench:
    """What the stages of one size share: folders, the chunk size, the stand-in model."""

    corpus: str
    store: str
    model: str
    tokens: int

    def save(self, folder: Path) -> None:
        (folder / "bench.json").write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Bench:
        return cls(**json.loads((folder / "bench.json").read_text(encoding="utf-8")))

    def settings(self, **evaluation: Any) -> Settings:
        given = load_settings()
        size = {"size": self.tokens, "overlap": self.tokens * 24 // 256}
        return given.model_copy(
            update={
                "store": self.store,
                "corpus": given.corpus.model_copy(update={"source": self.corpus}),
                "chunking": given.chunking.model_copy(update=size),
                "embedder": given.embedder.model_copy(update={"model": self.model}),
                "teacher": given.teacher.model_copy(update={"late_interaction": 0.0}),
                "questions": given.questions.model_copy(
                    update={"generators": (ExtractiveGenerator(),)}
                ),
                "evaluation": given.evaluation.model_copy(update=evaluation),
            }
        )


def _evaluate(step: Step) -> Produced:
    from ragft_pipeline.evaluation.retrieval_eval import evaluate_retrieval
    from ragft_pipeline.evaluation.retrievers import Models
    from ragft_pipeline.recipes.changes import kept_pools
    from ragft_pipeline.recipes.evaluation import evaluation_data

    data = evaluation_data(step)
    kept = kept_pools(step, data.nodes, step.settings)
    return Produced(*evaluate_retrieval(data, Models(), Models(), step.settings, step.work, kept))


EVALUATION = Recipe(
    "retrieval_eval",
    _evaluate,
    code=2,
    inputs=(
        "chunked_nodes", "node_embeddings", "train_qa_pairs", "test_qa_pairs", "gold_questions",
    ),
    sections=("evaluation", "embedder"),
    weights=("embedder",),
    table=schemas.EVAL_ROWS,
)  # fmt: skip
DATA = recipes.RECIPES[: recipes.RECIPES.index(recipes.teacher_scores) + 1]
RECIPES = {recipe.name: recipe for recipe in (*DATA, EVALUATION)}
APPROXIMATE = "retrieval_eval, approximate"
STAGES = ("freeze", *RECIPES, APPROXIMATE)
EVERYTHING, ENCODER = "everything", "encoder"


def run(bench: Bench, stage: str) -> dict[str, Any]:
    """Run a stage; return facts."""
    settings = bench.settings(exact_up_to=10**12)
    if stage == "freeze":
        return freeze(settings)
    if stage == EVERYTHING:
        return everything(settings)
    if stage == ENCODER:
        return encoder_rate(bench)
    if stage == APPROXIMATE:
        settings, stage = bench.settings(exact_up_to=1), EVALUATION.name
    version = SnapshotStore(ArtifactStore(settings.store)).versions()[-1]
    return materialize(RECIPES[stage], settings, version, say).link.facts


def freeze(settings: Settings) -> dict[str, Any]:
    facts = SnapshotStore(ArtifactStore(settings.store)).freeze(settings).facts
    return {"version": facts["version"], "documents": facts["documents"]}


def everything(settings: Settings) -> dict[str, Any]:
    """Freeze and make every stage's artifact, as a run of the pipeline would."""
    version = freeze(settings)["version"]
    say(f"freeze: {time.process_time():.1f} CPU s")
    links = []
    for recipe in RECIPES.values():
        start = time.process_time()
        links.append(materialize(recipe, settings, version, say).link)
        say(f"{recipe.name}: {time.process_time() - start:.1f} CPU s, {peak_bytes() / 1e9:.2f} GB")
    done = [link for link in links if link.how == "computed"]
    return {
        "computed": [link.asset for link in done],
        "rows_computed": sum(link.facts.get("rows_computed", 0) for link in done),
    }


def encoder_rate(bench: Bench) -> dict[str, Any]:
    """Encode some of the chunks with the real embedder."""
    from ragft_pipeline.retrieval.encoder import Encoder

    store = ArtifactStore(bench.store)
    version = SnapshotStore(store).versions()[-1]
    nodes = next(store.read(version, "chunked_nodes").reader())
    texts = nodes.column("text").slice(0, ENCODED).to_pylist()
    encoder = Encoder.base(load_settings().embedder, load_settings().compute)
    encoder.encode(texts[:8], "document")
    wall, cpu = time.perf_counter(), time.process_time()
    encoder.encode(texts, "document")
    return {
        "chunks_per_second": len(texts) / (time.perf_counter() - wall),
        "chunks_per_cpu_second": len(texts) / (time.process_time() - cpu),
    }


def peak_bytes() -> int:
    """Return the most memory this process held; ru_maxrss would count its parent's as well."""
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS


def say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)


def main() -> int:
    folder, stage = Path(sys.argv[1]), sys.argv[2]
    start = time.monotonic()
    facts = run(Bench.load(folder), stage)
    used = resource.getrusage(resource.RUSAGE_SELF)
    measured = {
        "seconds": time.monotonic() - start,
        "cpu_seconds": used.ru_utime + used.ru_stime,
        "peak_bytes": peak_bytes(),
        "facts": facts,
    }
    print(json.dumps(measured))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
