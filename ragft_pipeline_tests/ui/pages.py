"""Dagster's pages in headless Chromium, as a person sees them."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect, sync_playwright

WINDOW = {"width": 1600, "height": 1000}
_FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
_PATIENCE = 60_000  # milliseconds for a page to show what it should, on two busy cores
_SETTLE = 800  # milliseconds for what still moves


class Pages:
    """One browser window on a served UI; what it shows can be kept as PNG files."""

    def __init__(self, page: Page, address: str, folder: Path) -> None:
        self.page = page
        self.address = address
        self.folder = folder
        self.faults: list[str] = []
        page.set_default_timeout(_PATIENCE)
        page.on("pageerror", lambda error: self.faults.append(str(error)))

    def open(self, path: str, *texts: str) -> None:
        """Open a page and wait until it shows every text; an error in its place fails."""
        self.page.goto(self.address + path)
        self.shows(*texts)

    def shows(self, *texts: str) -> None:
        """Wait until every text is seen, and nothing failed to render."""
        for text in texts:
            expect(self.page.get_by_text(text).first).to_be_visible(timeout=_PATIENCE)
        expect(self.page.get_by_text("can't be displayed")).to_have_count(0)
        assert self.faults == []

    @contextmanager
    def entry(self, name: str) -> Iterator[Locator]:
        """Give a metadata entry's value, in the dialog that opens where it is long."""
        row = self.page.get_by_role("row").filter(has=self.page.get_by_text(name, exact=True))
        expect(row).to_be_visible(timeout=_PATIENCE)
        link = row.get_by_text("[Show Markdown]")
        if not link.count():
            yield row
            return
        link.click()
        dialog = self.page.get_by_role("dialog")
        expect(dialog).to_contain_text(name, timeout=_PATIENCE)
        yield dialog
        dialog.get_by_role("button", name="Close").click()
        expect(dialog).to_have_count(0)

    def keep(self, name: str, part: Locator | None = None) -> None:
        """Write the window, or a part of it, as `<name>.png`."""
        self.page.wait_for_timeout(_SETTLE)
        (part or self.page).screenshot(path=self.folder / f"{name}.png")

    def keep_around(self, name: str, texts: Iterable[str], margin: int = 70) -> None:
        """Write the part of the window that holds the texts, with so many pixels around."""
        self.page.wait_for_timeout(_SETTLE)
        boxes = [self.page.get_by_text(text, exact=True).first.bounding_box() for text in texts]
        seen = [box for box in boxes if box]
        left = max(0.0, min(box["x"] for box in seen) - margin)
        top = max(0.0, min(box["y"] for box in seen) - margin)
        right = max(box["x"] + box["width"] for box in seen) + margin
        bottom = max(box["y"] + box["height"] for box in seen) + margin
        self.page.screenshot(
            path=self.folder / f"{name}.png",
            clip={"x": left, "y": top, "width": right - left, "height": bottom - top},
        )


@contextmanager
def browse(address: str, folder: Path) -> Iterator[Pages]:
    """Open a window of Chromium; a machine without it fails, as these tests are asked for."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.fail("no chromium on the PATH: install Debian's package `chromium`")
    folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=list(_FLAGS))
        try:
            context = browser.new_context(viewport=WINDOW, locale="en-GB", timezone_id="UTC")
            yield Pages(context.new_page(), address, folder)
        finally:
            browser.close()
