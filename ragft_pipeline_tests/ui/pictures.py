"""`make pictures`: the pictures of README and docs, of the sample handbook as a newcomer gets it.

What `make demo` made is brought up to date first, so that nothing runs while pictures are taken.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import requests

from ragft_pipeline import Corpus
from ragft_pipeline.cli import main as ragft
from ragft_pipeline.corpus.snapshots import SnapshotStore
from ragft_pipeline.defs.running import open_instance
from ragft_pipeline.defs.status_table import current_status
from ragft_pipeline.evaluation.report import REPORT_FILE
from ragft_pipeline.store import ArtifactStore
from ragft_pipeline.store.remote import absolute
from ragft_pipeline_tests.conftest import ROOT
from ragft_pipeline_tests.serving.conftest import serving_process
from ragft_pipeline_tests.ui.pages import Pages, browse
from ragft_pipeline_tests.ui.served import ServedUI

SAMPLE = ROOT / "data" / "sample"
GROUPS = ("corpus", "datasets", "models", "answering", "routing", "evaluation", "release")
ASKED = 120  # questions of which the one is shown that the champion answers most differently


def main() -> int:
    """Take all pictures into docs/pictures; say which."""
    os.chdir(ROOT)
    if ragft(["run", "--corpus", str(SAMPLE)]):
        return 1
    corpus = Corpus.here()
    settings = corpus.settings
    folder = ROOT / "docs" / "pictures"
    store = ArtifactStore(settings.store)
    version = SnapshotStore(store).current()
    assert version is not None
    report = store.read(version.version, "eval_report").path / REPORT_FILE
    with TemporaryDirectory() as logs:
        log = Path(logs) / "log"
        with browse("", folder) as pages:
            _report(pages, report)
            with serving_process(store, log) as address:
                _served(pages, address)
        environment = {"RAGFT_STORE": absolute(settings.store)}
        with ServedUI(environment, log) as ui, browse(ui.address, folder) as pages:
            _dagster(pages)
            _status(pages, corpus)
    print("\n".join(str(path) for path in sorted(folder.glob("*.png"))))
    return 0


def _report(pages: Pages, report: Path) -> None:
    pages.page.set_viewport_size({"width": 1100, "height": 950})
    pages.open(report.as_uri(), "Which retriever to serve")
    pages.keep("report")


def _served(pages: Pages, address: str) -> None:
    """Show the question to which the champion brings the right document up furthest."""
    lines = (SAMPLE / "queries.jsonl").read_text(encoding="utf-8").splitlines()
    questions = [json.loads(line) for line in lines][:ASKED]
    rise, question = max((_rise(address, asked), asked["question"]) for asked in questions)
    if rise <= 0:
        print("serve.png shows no difference: what is served finds nothing better than untuned")
    pages.page.set_viewport_size({"width": 1400, "height": 1000})
    pages.page.goto(address)
    pages.page.get_by_label("Passages").select_option("5")
    pages.page.get_by_label("Question").fill(question)
    pages.page.get_by_role("button", name="Search").click()
    pages.page.locator("#tuned > li").nth(4).wait_for()
    pages.keep("serve")


def _rise(address: str, asked: dict[str, str]) -> float:
    query = {"question": asked["question"], "top": 20}
    found = requests.get(f"{address}/compare", params=query, timeout=60).json()

    def reciprocal_rank(side: str) -> float:
        ranks = (hit["rank"] for hit in found[side] if asked["answer_text"] in hit["text"])
        return 1 / next(ranks, 1000)

    return reciprocal_rank("champion") - reciprocal_rank("base")


def _dagster(pages: Pages) -> None:
    pages.page.set_viewport_size({"width": 1600, "height": 1000})
    pages.open("/asset-groups", *GROUPS)
    pages.keep("lineage")
    for asset in ("eval_report", "champion"):
        pages.open(f"/assets/{asset}", "ragft/ladder", "untuned hybrid")
        pages.keep(f"dagster-{asset}")


def _status(pages: Pages, corpus: Corpus) -> None:
    """Show the table as it is when `evaluation` has just been changed."""
    settings = corpus.settings
    evaluation = settings.evaluation.model_copy(update={"bootstrap": 20_000})
    changed = settings.model_copy(update={"evaluation": evaluation})
    with open_instance(settings) as instance:
        for shown in (changed, settings):  # and what is true again after the picture
            event = current_status(corpus, shown)
            assert event is not None
            instance.report_runless_asset_event(event)
            if shown is changed:
                pages.page.set_viewport_size({"width": 1600, "height": 1400})
                pages.open("/assets/corpus_status", "stale (")
                with pages.entry("ragft/status") as table:
                    pages.keep("status", table)


if __name__ == "__main__":
    sys.exit(main())
