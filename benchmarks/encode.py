"""How fast texts become vectors: our encoder beside sentence-transformers' default.

    python -m benchmarks.encode FOLDER [--chunks N]

FOLDER holds `docs/` and `queries.jsonl`. Chunks and people's questions are encoded block by block
with each encoder in turn, so that whatever else the machine does strikes all of them. The rate of
the model's arithmetic stands beside the rate of a plain matrix product on the same cores.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.results_file import Results
from ragft_pipeline import recipes
from ragft_pipeline.corpus.snapshots import SnapshotStore
from ragft_pipeline.lineage.steps import materialize
from ragft_pipeline.models.devices import pick_device
from ragft_pipeline.retrieval.encoder import Encoder, normalise_rows, quiet_transformers
from ragft_pipeline.retrieval.metrics import PRIMARY, score_rankings
from ragft_pipeline.retrieval.question_sets import RelevanceIndex, gold_set
from ragft_pipeline.retrieval.search import top_k
from ragft_pipeline.settings import Settings, load_settings
from ragft_pipeline.store import ArtifactStore

PLAIN = "sentence-transformers"
TIMES, WITHIN, SAME = 2.0, 0.002, 1e-5
BLOCK, QUESTION_ROUNDS = 256, 5
GEMM = 2048


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--chunks", type=int, default=0, help="so many chunks; 0 for all")
    parser.add_argument("--dtypes", nargs="+", default=["float32", "int8"], help="of our encoder")
    parser.add_argument("--store", type=Path, default=Path(".ragft/benchmarks/encode"))
    options = parser.parse_args()
    settings = settings_for(options.folder, options.store)
    nodes, gold = tables(settings)
    nodes = nodes.slice(0, options.chunks or nodes.num_rows)
    results = Results("encode")
    print(measure(nodes, gold, encoders(settings, options.dtypes), settings, results), flush=True)
    return results.finish()


def settings_for(folder: Path, store: Path) -> Settings:
    settings = load_settings()
    corpus = settings.corpus.model_copy(update={"source": str(folder)})
    return settings.model_copy(update={"corpus": corpus, "store": str(store / folder.name)})


def tables(settings: Settings) -> tuple[pa.Table, pa.Table]:
    """Return the folder's nodes and people's questions."""
    version = SnapshotStore(ArtifactStore(settings.store)).freeze(settings, print).version
    wanted = (recipes.corpus_snapshot, recipes.chunked_nodes, recipes.gold_questions)
    _, nodes, gold = (materialize(recipe, settings, version).artifact.table() for recipe in wanted)
    return nodes, gold


@dataclass
class Timed:
    """An encoder, the seconds it took, and its vectors."""

    name: str
    encode: Callable[[list[str]], np.ndarray]
    seconds: dict[str, float] = field(default_factory=dict)
    vectors: dict[str, np.ndarray] = field(default_factory=dict)


def encoders(settings: Settings, dtypes: Sequence[str]) -> list[Timed]:
    """Return sentence-transformers and ours in each dtype, loaded and warm."""
    quiet_transformers()
    from sentence_transformers import SentenceTransformer

    def ours(dtype: str) -> Callable[[list[str]], np.ndarray]:
        compute = settings.compute.model_copy(update={"dtype": dtype})
        encoder = Encoder.base(settings.embedder, compute)
        return lambda texts: encoder.encode(texts, "document")

    pick_device(settings.compute)
    folder = Encoder.base(settings.embedder, settings.compute).weights.folder
    plain = SentenceTransformer(str(folder), device="cpu")
    timed = [Timed(PLAIN, plain.encode)]
    timed += [Timed(f"ours, {dtype}", ours(dtype)) for dtype in dtypes]
    for each in timed:
        each.encode(["loading is not timed"])
    return timed


def measure(
    nodes: pa.Table, gold: pa.Table, every: list[Timed], settings: Settings, results: Results
) -> str:
    """Time the encoders, record the figures and return the Markdown table."""
    chunks = nodes.column("text").to_pylist()
    columns = {node_id: row for row, node_id in enumerate(nodes.column("node_id").to_pylist())}
    index = RelevanceIndex(nodes, columns)
    people = gold_set("people", gold, index)
    questions, relevant = people.texts, people.relevant
    before = product_rates()
    run_in_turn(every, "chunks", chunks, 1)
    run_in_turn(every, "questions", questions, QUESTION_ROUNDS)
    rates = {name: max(rate, before[name]) for name, rate in product_rates().items()}

    lines = [
        f"\n{len(chunks)} chunks, {len(questions)} questions; {processor()}; matrix product "
        + ", ".join(f"{name} {rate:.0f} GFLOP/s" for name, rate in rates.items())
        + "\n",
        "| encoder | chunks/s | questions/s | times plain (chunks, questions) | GFLOP/s "
        "| share of the float32 product | nDCG@10 | largest difference of a coordinate |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, rate in rates.items():
        results.add(f"product/{name}", rate, "GFLOP/s")
    plain, work = every[0], floating_point_work(settings, chunks)
    quality = {e.name: ndcg(e, relevant) for e in every}
    for each in every:
        faster = {part: plain.seconds[part] / each.seconds[part] for part in each.seconds}
        speed = {part: len(each.vectors[part]) / each.seconds[part] for part in each.seconds}
        rate = work / each.seconds["chunks"]
        apart = max(float(np.abs(each.vectors[p] - plain.vectors[p]).max()) for p in speed)
        lines.append(
            f"| {each.name} | {speed['chunks']:.1f} | {speed['questions']:.0f} "
            f"| {faster['chunks']:.2f}, {faster['questions']:.2f} | {rate:.0f} "
            f"| {rate / rates['float32']:.0%} | {quality[each.name]:.4f} | {apart:.1e} |"
        )
        for part, rate_of in speed.items():
            results.add(f"{each.name}/{part}", rate_of, f"{part}/s")
            results.add(f"{each.name}/{part}/faster", faster[part], "times")
        results.add(f"{each.name}/arithmetic", rate, "GFLOP/s")
        results.add(f"{each.name}/share_of_product", rate / rates["float32"], "share")
        results.add(f"{each.name}/ndcg_at_10", quality[each.name], "nDCG@10")
        loss = abs(quality[each.name] - quality[PLAIN])
        results.add(f"{each.name}/ndcg_apart", loss, "nDCG@10", at_most=WITHIN)
        bar = SAME if each.name == "ours, float32" else None
        results.add(f"{each.name}/coordinate_apart", apart, "of 1", at_most=bar)
    best = max(plain.seconds["chunks"] / each.seconds["chunks"] for each in every)
    results.add("best/chunks/faster", best, "times", at_least=TIMES)
    return "\n".join(lines)


def run_in_turn(every: Sequence[Timed], part: str, texts: list[str], rounds: int) -> None:
    """Encode `texts` with each encoder, block by block in turn; of several rounds the mean."""
    for each in every:
        each.seconds[part] = 0.0
    found: dict[str, list[np.ndarray]] = {each.name: [] for each in every}
    for number in range(rounds):
        for start in range(0, len(texts), BLOCK):
            for each in every:
                begin = time.perf_counter()
                vectors = each.encode(texts[start : start + BLOCK])
                each.seconds[part] += (time.perf_counter() - begin) / rounds
                if number == 0:
                    found[each.name].append(vectors)
    for each in every:
        each.vectors[part] = normalise_rows(np.concatenate(found[each.name]))


def ndcg(encoder: Timed, relevant: list[Any]) -> float:
    scores = encoder.vectors["questions"] @ encoder.vectors["chunks"].T
    return float(score_rankings(top_k(scores, 100), relevant)[PRIMARY].mean())


def product_rates() -> dict[str, float]:
    """Return the GFLOP/s of a square matrix product, best of 10, by type."""
    import torch

    rates = {}
    for name in ("float32", "bfloat16"):
        matrix = torch.randn(GEMM, GEMM).to(getattr(torch, name))
        best = min(seconds_of(lambda m=matrix: m @ m) for _ in range(10))  # type: ignore[misc]
        rates[name] = 2 * GEMM**3 / best / 1e9
    return rates


def seconds_of(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def floating_point_work(settings: Settings, texts: list[str]) -> float:
    """Return the GFLOP of a BERT's linear layers and attention over the texts, without padding."""
    model = Encoder.base(settings.embedder, settings.compute).model
    bert = model.transformers_model
    weights = sum(w.numel() for name, w in bert.encoder.named_parameters() if w.dim() == 2)
    tokens = model.tokenizer(texts, truncation=True, max_length=model.max_seq_length)["input_ids"]
    lengths = np.array([len(ids) for ids in tokens], dtype=float)
    attention = 4 * bert.config.hidden_size * bert.config.num_hidden_layers * (lengths**2).sum()
    return float(2 * weights * lengths.sum() + attention) / 1e9


def processor() -> str:
    """Return the processor's name, the threads used and what vector units it has."""
    import torch

    lines = Path("/proc/cpuinfo")
    names = [
        line.split(":", 1)[1].strip()
        for line in (lines.read_text().splitlines() if lines.is_file() else ())
        if line.startswith(("model name", "flags"))
    ][:2]
    units = [flag for flag in ("avx512_bf16", "avx512_vnni", "amx_bf16") if flag in names[-1]]
    return f"{names[0]}, {torch.get_num_threads()} threads, {', '.join(units) or 'no AVX-512'}"


if __name__ == "__main__":
    raise SystemExit(main())
