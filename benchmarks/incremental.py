"""Is only the stale computed again, and what does following a change cost?

    python -m benchmarks.incremental [django] [edited] [noop] [--eval FOLDER] [--documents N]

django  Django's documentation at two releases: what v2 computed, held against what is new in it.
edited  1,104 documents of which 1 in 100 is edited: seconds of the data assets, warm and cold.
noop    `ragft run` on a store where everything is up to date.

Without a name all three run; the figures of those left out stay as they were.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

from benchmarks.content import Unit, recording, units_by_asset
from benchmarks.question_server import answering
from benchmarks.results_file import RESULTS, Results
from ragft_pipeline.corpus.snapshots import SnapshotStore
from ragft_pipeline.lineage.steps import materialize
from ragft_pipeline.models.language_model import model_folder
from ragft_pipeline.models.weights import resolve_weights
from ragft_pipeline.recipes import RECIPES
from ragft_pipeline.settings import ExtractiveGenerator, LLMGenerator, Settings, load_settings
from ragft_pipeline.store import ArtifactStore, Link
from ragft_pipeline_tests.conftest import make_project

NAMES = [recipe.name for recipe in RECIPES]
DATA = RECIPES[: NAMES.index("log_scores") + 1]
KINDS = {
    "cut": "documents cut into nodes",
    "ask": "nodes a language model is asked about",
    "draft": "nodes with extractive questions",
    "document": "node texts embedded",
    "query": "questions embedded",
}
WARM_SHARE, NOOP_SECONDS = 0.02, 20.0


def main() -> int:
    parts = {"django": django, "edited": edited, "noop": noop}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*parts, []], help="default: all")
    parser.add_argument("--eval", type=Path, default=Path("../shared/eval"))
    parser.add_argument("--documents", type=int, default=0, help="of django's; 0: all")
    options = parser.parse_args()
    chosen = options.parts or list(parts)
    results = Results("incremental")
    keep_figures(results, set(parts) - set(chosen))
    os.environ.setdefault("OPENAI_API_KEY", "none")
    for name in chosen:
        with tempfile.TemporaryDirectory() as folder:
            parts[name](Path(folder), options, results)
    return results.finish()


def keep_figures(results: Results, parts: set[str]) -> None:
    """Take over what an earlier run found in parts that do not run this time."""
    file = RESULTS / f"{results.name}.json"
    if file.is_file():
        found = json.loads(file.read_text(encoding="utf-8"))
        figures = found["figures"].items()
        results.figures |= {name: figure for name, figure in figures if name.split("/")[0] in parts}
        results.shortfalls += [s for s in found["shortfalls"] if s.split("/")[0] in parts]


def settings_for(folder: Path, store: Path) -> Settings:
    """Return the settings in ragft.yaml for another corpus and store."""
    settings = load_settings()
    corpus = settings.corpus.model_copy(update={"source": str(folder), "gold_questions": None})
    return settings.model_copy(update={"corpus": corpus, "store": str(store)})


class Made(NamedTuple):
    """What one pass over the data assets gave."""

    version: str
    freeze_seconds: float
    links: dict[str, Link]


def make_data_assets(settings: Settings) -> Made:
    """Freeze the documents and make all data assets of the version."""
    start = time.monotonic()
    version = SnapshotStore(ArtifactStore(settings.store)).freeze(settings).version
    seconds = time.monotonic() - start
    links = {recipe.name: materialize(recipe, settings, version, say).link for recipe in DATA}
    return Made(version, seconds, links)


def say(line: str) -> None:
    """Print progress with the time of day."""
    print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)


def django(folder: Path, options: argparse.Namespace, results: Results) -> None:
    """Make v1, then v2: with the statistics of v1, and as the settings renew them."""
    source, corpus, store = options.eval / "django-versioned", folder / "corpus", folder / "store"
    renewal = load_settings().statistics.refresh_share
    with answering() as server, recording(server) as done:
        llm = LLMGenerator(
            model="scripted", base_url=server.url, share_of_nodes=1.0, max_nodes=0, concurrency=8
        )
        settings = settings_for(corpus, store)
        questions = settings.questions.model_copy(
            update={"generators": (ExtractiveGenerator(), llm)}
        )
        settings = settings.model_copy(update={"questions": questions})
        put_documents(source / "v1" / "docs", corpus, options.documents)
        start = time.monotonic()
        made = make_data_assets(settings)
        results.add("django/v1/data_assets", time.monotonic() - start, "s")
        before = units_by_asset(corpus, ArtifactStore(store), made.version, questions)
        compare("django/v1", before, {}, done(), made, results)
        put_documents(source / "v2" / "docs", corpus, options.documents)
        for name, share in (("v2_statistics_kept", 1.0), ("v2", renewal)):
            copy = folder / name
            shutil.copytree(store, copy)
            statistics = settings.statistics.model_copy(update={"refresh_share": share})
            changed = settings.model_copy(update={"store": str(copy), "statistics": statistics})
            start = time.monotonic()
            made = make_data_assets(changed)
            results.add(f"django/{name}/data_assets", time.monotonic() - start, "s")
            anchor = made.links["corpus_statistics"].facts["statistics_of"]
            say(f"refresh_share {share}: {made.version} uses the statistics of {anchor}")
            after = units_by_asset(corpus, ArtifactStore(copy), made.version, questions)
            compare(f"django/{name}", after, before, done(), made, results)


def put_documents(source: Path, target: Path, number: int) -> None:
    """Put the first `number` documents by name (0: all) in place of those in `target`."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    for file in sorted(source.iterdir())[: number or None]:
        shutil.copyfile(file, target / file.name)


def compare(
    name: str,
    after: Mapping[str, set[Unit]],
    before: Mapping[str, set[Unit]],
    done: Counter[Unit],
    made: Made,
    results: Results,
) -> None:
    """Hold the work done, and the pipeline's own counters, against what is new in the content."""
    had = set[Unit]().union(*before.values())
    known, counters_off = set(had), 0
    for recipe in DATA:
        new = after.get(recipe.name, set()) - known
        known |= new
        counters_off += abs(made.links[recipe.name].facts.get("rows_computed", 0) - len(new))
    needed = set[Unit]().union(*after.values())
    new = needed - had
    print(f"\n## {name}\n\n| | before | now | new | done |\n|---|---|---|---|---|")
    for kind, words in KINDS.items():
        counts = [sum(unit[0] == kind for unit in units) for units in (had, needed, new)]
        times = sum(n for unit, n in done.items() if unit[0] == kind)
        print(f"| {words} | {counts[0]} | {counts[1]} | {counts[2]} | {times} |")
        results.add(f"{name}/{kind}/new", counts[2], words)
        results.add(f"{name}/{kind}/done", times, words)
    print(flush=True)
    again = sum(n for unit, n in done.items() if unit[0] == "ask" and unit not in new)
    calls = sum(link.facts.get("llm_calls", 0) for link in made.links.values())
    asked = sum(n for unit, n in done.items() if unit[0] == "ask")
    # A unit that is not new, is done twice or not done at all counts once each.
    wrong = sum((done - Counter(new)).values()) + sum((Counter(new) - done).values())
    results.add(f"{name}/not_exact", wrong, "units", at_most=0)
    results.add(f"{name}/calls_for_unchanged_nodes", again, "calls", at_most=0)
    results.add(f"{name}/counters_off", counters_off + abs(calls - asked), "units", at_most=0)


def edited(folder: Path, options: argparse.Namespace, results: Results) -> None:
    """Edit 1 document in 100, in the process of the cold pass; edit others for a fresh process.

    The bar is on the ratio within one process. What a fresh one pays on top, above all for
    importing torch, does not shrink with the change; it is recorded, and has no bar.
    """
    corpus = folder / "corpus"
    put_documents(options.eval / "cmrc2018" / "docs", corpus, 0)
    settings = settings_for(corpus, folder / "store")
    with fresh_process() as process:  # once a machine, so not a part of what cold costs
        process.submit(unpack_language_models, settings).result()
    with fresh_process() as process:
        cold, cold_seconds = timed_pass(process, settings)
        number = edit(corpus, 50)
        warm, _ = timed_pass(process, settings)
    edit(corpus, 20)
    with fresh_process() as process:
        again, again_seconds = timed_pass(process, settings)
    results.add("edited/documents", len(list(corpus.iterdir())), "documents")
    results.add("edited/changed", number, "documents")
    print("\n| data asset | cold, s | warm, s | share | warm in a fresh process, s |")
    print("|---|---|---|---|---|")
    passes = {"cold": cold, "warm": warm, "fresh": again}
    for name in cold.links:
        seconds = {key: made.links[name].seconds for key, made in passes.items()}
        print_row(name, *seconds.values())
        for key, value in seconds.items():
            results.add(f"edited/{name}/{key}", value, "s")
    sums = [sum(link.seconds for link in made.links.values()) for made in passes.values()]
    print_row("**data assets**", *sums)
    print_row("freeze", *(made.freeze_seconds for made in passes.values()))
    print(f"\nwhole process: cold {cold_seconds:.1f} s, fresh {again_seconds:.1f} s\n", flush=True)
    for key, total in zip(passes, sums):
        results.add(f"edited/data_assets/{key}", total, "s")
    results.add("edited/data_assets/share", sums[1] / sums[0], "warm/cold", at_most=WARM_SHARE)
    results.add("edited/data_assets/fresh_share", sums[2] / sums[0], "warm/cold")
    results.add("edited/process/fresh_share", again_seconds / cold_seconds, "warm/cold")


def edit(corpus: Path, first: int) -> int:
    """Append a sentence to every hundredth document; return how many."""
    files = sorted(corpus.iterdir())[first::100]
    for file in files:
        text = file.read_text(encoding="utf-8")
        file.write_text(f"{text}\n\n{file.stem}的条目在本周作了修订。\n", encoding="utf-8")
    return len(files)


def fresh_process() -> ProcessPoolExecutor:
    """Return one new interpreter, which has imported nothing heavy."""
    spawn = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(max_workers=1, mp_context=spawn)


def unpack_language_models(settings: Settings) -> None:
    """Do what the first use of an embedded language model does on a machine."""
    for generator in settings.questions.generators:
        if isinstance(generator, LLMGenerator) and generator.base_url is None:
            model_folder(resolve_weights(generator.model))


def timed_pass(process: ProcessPoolExecutor, settings: Settings) -> tuple[Made, float]:
    """Make the data assets; return what was made and its seconds, a process's start too."""
    start = time.monotonic()
    made = process.submit(make_data_assets, settings).result()
    return made, time.monotonic() - start


def print_row(name: str, cold: float, warm: float, fresh: float) -> None:
    """Print a row of the table of seconds."""
    share = warm / max(cold, 1e-9)
    print(f"| {name} | {cold:.2f} | {warm:.2f} | {share:.3f} | {fresh:.2f} |")


def noop(folder: Path, options: argparse.Namespace, results: Results) -> None:
    """Run the whole graph on a small corpus by the command line, twice."""
    project = make_project(folder)
    print("\n| `ragft run` | seconds | computed | up to date |\n|---|---|---|---|")
    before: dict[str, Link] = {}
    for name, bar in (("first", None), ("second", NOOP_SECONDS)):
        start = time.monotonic()
        run = project.ragft("run")
        seconds = time.monotonic() - start
        if run.returncode:
            raise RuntimeError(run.stdout + run.stderr)
        version = project.snapshots.versions()[-1]
        links = project.store.links(version)
        same = sum(before.get(asset) == links[asset] for asset in NAMES)
        print(f"| {name} | {seconds:.1f} | {len(NAMES) - same} | {same} |", flush=True)
        results.add(f"noop/{name}", seconds, "s", at_most=bar)
        before = links
    results.add("noop/reused", same, "assets", at_least=len(NAMES))


if __name__ == "__main__":
    raise SystemExit(main())
