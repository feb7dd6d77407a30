from __future__ import annotations

import io
import logging
import re
from types import SimpleNamespace

import pytest
from rich.console import Console

from ragft_pipeline.defs import display
from ragft_pipeline.defs.display import Display, ToDisplay


def shown(terminal: bool, **given: object) -> tuple[Display, io.StringIO]:
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=100, color_system=None)
    values = {"total": 12, "expected": {}, "report": lambda asset: "", "console": console}
    return Display(**{**values, **given}), out


def record(asset: str, words: str = "", event: str = "") -> logging.LogRecord:
    made = logging.LogRecord("dagster", logging.INFO, "", 0, "dagster's own line", (), None)
    made.dagster_meta = {
        "step_key": asset,
        "orig_message": words,
        "dagster_event": SimpleNamespace(event_type_value=event) if event else None,
    }
    return made


def run(asset: str, *words: str) -> list[logging.LogRecord]:
    own = [record(asset, text) for text in words]
    return [record(asset, event="STEP_START"), *own, record(asset, event="STEP_SUCCESS")]


def test_without_a_terminal_every_line_says_which_asset_of_how_many() -> None:
    seen, out = shown(False, report=lambda asset: "the ladder" if asset == "b" else "")
    with seen.shown():
        for one in [*run("a", "a: computing", "a: computed in 1.0 s"), *run("b", "b: reused")]:
            ToDisplay().handle(one)
    ToDisplay().handle(record("c", "nobody watches any more"))
    assert out.getvalue().split("\n") == [
        "[ 1/12] a: computing", "[ 1/12] a: computed in 1.0 s", "[ 2/12] b: reused",
        "", "the ladder", "", "",
    ]  # fmt: skip


def test_on_a_terminal_a_finished_asset_leaves_one_line() -> None:
    seen, out = shown(True)
    with seen.shown():
        for one in run("a", "a: computing", "a: 3/9 computed", "a: computed in 1.0 s"):
            ToDisplay().handle(one)
    left = [
        line for line in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out.getvalue()).split("\n") if line
    ]
    assert [line.strip() for line in left if "computed in" in line] == [
        "[ 1/12] a: computed in 1.0 s"
    ]
    assert not any(line.startswith("[ 1/12] a: computing") for line in left[1:])


@pytest.mark.parametrize(
    ("expected", "left"),
    [
        ({"a": 30.0}, "about 10 s left"),
        ({"a": 30.0, "b": 100.0}, "about 10 s left  all: about 110 s"),
        ({}, "about 40 s left"),  # a third of it took 20 s
    ],
)
def test_the_live_line_says_how_long_it_will_take(
    monkeypatch: pytest.MonkeyPatch, expected: dict[str, float], left: str
) -> None:
    now = [0.0]
    monkeypatch.setattr(display.time, "monotonic", lambda: now[0])
    seen, _ = shown(True, expected=expected)
    seen.emit(record("a", event="STEP_START"))
    seen.emit(record("a", "a: 3/9 computed"))
    now[0] = 20.0
    assert seen.line().plain == f"[ 1/12] a: 3/9 computed  20 s  {left}"


def test_nothing_is_promised_where_nothing_is_known() -> None:
    seen, _ = shown(True)
    assert seen.line().plain == ""
    seen.emit(record("a", event="STEP_START"))
    assert seen.line().plain == "[ 1/12] a  0 s"
