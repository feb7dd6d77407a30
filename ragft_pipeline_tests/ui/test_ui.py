"""End to end as a person has it: `ragft ui`, a file dropped in the folder, the pages in a browser.

Run by `make test-ui`: minutes of real training, and Chromium. The tests build on one another.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ragft_pipeline.recipes import RECIPES
from ragft_pipeline_tests.conftest import SMALL, Project, make_project
from ragft_pipeline_tests.ui.served import FINISHED, Run, ServedUI

if TYPE_CHECKING:
    from ragft_pipeline_tests.ui.pages import Pages

pytestmark = pytest.mark.ui

ASSETS = frozenset(recipe.name for recipe in RECIPES)
MODELS = frozenset(recipe.name for recipe in RECIPES if recipe.keep)
READ_EVALUATION = [recipe.name for recipe in RECIPES if "evaluation" in recipe.sections]
GROUPS = ("corpus", "datasets", "models", "evaluation", "release")  # beside routing, answering
RUN_SECONDS = 600  # of a whole version on two busy cores
QUIET_SECONDS = 60  # four rounds of every sensor
SENSOR_SECONDS = 15
DROPPED = """# Coffee machines

The machine on the second floor is descaled every first Monday of the month by the facilities team.
Beans are ordered from the office budget; the limit is forty euros a month for each floor.

## When it is out of order

Put the red sign on the machine and write to facilities with the number on its back.
A spare machine stands in the storage room behind the reception; its key hangs in the key box.
"""


@pytest.fixture(scope="module")
def screenshots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = os.environ.get("RAGFT_SCREENSHOTS")
    return Path(folder).resolve() if folder else tmp_path_factory.mktemp("screenshots")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = make_project(tmp_path_factory.mktemp("served"), documents=12)
    _configure(project)
    return project


def _configure(project: Project, **evaluation: int) -> None:
    project.configure(
        questions={"generators": [{"kind": "extractive"}]},
        automation={"debounce_seconds": 1},
        retrain_policy={"kind": "share_changed", "share": 0.5},
        evaluation={**SMALL["evaluation"], **evaluation},
    )


@pytest.fixture(scope="module")
def ui(project: Project, screenshots: Path) -> Iterator[ServedUI]:
    screenshots.mkdir(parents=True, exist_ok=True)
    environment = {"RAGFT_SETTINGS": str(project.settings_file)}
    with ServedUI(environment, screenshots / "ragft-ui.log") as ui:
        yield ui


@pytest.fixture(scope="module")
def first(ui: ServedUI) -> Run:
    """The run of the version that the sensor finds when the UI starts."""
    return _next_run(ui, 1)


@pytest.fixture(scope="module")
def second(ui: ServedUI, project: Project, first: Run) -> Run:
    """The run that follows a file dropped in the folder, once all has been quiet for a while."""
    (project.corpus / "docs" / "coffee-machines.md").write_text(DROPPED, encoding="utf-8")
    run = _next_run(ui, 2)
    time.sleep(QUIET_SECONDS)
    return run


@pytest.fixture(scope="module")
def third(ui: ServedUI, project: Project, second: Run) -> Run:
    """The run that follows a changed setting."""
    _configure(project, bootstrap=600)
    run = _next_run(ui, 3)
    time.sleep(2 * SENSOR_SECONDS)
    return run


def _with_all_downstream(assets: Iterable[str]) -> set[str]:
    reached = set(assets)
    for recipe in RECIPES:  # in the order of the lineage
        if reached & set(recipe.inputs):
            reached.add(recipe.name)
    return reached


def _next_run(ui: ServedUI, number: int) -> Run:
    def finished() -> Run | None:
        runs = ui.runs()
        return runs[0] if len(runs) >= number and runs[0].status in FINISHED else None

    return ui.wait_for(f"finished run {number}", finished, RUN_SECONDS)


@pytest.fixture(scope="module")
def pages(ui: ServedUI, third: Run, screenshots: Path) -> Iterator[Pages]:
    from ragft_pipeline_tests.ui.pages import browse

    with browse(ui.address, screenshots) as pages:
        yield pages


def test_first_version_comes_by_itself(ui: ServedUI, first: Run) -> None:
    assert first.status == "SUCCESS"
    assert ui.versions() == [first.version]
    assert [run.id for run in ui.runs()] == [first.id]


def test_dropped_file_starts_exactly_one_run(ui: ServedUI, first: Run, second: Run) -> None:
    assert second.status == "SUCCESS"
    assert ui.versions() == [first.version, second.version]
    assert [run.id for run in ui.runs()] == [second.id, first.id]
    assert second.tags["ragft/trigger"] == "sync"
    assert second.assets in (frozenset(), ASSETS)  # none named: the whole graph
    assert ui.failed_ticks() == []


def test_that_run_materialized_every_asset(ui: ServedUI, second: Run, project: Project) -> None:
    assert ui.materialized(second.version) == dict.fromkeys(ASSETS, second.id)
    new = project.artifact("corpus_snapshot", second.version).table().column("path").to_pylist()
    assert "coffee-machines.md" in new


def test_status_follows_without_a_run(ui: ServedUI, first: Run, second: Run) -> None:
    status = ui.status()
    assert list(status) == [second.version, first.version]
    assert _states(status[first.version]) == dict.fromkeys(ASSETS, "fresh")
    assert _states(status[second.version]) == {
        asset: "carried forward" if asset in MODELS else "fresh" for asset in ASSETS
    }


def _states(column: dict[str, str]) -> dict[str, str]:
    return {asset: re.split(r" \(|:", state)[0] for asset, state in column.items()}


def test_changed_setting_renews_the_current_version_only(
    ui: ServedUI, first: Run, second: Run, third: Run
) -> None:
    assert third.status == "SUCCESS"
    assert third.version == second.version
    assert third.assets == _with_all_downstream(READ_EVALUATION)
    assert [run.id for run in ui.runs()] == [third.id, second.id, first.id]
    status = ui.status()
    assert set(_states(status[second.version]).values()) == {"fresh", "carried forward"}
    assert _states(status[first.version]) == {
        asset: "stale" if asset in READ_EVALUATION else "fresh" for asset in ASSETS
    }


def test_lineage_page(pages: Pages) -> None:
    pages.open("/asset-groups", *GROUPS)
    pages.keep("lineage-groups")
    places = [pages.page.get_by_text(name, exact=True).last.bounding_box() for name in GROUPS]
    across = [place["x"] for place in places if place]
    assert len(across) == len(GROUPS)
    assert across == sorted(across)
    pages.page.set_viewport_size({"width": 3200, "height": 2000})  # names are shown from a size on
    pages.page.get_by_label("settings").last.click()
    pages.page.get_by_role("menuitem").filter(has_text="Change graph to vertical").click()
    pages.page.keyboard.press("Alt+e")
    pages.page.mouse.move(800, 300)  # away from the menu, which then closes
    pages.shows(*sorted(ASSETS), "corpus_status")
    pages.keep("lineage")
    pages.page.get_by_label("panel_show_right").last.click()  # hides the list of groups
    pages.page.set_viewport_size({"width": 2400, "height": 1500})
    pages.page.reload()
    pages.shows(*sorted(ASSETS), "corpus_status")
    pages.keep_around("lineage-enlarged", [*sorted(ASSETS), "corpus_status"])
    pages.page.set_viewport_size({"width": 1600, "height": 1000})


def test_report_page_with_its_plots(pages: Pages, project: Project, third: Run) -> None:
    facts = project.artifact("eval_report", third.version).facts
    quality = "ragft/nDCG@10 base embedder"
    pages.open("/assets/eval_report", facts["verdict"], third.version, quality)
    pages.keep("report")
    with pages.entry("ragft/ladder") as ladder:  # without a click
        assert "untuned hybrid" in ladder.get_by_role("table").inner_text()
    for plot in ("differences", "hit_rate", "latency"):
        with pages.entry(f"ragft/plot_{plot}") as dialog:
            image = dialog.get_by_role("img", name=plot)
            assert image.evaluate("image => image.complete && image.naturalWidth") > 500
            pages.keep(f"report-{plot}", dialog)
    pages.page.get_by_role("button", name="Plots").click()
    pages.shows(quality)
    pages.keep("report-over-versions")


def test_status_page(pages: Pages, first: Run, third: Run) -> None:
    stale, models = len(READ_EVALUATION), len(MODELS)
    pages.open(
        "/assets/corpus_status",
        f"{third.version} (current): {len(ASSETS) - models} fresh, {models} carried forward",
        f"{first.version}: {len(ASSETS) - stale} fresh, {stale} stale ({READ_EVALUATION[0]}, ",
    )
    pages.keep("status")
    pages.page.set_viewport_size({"width": 1600, "height": 1800})  # the table as a whole
    with pages.entry("ragft/status") as table:
        shown = table.inner_text()
        assert {first.version, third.version} <= set(shown.split())
        assert set(shown.split()) >= ASSETS
        assert "stale (settings, code or base model changed)" in shown
        assert "of the training rows changed" in shown
        pages.keep("status-table", table)


def test_model_page(pages: Pages, third: Run) -> None:
    pages.open("/assets/tuned_embedder", third.version, "ragft/val_ndcg_at_10")
    pages.shows("ragft/carried_forward", "of the training rows changed")
    pages.keep("model")
