"""Which candidates are judged at all: bundles of made parts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ragft_pipeline.evaluation.choosing import Choice, Choices
from ragft_pipeline.evaluation.retrievers import Models
from ragft_pipeline.lineage.steps import Step
from ragft_pipeline.recipes.evaluation import released_models
from ragft_pipeline.release.promotion import _nothing_to_judge
from ragft_pipeline.serving.bundle import Bundle, BundleStore
from ragft_pipeline.serving.configuration import Configuration
from ragft_pipeline.serving.history import History
from ragft_pipeline.store import ArtifactStore
from ragft_pipeline_tests.serving.conftest import BREAD, PUMP, UNTUNED, make_bundle


def _bundle(store: ArtifactStore, configuration: Configuration, *texts: str) -> Bundle:
    return make_bundle(store, "v", texts or PUMP, configuration)


def _why(store: ArtifactStore, offered: Configuration, champion: Configuration) -> str:
    fresh, served = _bundle(store, offered, *PUMP, *BREAD), _bundle(store, champion)
    return _nothing_to_judge(fresh, served, History(store), BundleStore(store))


def test_other_weights_of_the_same_models_are_judged_once_more_people_have_a_say(
    tmp_path: Path,
) -> None:
    store, served = ArtifactStore(tmp_path), replace(UNTUNED, questions=100)
    other = replace(served, dense_weight=0.9)
    assert _why(store, served, served) == "the same models as before"
    assert _why(store, replace(other, questions=105), served) == "the same models as before"
    assert _why(store, replace(other, questions=120), served) == ""


def test_another_system_is_judged(tmp_path: Path) -> None:
    served, base = replace(UNTUNED, questions=100), Configuration("base", questions=100)
    assert _why(ArtifactStore(tmp_path), base, served) == ""


def test_the_shipped_system_does_not_replace_what_people_chose(tmp_path: Path) -> None:
    served = Configuration("base", questions=100)
    assert "too few of people's questions" in _why(ArtifactStore(tmp_path), UNTUNED, served)


def test_what_a_person_rolled_back_waits_for_a_person(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    history, bundles = History(store), BundleStore(store)
    first = _bundle(store, Configuration("base", questions=100))
    taken_back = _bundle(store, replace(UNTUNED, questions=100))
    for bundle in (first, taken_back):
        history.append(history.current(), "promoted", bundle.digest, "v", "a test")
    history.roll_back("it answered nonsense")
    fresh = _bundle(store, replace(UNTUNED, questions=110), *PUMP, *BREAD)
    why = _nothing_to_judge(fresh, first, history, bundles)
    assert why.startswith("untuned hybrid: a person rolled one back")
    history.append(history.current(), "forced", taken_back.digest, "v", "by hand")
    assert _nothing_to_judge(fresh, first, history, bundles) == ""


@pytest.mark.parametrize("system", ["hybrid(base) + ranker + cross-encoder", "base"])
def test_a_configuration_is_measured_by_its_folds_weights_and_served_with_its_own(
    system: str,
) -> None:
    weights = {"hybrid(base) + ranker + cross-encoder": {"dense": 2.0}, "base": None}
    other = {"hybrid(base) + ranker + cross-encoder": {"dense": 1.0}, "base": None}
    choices = Choices(30, Choice(system, weights), {"2": Choice(system, other)})
    made = Configuration.of(system, choices)
    assert (made.name, made.questions) == (system, 30)
    assert made.choices.whole.weights == {system: weights[system]}
    assert made.choices.without(2).weights == {system: other[system]}
    assert made.choices.without(3) == made.choices.whole
    assert ("reranker" in made.parts) == ("cross-encoder" in system)


def test_a_release_holds_the_reranker_that_was_recommended(tmp_path: Path) -> None:
    class Made(Step):
        def artifact(self, name: str) -> object:  # type: ignore[override]
            (tmp_path / name / "model").mkdir(parents=True, exist_ok=True)
            return type("Artifact", (), {"model": tmp_path / name / "model"})

    released = released_models(Made.__new__(Made))
    wanted = Configuration("base", 0.5, "ranker + cross-encoder").models(released)
    assert wanted == Models(
        reranker=tmp_path / "reranker/model",
        late_interaction=tmp_path / "late_interaction/model",
    )
