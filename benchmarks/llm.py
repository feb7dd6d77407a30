"""The answering model: base against tuned, on documents that trained nothing.

    python -m benchmarks.llm FOLDER [--minutes M] [--questions N] [--store DIR]

FOLDER holds `docs/` and `queries.jsonl`. Everything up to the retrieval's evaluation is made first
and not counted; then chats, tuning and answers are timed together.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from benchmarks.results_file import Results
from ragft_pipeline import recipes
from ragft_pipeline.answering.report import answering_table, sentences
from ragft_pipeline.answering.summary import DECIDING, AnsweringSummary, summarise
from ragft_pipeline.corpus.snapshots import SnapshotStore
from ragft_pipeline.lineage.steps import materialize
from ragft_pipeline.retrieval.question_sets import SYNTHETIC
from ragft_pipeline.schemas import LLM_LOSSES
from ragft_pipeline.settings import Settings, load_settings
from ragft_pipeline.store import Artifact, ArtifactStore

ANSWERING = ("train_chats", "val_chats", "test_chats", "tuned_llm", "llm_eval")
MOST_SECONDS = 600
MOST_GUARD = 0.05


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--minutes", type=float, default=4.0, help="of training")
    parser.add_argument("--questions", type=int, default=75, help="people's; half as many chats")
    parser.add_argument("--store", type=Path, default=Path(".ragft/benchmarks/llm"))
    options = parser.parse_args()
    settings = _settings(options)
    store = ArtifactStore(settings.store)
    version = SnapshotStore(store).freeze(settings, _print).version
    made: dict[str, Artifact] = {}
    seconds = 0.0
    for recipe in recipes.RECIPES:
        if recipe.name == "eval_report":
            break
        start = time.perf_counter()
        made[recipe.name] = materialize(recipe, settings, version, _print).artifact
        seconds += time.perf_counter() - start if recipe.name in ANSWERING else 0.0
    evaluated = made["llm_eval"]
    summary = summarise(evaluated.table(), evaluated.table(LLM_LOSSES.name), settings)
    assert summary is not None
    return _report(summary, made, seconds)


def _settings(options: argparse.Namespace) -> Settings:
    settings = load_settings()
    parts = {
        "corpus": settings.corpus.model_copy(update={"source": str(options.folder)}),
        "tuned_llm": settings.tuned_llm.model_copy(
            update={
                "budget": settings.tuned_llm.budget.model_copy(update={"minutes": options.minutes}),
                "evaluations": 2,
                "val_chats": 12,
                "max_guard_loss": MOST_GUARD,
            }
        ),
        "chats": settings.chats.model_copy(update={"rephrased": 160, "max_chats": 3000}),
        "llm_eval": settings.llm_eval.model_copy(
            update={
                "max_questions": options.questions,
                "max_synthetic": options.questions // 2,
                "perplexity_texts": 12,
            }
        ),
        "store": str(options.store / options.folder.name),
    }
    return settings.model_copy(update=parts)


def _report(summary: AnsweringSummary, made: dict[str, Artifact], seconds: float) -> int:
    results = Results("llm")
    head, *rows = answering_table(summary)
    print(f"\n| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for row in rows:
        print(f"| {' | '.join(row)} |")
    print()
    facts = {**made["tuned_llm"].facts, **made["llm_eval"].facts}
    for sentence in sentences(summary, facts):
        print(sentence)
    print(
        f"{facts['steps']} steps, {facts['train_seconds']:.0f} s of training, strength "
        f"{facts['strength']}; chats, tuning and answers took {seconds:.0f} s."
    )
    for one in (*summary.measures, *summary.perplexities):
        name, difference = f"{one.question_set}/{one.name}", one.difference
        results.add(f"{name}/base", one.base, one.name)
        results.add(f"{name}/tuned", one.tuned, one.name)
        results.add(f"{name}/difference", difference.mean, one.name)
        bar = 0.0 if one.name == DECIDING and one.question_set != SYNTHETIC else None
        results.add(f"{name}/difference_low", difference.low, one.name, at_least=bar)
        results.add(f"{name}/difference_high", difference.high, one.name)
    results.add("guard_change", summary.guard_change, "share", at_most=MOST_GUARD)
    results.add("seconds", seconds, "s", at_most=MOST_SECONDS)
    return results.finish()


def _print(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
