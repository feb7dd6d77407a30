"""One question in serving: with the ranker, and with late interaction beside the hybrid."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median
from time import perf_counter

import numpy as np

from benchmarks.people import DEPTH
from benchmarks.results_file import Results
from ragft_pipeline.evaluation.retrievers import Models
from ragft_pipeline.evaluation.second_stages import RANKER
from ragft_pipeline.evaluation.systems import BASE, CONTEXT
from ragft_pipeline.lineage.steps import Step
from ragft_pipeline.retrieval.evidence import FIRST_STAGE, LATE_INTERACTION
from ragft_pipeline.retrieval.ranker import Ranker
from ragft_pipeline.retrieval.search import MIDDLE
from ragft_pipeline.retrieval.threads import on_one_thread
from ragft_pipeline.serving.bundle import BundleStore
from ragft_pipeline.serving.configuration import Configuration
from ragft_pipeline.serving.searcher import Searcher
from ragft_pipeline.settings import Settings

QUESTIONS = 60


def compare_latency(
    name: str,
    step: Step,
    settings: Settings,
    questions: Sequence[str],
    most: float,
    results: Results,
) -> None:
    """Time questions, turn by turn, and record the medians and their ratio."""
    retriever = CONTEXT if settings.passages.context == "on" else BASE
    weights = Ranker.prior((*FIRST_STAGE, LATE_INTERACTION)).weights
    models = Models(late_interaction=step.artifact("late_interaction").model)
    bundles = BundleStore(step.store)
    with_ranker, hybrid = (
        Searcher(
            bundles.build(
                step.version, configuration, models, {},
                step.artifact("chunked_nodes").table_path(), {},
                settings, step.work,
            ),
            settings.compute,
        )
        for configuration in (
            Configuration(retriever, MIDDLE, RANKER, weights), Configuration(retriever, MIDDLE)
        )
    )  # fmt: skip
    late = with_ranker.scorers[LATE_INTERACTION]
    read = dict(zip(with_ranker.node_ids, with_ranker.read))

    def reordered(question: str) -> list[str]:
        hits = hybrid.search(question, DEPTH)
        scores = on_one_thread(lambda: late.score([(question, read[hit.node_id]) for hit in hits]))
        return [hits[i].node_id for i in np.argsort(-scores)]

    searches: dict[str, Callable[[str], object]] = {
        LATE_INTERACTION: reordered,
        RANKER: with_ranker.search,
    }
    times: dict[str, list[float]] = {kind: [] for kind in searches}
    for question in [*questions[:2], *questions[:QUESTIONS]]:
        for kind, search in searches.items():
            start = perf_counter()
            search(question)
            times[kind].append((perf_counter() - start) * 1000)
    medians = {kind: median(found[2:]) for kind, found in times.items()}
    for kind, found in medians.items():
        results.add(f"{name}/p50/{kind}", found, "ms")
    ratio = medians[RANKER] / medians[LATE_INTERACTION]
    print(f"a question, p50: {medians}, {ratio:.2f} times", flush=True)
    results.add(f"{name}/p50_ratio", ratio, "times", at_most=most)
