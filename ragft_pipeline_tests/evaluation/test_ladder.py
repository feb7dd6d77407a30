from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from ragft_pipeline.evaluation.ladder import Ladder, build_ladder
from ragft_pipeline.evaluation.names import CANDIDATE, path_below, spoken
from ragft_pipeline.evaluation.plots import differences_plot, hit_rate_plot, latency_plot
from ragft_pipeline.evaluation.summary import decide
from ragft_pipeline.settings import GateSettings
from ragft_pipeline_tests.evaluation.test_summary import choices_of, evaluated, rows_of

STACKED = "hybrid(adapter(tuned_embedder))"
TOWERS = "hybrid(tuned_embedder)"
FINAL = f"{STACKED} + ranker"
MANY = {
    "bm25": 0.3, "base": 0.4, "hybrid(base)": 0.5, "context": 0.41, "hybrid(context)": 0.51,
    "adapter": 0.42, "hybrid(adapter)": 0.51, "tuned_embedder": 0.45, TOWERS: 0.55,
    "adapter(tuned_embedder)": 0.47, STACKED: 0.6, FINAL: 0.7, "hybrid(base) + ranker": 0.58,
    "hybrid(adapter) + ranker": 0.6,
}  # fmt: skip
TIMES = {"base": 7.0, "bm25": 1.0, "hybrid(base)": 8.0, STACKED: 9.0, "hybrid(base) + ranker": 20.0}


def ladder_of(
    systems: Mapping[str, float], chosen: str = FINAL, on_fewer: Mapping[str, float] | None = None
) -> Ladder:
    own = {**systems, CANDIDATE: systems[chosen]} if systems else {}
    rows = evaluated(rows_of(own), rows_of(on_fewer or {}, questions=25))
    verdict = decide(rows, choices_of(chosen if systems else "none", 60), GateSettings())
    results = [r for r in rows.results() if r.question_set == verdict.primary_set]
    return build_ladder(rows, results, verdict, TIMES)


def shown(ladder: Ladder) -> list[tuple[int, str, int, str]]:
    return [(r.number, r.result.system, r.over, r.verdict) for r in ladder.rungs]


@pytest.mark.parametrize(
    ("system", "name"),
    [
        ("bm25", "BM25"),
        ("base", "base embedder"),
        ("hybrid(base)", "untuned hybrid"),
        ("hybrid(adapter)", "base embedder + maps, with BM25"),
        (STACKED, "tuned embedder + maps, with BM25"),
        (FINAL, "tuned embedder + maps, with BM25 and ranker"),
        ("hybrid(base) + ranker + cross-encoder", "untuned hybrid, with ranker and cross-encoder"),
        ("hybrid(base) + a + b", "untuned hybrid, with a and b"),
        ("hybrid(contextual_base) + ranker", "contextual base, with BM25 and ranker"),
    ],
)
def test_names_are_a_persons(system: str, name: str) -> None:
    assert spoken(system) == name


def test_each_system_builds_on_the_one_with_a_part_less() -> None:
    assert list(path_below(FINAL)) == [STACKED, TOWERS, "hybrid(base)", "base"]
    assert list(path_below("something new")) == ["base"]
    assert list(path_below("base")) == ["base"]


def test_rows_lead_to_what_was_chosen_a_part_each() -> None:
    ladder = ladder_of(MANY)
    assert shown(ladder) == [
        (1, "base", 0, ""),
        (2, "bm25", 1, ""),
        (3, "hybrid(base)", 1, "better"),
        (4, TOWERS, 3, "better"),
        (5, "hybrid(base) + ranker", 3, "better"),
        (6, STACKED, 4, "better"),
        (7, FINAL, 6, "recommended"),
    ]
    assert [rung.milliseconds for rung in ladder.rungs] == [7, 1, 8, None, 20, 9, 21]
    assert {r.system for r in ladder.others} == MANY.keys() - {row[1] for row in shown(ladder)}


def test_what_was_chosen_and_not_proven_is_shown_beside_what_is_kept() -> None:
    worse = {name: score for name, score in MANY.items() if name != FINAL}
    ladder = ladder_of({**worse, FINAL: 0.4})
    assert ladder.rungs[2].verdict == "recommended"
    assert (7, FINAL, 6, "not proven") in shown(ladder)


def test_systems_on_fewer_questions_stand_apart() -> None:
    ladder = ladder_of(MANY, on_fewer={"hybrid(base) + ranker + cross-encoder": 0.9})
    assert "cross-encoder" not in ladder.markdown()
    assert [r.questions for r in ladder.fewer] == [25]
    assert "1 measured on fewer questions: folded in the page" in list(ladder.lines())[-1]


def test_eight_rows_at_most_below_the_size_that_dagster_shows() -> None:
    long = {f"hybrid(adapter(tuned_embedder)) + s{n}{' + t' * n}": 0.7 for n in range(9)}
    ladder = ladder_of({**MANY, **long}, max(long))
    assert len(ladder.rungs) <= 8
    assert len(ladder.markdown()) < 1000


def test_a_terminal_shows_the_same_rows_in_columns() -> None:
    ladder = ladder_of(MANY)
    header, *lines = list(ladder.lines())
    assert header.split()[:2] == ["system", "nDCG@10"]
    for rung, line in zip(ladder.rungs, lines):
        assert line.index(rung.name) == header.index("system")
    assert lines[len(ladder.rungs)].startswith("In code: 1 base, 2 bm25, 3 hybrid(base)")


def test_nothing_to_read_is_an_empty_ladder() -> None:
    ladder = ladder_of({})
    assert (ladder.rungs, ladder.others, ladder.fewer) == ([], [], [])


@pytest.mark.parametrize("plot", [differences_plot, hit_rate_plot, latency_plot])
def test_nothing_is_cut_off_at_the_edges_of_a_plot(plot: Any) -> None:
    from matplotlib.image import imread

    ladder = ladder_of(MANY)
    title = "People's test questions about documents no model was trained on"
    image = imread(io.BytesIO(plot(ladder.rungs, title)))[..., :3]
    edges: Sequence[Any] = (image[0], image[-1], image[:, 0], image[:, -1])
    assert all((edge == 1).all() for edge in edges)
