"""The page of `ragft label` in a browser: judged by keyboard alone, two pages, untrusted text."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ragft_pipeline.corpus.snapshots import SnapshotStore
from ragft_pipeline.retrieval.question_sets import SERVED
from ragft_pipeline_tests.conftest import Project
from ragft_pipeline_tests.labelling.conftest import (  # noqa: F401
    ASKED,
    Handbook,
    handbook,
    labelling,
    labelling_process,
    made_handbook,
)

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.ui

WINDOW = {"width": 1400, "height": 1000}
PATIENCE = 60_000  # milliseconds


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.fail("no chromium on the PATH: install Debian's package `chromium`")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-gpu"]
        )
        yield browser
        browser.close()


def opened(browser: Browser, address: str, who: str, faults: list[str]) -> Page:
    page = browser.new_context(viewport=WINDOW, locale="en-GB").new_page()  # type: ignore[arg-type]
    page.set_default_timeout(PATIENCE)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda said: faults.append(said.text) if said.type == "error" else None)
    page.add_init_script(f"localStorage.setItem('who', {json.dumps(who)})")
    page.goto(address)
    page.locator("#passages > li").first.wait_for()
    return page


def another_question(page: Page, before: str) -> None:
    page.wait_for_function(
        "old => document.getElementById('question').textContent !== old", arg=before
    )


def test_questions_are_labelled_by_keyboard_alone_and_a_run_uses_them(
    browser: Browser, handbook: Handbook, tmp_path: Path  # noqa: F811
) -> None:  # fmt: skip
    folder = Path(os.environ.get("RAGFT_SCREENSHOTS") or tmp_path / "screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    number = int(os.environ.get("RAGFT_LABELLED", len(ASKED)))
    faults: list[str] = []
    with labelling_process(handbook, tmp_path / "log") as (address, _):
        page = opened(browser, address, "ada", faults)
        press = page.keyboard.press
        for place in range(number):
            before = page.locator("#question").inner_text()
            press("n" if place % 3 else "ArrowDown")
            press("m")
            page.locator("mark").first.wait_for()
            press("ArrowLeft")
            if place == 1:
                page.screenshot(path=folder / "label-page.png")
            press("Enter")
            page.locator("li[data-grade='2']").first.wait_for()
            press("Enter" if place % 2 else "r")
            another_question(page, before)
        assert "Nothing waits" in page.locator("#question").inner_text()
        press("i")
        page.keyboard.type("why is there air in the housing of a pump?")
        press("Enter")
        page.locator("#passages > li").first.wait_for()
        press("/")
        page.keyboard.type("sourdough")
        press("Enter")
        page.get_by_text("Sourdough is fed every evening").first.wait_for()
        press("a")
        page.locator("li[data-grade='2']").first.wait_for()
        press("Enter")
        page.get_by_text("Nothing waits").wait_for()
        page.emulate_media(color_scheme="dark")
        page.screenshot(path=folder / "label-page-dark.png")
    entries = handbook.entries()
    assert len(entries) == number + 1
    assert all(entry["answers"][0]["grade"] == 2 for entry in entries)  # type: ignore[index]
    version = SnapshotStore(handbook.store).freeze(handbook.settings)
    assert (version.facts["gold_questions"], version.gold_left_out) == (number + 1, [])
    assert faults == []


def test_twenty_questions_of_a_log_on_the_sample_decide_the_run_that_follows(
    browser: Browser, copied: Project, tmp_path: Path
) -> None:
    gold, log = copied.corpus / "queries.jsonl", tmp_path / "searches.jsonl"
    known = copied.artifact("gold_questions").table().column("question").to_pylist()
    asked = sorted(known)[:20]
    log.write_text("\n".join(json.dumps({"question": one}) for one in asked), encoding="utf-8")
    gold.write_text("", encoding="utf-8")
    faults: list[str] = []
    with labelling(copied.settings_file, log, tmp_path / "log") as (address, _):
        page = opened(browser, address, "ada", faults)
        for _ in asked:
            before = page.locator("#question").inner_text()
            page.keyboard.press("a")
            page.locator("li[data-grade='2']").first.wait_for()
            page.keyboard.press("r")
            another_question(page, before)
    assert faults == []
    entries = [json.loads(line) for line in gold.read_text(encoding="utf-8").splitlines()]
    assert sorted(entry["question"] for entry in entries) == asked
    run = copied.ragft_process("run")
    assert run.returncode == 0, run.stdout + run.stderr
    assert "20 of the questions were judged from pools" in run.stdout
    rows = copied.artifact("retrieval_eval").table().to_pylist()
    served = [row for row in rows if row["question_set"] == SERVED]
    assert sorted({row["question"] for row in served}) == asked
    assert all(row["unjudged_at_10"] is not None for row in served)
    assert "20 people's questions" in copied.artifact("eval_report").facts["verdict"]


def test_two_pages_at_once_lose_nothing(
    browser: Browser, handbook: Handbook, tmp_path: Path  # noqa: F811
) -> None:  # fmt: skip
    faults: list[str] = []
    with labelling_process(handbook, tmp_path / "log") as (address, _):
        pages = [opened(browser, address, who, faults) for who in ("ada", "ben")]
        for _ in range(3):
            for page in pages:
                before = page.locator("#question").inner_text()
                page.keyboard.press("a")
                page.keyboard.press("Enter")
                another_question(page, before)
        told = pages[0].request.get(f"{address}/progress").json()
    assert told["people"] == {"ada": 3, "ben": 3}
    assert sum(len(entry["judged_by"]) for entry in handbook.entries()) == 6  # type: ignore[arg-type, misc]
    assert faults == []
