from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from ragft_pipeline.evaluation.ladder import Ladder, build_ladder
from ragft_pipeline.evaluation.names import path_below, spoken
from ragft_pipeline.evaluation.plots import differences_plot, hit_rate_plot, latency_plot
from ragft_pipeline.evaluation.summary import decide
from ragft_pipeline_tests.evaluation.test_summary import evaluated, rows_of

STACKED = "hybrid(adapter(tuned_embedder))"
TOWERS = "hybrid(tuned_embedder)"
LATE = "late interaction"
MANY = {
    "bm25": 0.3, "base": 0.4, "hybrid(base)": 0.5, "rrf(base)": 0.45,
    "adapter": 0.42, "hybrid(adapter)": 0.51, "rrf(adapter)": 0.5,
    "tuned_embedder": 0.45, TOWERS: 0.55, "rrf(tuned_embedder)": 0.5,
    "adapter(tuned_embedder)": 0.47, STACKED: 0.6, f"{STACKED} + {LATE}": 0.7,
    f"{STACKED} + {LATE} alone": 0.6, f"hybrid(base) + {LATE}": 0.58,
}  # fmt: skip
TIMES = {
    "base": 7.0,
    "bm25": 1.0,
    "hybrid(base)": 8.0,
    STACKED: 9.0,
    f"hybrid(base) + {LATE}": 20.0,
}


def ladder_of(
    systems: Mapping[str, float],
    on_fewer: Mapping[str, float] | None = None,
    weights: Mapping[str, float] | None = None,
) -> Ladder:
    rows = evaluated(
        rows_of(systems), rows_of(systems, "gold_dev", seed=2),
        rows_of(on_fewer or {}, questions=25), rows_of(on_fewer or {}, "gold_dev", 25, seed=2),
    )  # fmt: skip
    choices: dict[str, Any] = {"chosen_on": "gold_dev", "second_stage_weights": dict(weights or {})}
    verdict = decide(rows, choices)
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
        ("rrf(base)", "base embedder, with BM25 by ranks"),
        ("hybrid(adapter)", "base embedder + maps, with BM25"),
        (STACKED, "tuned embedder + maps, with BM25"),
        (f"{STACKED} + {LATE}", "tuned embedder + maps, with BM25 and late interaction"),
        ("hybrid(base) + reranker alone", "untuned hybrid, with reranker alone"),
        ("hybrid(base) + a + b", "untuned hybrid, with a and b"),
        ("hybrid(contextual_base) + ranker", "contextual base, with BM25 and ranker"),
    ],
)
def test_names_are_a_persons(system: str, name: str) -> None:
    assert spoken(system) == name


def test_each_system_builds_on_the_one_with_a_part_less() -> None:
    assert list(path_below(f"{STACKED} + {LATE}")) == [STACKED, TOWERS, "hybrid(base)", "base"]
    assert list(path_below("something new")) == ["base"]
    assert list(path_below("base")) == ["base"]


def test_rows_lead_to_what_is_recommended_a_part_each() -> None:
    ladder = ladder_of(MANY, weights={f"{STACKED} + {LATE}": 0.5})
    assert shown(ladder) == [
        (1, "base", 0, ""),
        (2, "bm25", 1, ""),
        (3, "hybrid(base)", 1, "use"),
        (4, TOWERS, 3, "better"),
        (5, STACKED, 3, "use"),
        (6, f"{STACKED} + {LATE}", 5, "recommended"),
    ]
    assert [rung.milliseconds for rung in ladder.rungs] == [7, 1, 8, None, 9, 21]
    assert {r.system for r in ladder.others} == MANY.keys() - {row[1] for row in shown(ladder)}


def test_what_was_tried_and_not_taken_is_shown_with_its_verdict() -> None:
    ladder = ladder_of({**MANY, STACKED: 0.5, TOWERS: 0.49, "hybrid(adapter)": 0.4})
    assert ladder.rungs[2].verdict == "recommended"
    assert (6, STACKED, 3, "not proven") in shown(ladder)
    assert (5, f"hybrid(base) + {LATE}", 3, "gains, not taken") in shown(ladder)  # at weight 0


def test_systems_on_fewer_questions_stand_apart() -> None:
    ladder = ladder_of(MANY, {"hybrid(base) + reranker": 0.9})
    assert "hybrid(base) + reranker" not in ladder.markdown()
    assert [(r.system, r.questions) for r in ladder.fewer] == [("hybrid(base) + reranker", 13)]
    assert "1 measured on fewer questions: folded in the page" in list(ladder.lines())[-1]


def test_what_is_recommended_on_fewer_questions_shows_no_mean_beside_the_others() -> None:
    name = "hybrid(base) + reranker"
    systems = {"base": 0.4, "hybrid(base)": 0.5}
    rung = ladder_of(systems, {name: 0.9}, {name: 0.5}).rungs[-1]
    assert (rung.result.system, rung.recommended, rung.cells[2]) == (name, True, "(n=13)")
    assert rung.adds is not None
    assert rung.adds.questions == 13


def test_eight_rows_at_most_below_the_size_that_dagster_shows() -> None:
    long = {f"hybrid(adapter(tuned_embedder)) + s{n}{' + t' * n}": 0.7 for n in range(9)}
    ladder = ladder_of({**MANY, **long}, weights={f"{STACKED} + {LATE}": 0.5})
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

    ladder = ladder_of(MANY, weights={f"{STACKED} + {LATE}": 0.5})
    title = "People's test questions about documents no model was trained on"
    image = imread(io.BytesIO(plot(ladder.rungs, title)))[..., :3]
    edges: Sequence[Any] = (image[0], image[-1], image[:, 0], image[:, -1])
    assert all((edge == 1).all() for edge in edges)
