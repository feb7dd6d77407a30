"""Does the router find the right tools, is it honest about it, and is it fast with very many?

    python -m benchmarks.router FOLDER [FOLDER …] [--tools N] [--questions N]

Each folder holds `docs/` and `queries.jsonl`; the pipeline runs on it up to the evaluation of
routing. Then the last folder's router chooses among 10, 100 and N tools: real ones, and N made by
permuting the parts of real descriptions (a made-up tool's vector is the sum of its parts' own). At
10 and 100 stand beside it LlamaIndex's embedding selector and its LLM selector with the embedded
SmolLM2.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.results_file import Results
from ragft_pipeline.corpus.snapshots import SnapshotStore
from ragft_pipeline.lineage.steps import materialize
from ragft_pipeline.recipes import RECIPES, router_eval
from ragft_pipeline.retrieval.encoder import Kind
from ragft_pipeline.settings import Settings, load_settings
from ragft_pipeline.store import ArtifactStore

_SEED = 13
_REPEATS = 200


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--store", type=Path, default=Path(".ragft/benchmarks"))
    parser.add_argument("--tools", type=int, default=1_000_000)
    parser.add_argument("--questions", type=int, default=5, help="that the LLM selector is asked")
    parser.add_argument("--scale-only", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.scale_only:
        settings = of_folder(options.folders[-1], options.store)
        print(json.dumps(many_tools(settings, options.tools)))
        return 0
    results = Results("router")
    for folder in options.folders:
        quality(folder, of_folder(folder, options.store), results)
    settings = of_folder(options.folders[-1], options.store)
    print("\n## One question at a time\n")
    print("| tools | selector | right first | p50 ms | p95 ms |\n|---|---|---|---|---|")
    for number in (10, 100):
        few_tools(settings, number, options.questions, results)
    # a process of its own, so that its memory is nobody else's
    command = [sys.executable, "-m", "benchmarks.router", str(options.folders[-1]), "--scale-only"]
    command += ["--store", str(options.store), "--tools", str(options.tools)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    p50, p95, memory = (found[name] for name in ("p50_ms", "p95_ms", "gigabytes"))
    print(f"| {options.tools:,} | router | | {p50:.1f} | {p95:.1f} |")
    print(
        f"\n{options.tools:,} tools: peak memory {memory:.2f} GB, index built in "
        f"{found['seconds']:.0f} s, the best exact tool among the candidates in "
        f"{found['recall']:.1%} of questions"
    )
    results.add("many/p50_ms", p50, "ms")
    results.add("many/p95_ms", p95, "ms", at_most=50)
    results.add("many/gigabytes", memory, "GB", at_most=3.0)
    results.add("many/best_found", found["recall"], "share", at_least=0.98)
    return results.finish()


def of_folder(folder: Path, store: Path) -> Settings:
    """Return the settings of a run on one folder."""
    settings = load_settings()
    corpus = settings.corpus.model_copy(update={"source": str(folder)})
    return settings.model_copy(update={"corpus": corpus, "store": str(store / folder.name)})


def quality(folder: Path, settings: Settings, results: Results) -> None:
    """Run the pipeline up to the evaluation of routing, and print what it says."""
    from ragft_pipeline.routing.summary import RoutingRows, routing_sentences, routing_table
    from ragft_pipeline.routing.verdict import decide

    store = ArtifactStore(settings.store)
    version = SnapshotStore(store).freeze(settings, print).version
    for recipe in RECIPES:
        if recipe.name in needed():
            materialize(recipe, settings, version, lambda line: print(line, flush=True))
    rows = RoutingRows(store.read(version, "router_eval").table(), settings.evaluation)
    sets = [rows.of_set(name) for name in rows.sets]
    kinds = rows.kinds()
    print(f"\n## Routing on {folder.name}\n")
    header, *lines = routing_table(sets)
    for line in (header, ["---"] * len(header), *lines):
        print(f"| {' | '.join(line)} |")
    for sentence in (*decide(rows, settings.gate).lines, *routing_sentences(sets, kinds)):
        print(f"\n{sentence}")
    for one in sets:
        name, bars = f"{folder.name}/{one.question_set}", one is sets[0]
        results.add(f"{name}/recall_gain", one.recall_gain.mean, "recall@1")
        low = 0.0 if bars else None
        results.add(f"{name}/recall_gain_low", one.recall_gain.low, "recall@1", at_least=low)
        results.add(f"{name}/regret_gain", one.regret_gain.mean, "nDCG@10")
        results.add(f"{name}/regret_gain_low", one.regret_gain.low, "nDCG@10", at_least=low)
        least = -0.01 if bars else None
        results.add(f"{name}/change_to_all", one.change_to_all.mean, "nDCG@10", at_least=least)
        results.add(f"{name}/abstained", one.abstained, "share")
        most = 0.05 if bars else None
        results.add(f"{name}/calibration_error", one.calibration_error, "share", at_most=most)
        results.add(f"{name}/binned_error", one.binned_error, "share")
        results.add(f"{name}/brier", one.brier, "squared error")
    results.add(f"{folder.name}/kinds/macro_f1", kinds.macro_f1, "F1")


def needed() -> set[str]:
    """Return the assets that the evaluation of routing comes from."""
    by_name = {recipe.name: recipe for recipe in RECIPES}
    found, waiting = set(), [router_eval.name]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += by_name[name].inputs
    return found


class Measured:
    """The router, documents and people's questions of a store that has been measured."""

    def __init__(self, settings: Settings) -> None:
        from ragft_pipeline.retrieval.encoder import Encoder
        from ragft_pipeline.retrieval.late_interaction import LateInteraction
        from ragft_pipeline.retrieval.reranking import PairScorer, Reranker
        from ragft_pipeline.routing.catalog import tool_documents
        from ragft_pipeline.routing.choosing import LATE_INTERACTION, RERANKER
        from ragft_pipeline.routing.router import Router

        store = ArtifactStore(settings.store)
        version = SnapshotStore(store).versions()[-1]
        self.store = store
        self.encoder = Encoder.base(settings.embedder, settings.compute)
        folder = store.read(version, "query_router").model
        self.router = Router.load(folder, self.encoder.weights.digest)
        self.documents = tool_documents(store.read(version, "chunked_nodes").table())
        self.catalog = store.read(version, "tool_catalog").table()
        named = self.router.second_opinion
        self.scorer: PairScorer | None = None
        if named == RERANKER:
            model = store.read(version, named).model
            self.scorer = Reranker(model, settings.reranker, settings.compute)
        elif named == LATE_INTERACTION:
            model = store.read(version, named).model
            self.scorer = LateInteraction.load(model, settings.embedder, settings.compute)
        gold = store.read(version, "gold_questions").table().to_pylist()
        draw = np.random.default_rng(_SEED)
        self.gold = [gold[i] for i in draw.permutation(len(gold))]

    def encode(self, texts: Sequence[str], kind: Kind) -> np.ndarray:
        """Return base vectors of texts; of a question by one thread, as in serving."""
        import torch

        torch.set_num_threads(1 if len(texts) == 1 else 2)
        return self.encoder.encode(texts, kind)


def few_tools(settings: Settings, number: int, asked: int, results: Results) -> None:
    """Time the router and LlamaIndex's selectors among some real tools, and count hits."""
    from llama_index.core.selectors import EmbeddingSingleSelector, LLMSingleSelector
    from llama_index.core.tools import ToolMetadata
    from llama_index.embeddings.huggingface import HuggingFaceEmbedding

    from benchmarks.embedded_llm import EmbeddedLLM
    from ragft_pipeline.routing.catalog import describing
    from ragft_pipeline.routing.tool_index import ToolIndex
    from ragft_pipeline.routing.tool_router import ToolRouter
    from ragft_pipeline.store import Workspace

    measured = Measured(settings)
    named = [row["doc_key"] for row in measured.gold]
    keys = list(dict.fromkeys([*named, *(one.doc_key for one in measured.documents)]))[:number]
    documents = [one for one in measured.documents if one.doc_key in set(keys)]
    questions = [row for row in measured.gold if row["doc_key"] in set(keys)]
    with measured.store.staging("benchmark") as folder:
        work = Workspace(measured.store, "router_eval", folder)
        index = ToolIndex.of(documents, measured.catalog, 0, measured.encoder, work)
    tools = ToolRouter(measured.router, index, measured.encode, measured.scorer)
    descriptions = describing(measured.catalog)
    choices = [ToolMetadata(name=k, description=descriptions[k]) for k in index.doc_keys]
    embedding = HuggingFaceEmbedding(model_name=str(measured.encoder.weights.folder))
    plain, llm = EmbeddingSingleSelector(embedding), LLMSingleSelector.from_defaults(EmbeddedLLM())
    selectors: dict[str, tuple[int, Callable[[str], int]]] = {
        "router": (min(_REPEATS, len(questions)), lambda q: tools.route(q).tools[0][0]),
        "LlamaIndex, embedding": (20, lambda q: plain.select(choices, q).selections[0].index),
        "LlamaIndex, SmolLM2": (asked, lambda q: llm.select(choices, q).selections[0].index),
    }
    for name, (limit, select) in selectors.items():
        hits, times = [], []
        for row in questions[:limit]:
            start = time.perf_counter()
            hits.append(chosen(select, row["question"], index.doc_keys) == row["doc_key"])
            times.append(1000 * (time.perf_counter() - start))
        p50, p95 = np.percentile(times[1:] or times, [50, 95])
        right = f"{sum(hits)} of {len(hits)}"
        print(f"| {number} | {name} | {right} | {p50:.1f} | {p95:.1f} |", flush=True)
        results.add(f"{number}/{name}/right", sum(hits) / max(1, len(hits)), "share")
        results.add(f"{number}/{name}/p50_ms", float(p50), "ms")


def chosen(select: Callable[[str], int], question: str, doc_keys: Sequence[str]) -> str:
    """Return the chosen document; nothing where the selector's answer could not be read."""
    from llama_index.core.output_parsers.base import OutputParserException

    try:
        return doc_keys[select(question)]
    except (OutputParserException, ValueError, IndexError):  # an LLM may answer anything
        return ""


def many_tools(settings: Settings, number: int) -> dict[str, Any]:
    """Route real questions among made-up tools; return times, memory and recall of candidates."""
    from ragft_pipeline.retrieval.encoder import normalise_rows
    from ragft_pipeline.retrieval.lexical import LexicalIndex
    from ragft_pipeline.routing.tool_index import ToolIndex
    from ragft_pipeline.routing.tool_router import ToolRouter

    measured = Measured(settings)
    parts = description_parts(measured)
    vectors = [measured.encoder.encode(column, "document") for column in parts]
    draw = np.random.default_rng(_SEED)
    drawn = [draw.integers(len(column), size=number) for column in parts]
    texts = [
        " ".join(column[drawn[part][tool]] for part, column in enumerate(parts))
        for tool in range(number)
    ]
    start_time = time.perf_counter()
    lexical = LexicalIndex(texts)
    lexical.scores([""])
    whole = np.empty((number, vectors[0].shape[1]), np.float16)
    for start in range(0, number, 65_536):
        block = slice(start, start + 65_536)
        whole[block] = normalise_rows(sum(v[d[block]] for v, d in zip(vectors, drawn)))
    names = np.arange(number).astype(str).tolist()
    index = ToolIndex(names, texts, whole, np.arange(number + 1), lexical)
    tools = ToolRouter(measured.router, index, measured.encode, measured.scorer)
    seconds = time.perf_counter() - start_time
    questions = [row["question"] for row in measured.gold[:_REPEATS]]
    routes, times = [], []
    for question in questions:
        begun = time.perf_counter()
        routes.append(tools.route(question))
        times.append(1000 * (time.perf_counter() - begun))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    found = [
        route.tools[0][0] == best
        for route, best in zip(routes[:50], exact_best(measured, tools, whole, questions[:50]))
    ]
    p50, p95 = np.percentile(times[5:], [50, 95])
    return {
        "p50_ms": float(p50),
        "p95_ms": float(p95),
        "gigabytes": peak,
        "seconds": seconds,
        "recall": float(np.mean(found)),
    }


def description_parts(measured: Measured) -> list[list[str]]:
    """Return what made-up tools are made of: titles, headings, beginnings of passages."""
    titles = [one.title for one in measured.documents]
    headings = [h for one in measured.documents for h in one.headings if h] or titles
    beginnings = [text[:200] for one in measured.documents for text in one.texts]
    return [sorted(set(column)) for column in (titles, headings, beginnings)]


def exact_best(
    measured: Measured, tools: Any, whole: np.ndarray, questions: Sequence[str]
) -> list[int]:
    """Return the best tool of each question with every tool scored."""
    best, documents = [], measured.router.adapter.documents
    for question in questions:
        query = measured.router.adapter.queries(measured.encode([question], "query"))
        words = tools.index.lexical.scores([question])
        dense = np.concatenate(
            [
                query @ documents(whole[start : start + 65_536].astype(np.float32)).T
                for start in range(0, len(tools), 65_536)
            ],
            axis=1,
        )
        best.append(int(measured.router.scores(dense, words).argmax()))
    return best


if __name__ == "__main__":
    raise SystemExit(main())
