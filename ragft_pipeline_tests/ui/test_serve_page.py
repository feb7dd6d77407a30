"""The page of `ragft serve` in a browser: one question, both sides, and documents as mere text."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ragft_pipeline.store import ArtifactStore
from ragft_pipeline_tests.serving.conftest import (
    ADAPTED,
    PUMP,
    make_bundle,
    noisy_adapter,
    serve,
    serving_process,
)

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.ui

HOSTILE = 'Pump <img src="x" onerror="document.title=1"> <script>document.title=2</script> &amp;'
WINDOW = {"width": 1400, "height": 1000}
PATIENCE = 60_000  # milliseconds


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("page")
    store = ArtifactStore(folder / "store")
    serve(store, make_bundle(store, "pump", [*PUMP, HOSTILE], ADAPTED, noisy_adapter(folder)))
    with serving_process(store, folder / "log") as address:
        yield address


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.fail("no chromium on the PATH: install Debian's package `chromium`")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-gpu"]
        )
        try:
            page = browser.new_context(viewport=WINDOW, locale="en-GB").new_page()  # type: ignore[arg-type]
            page.set_default_timeout(PATIENCE)
            yield page
        finally:
            browser.close()


@pytest.fixture(scope="module")
def screenshots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = Path(os.environ.get("RAGFT_SCREENSHOTS") or tmp_path_factory.mktemp("screenshots"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder.resolve()


def test_a_question_is_answered_on_both_sides(page: Page, address: str, screenshots: Path) -> None:
    faults, requests = [], []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda said: faults.append(said.text) if said.type == "error" else None)
    page.on("request", lambda request: requests.append(request.url))
    page.goto(address)
    page.get_by_label("Question").fill("how often is the strainer of the pump cleaned?")
    page.get_by_role("button", name="Search").click()
    base, champion = page.locator("#base > li"), page.locator("#tuned > li")
    champion.nth(len(PUMP)).wait_for()
    assert base.count() == champion.count() == len(PUMP) + 1
    assert PUMP[0] in base.first.inner_text()
    changes = {text.split()[0] for text in page.locator("#tuned .change").all_inner_texts()}
    assert changes >= {"▲", "▼"}
    assert HOSTILE in page.locator("#tuned").inner_text()
    assert page.locator("li img, li script").count() == 0
    assert page.title() == "ragft: untuned and champion"
    champion.first.hover()
    assert page.locator("li.same-passage").count() == 2
    page.screenshot(path=screenshots / "serve-page.png")
    page.emulate_media(color_scheme="dark")
    page.screenshot(path=screenshots / "serve-page-dark.png")
    page.set_viewport_size({"width": 420, "height": 900})
    page.screenshot(path=screenshots / "serve-page-narrow.png")
    page.set_viewport_size(WINDOW)  # type: ignore[arg-type]
    page.get_by_label("Passages").select_option("5")
    page.get_by_role("button", name="Search").click()
    champion.nth(5).wait_for(state="detached")
    assert base.count() == champion.count() == 5
    assert {url.startswith(address) for url in requests} == {True}
    assert faults == []
