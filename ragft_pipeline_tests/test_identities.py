"""Every version constant is in the identities of what is made with the code beside it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from ragft_pipeline import identities
from ragft_pipeline.answering.answerers import ServedAnswerer
from ragft_pipeline.answering.answers import answer_pairs
from ragft_pipeline.answering.asking import _worded
from ragft_pipeline.answering.distractors import Library, find_distractors
from ragft_pipeline.answering.evaluation import _answers, _known_losses
from ragft_pipeline.corpus.chunking import chunk_documents
from ragft_pipeline.corpus.snapshots import SnapshotStore
from ragft_pipeline.errors import RagftError
from ragft_pipeline.evaluation.retrievers import Models
from ragft_pipeline.evaluation.second_stages import RANKER
from ragft_pipeline.identities import SEARCHING
from ragft_pipeline.lineage.steps import Produced, Recipe, materialize
from ragft_pipeline.models.weights import Weights
from ragft_pipeline.questions.endpoint import EndpointModel
from ragft_pipeline.questions.llm import write_questions
from ragft_pipeline.questions.pairs import _extractive_drafts
from ragft_pipeline.recipes import RECIPES
from ragft_pipeline.retrieval.encoder import Encoder
from ragft_pipeline.retrieval.late_interaction import LateInteraction
from ragft_pipeline.retrieval.lexical import TermStatistics
from ragft_pipeline.retrieval.reranking import cached_pair_scores
from ragft_pipeline.retrieval.terms import cached_terms
from ragft_pipeline.retrieval.text_vectors import cached_vectors
from ragft_pipeline.retrieval.token_cosines import weighed_scores
from ragft_pipeline.retrieval.token_rows import cached_tokens, question_tokens
from ragft_pipeline.routing.catalog import make_catalog, write_summaries
from ragft_pipeline.serving.configuration import Configuration
from ragft_pipeline.serving.searcher import Searcher
from ragft_pipeline.settings import ExtractiveGenerator, LLMGenerator, ServedModel, Settings
from ragft_pipeline.store import ArtifactStore, RowCache, Workspace
from ragft_pipeline_tests.corpora import prose, settings_for, write_corpus
from ragft_pipeline_tests.serving.conftest import PUMP, make_bundle
from ragft_pipeline_tests.source_code import (
    PACKAGE,
    computing_modules,
    modules,
    openers_of_row_tables,
    reached,
)

# A computation may hold these without computing with them: it reads frozen versions, names the
# assets of the report's table, and asks which device there is.
PASSED_OVER = (
    "SnapshotStore", "RECIPES", "Recipe", "versions", "pick_device", "pick_dtype",
    "quiet_transformers",
)  # fmt: skip
FREEZING = "corpus.readers"  # its constant is part of what a freeze reads, not of an action
CONSTANTS = [
    (name.removeprefix(f"{PACKAGE}."), constant)
    for name, module in sorted(modules().items())
    for constant in module.constants
]
SETTINGS = Settings()


def raise_constant(patch: pytest.MonkeyPatch, module: str, constant: str) -> None:
    """Raise a constant everywhere, as an edit of its line would."""
    for name, other in modules().items():
        own = name == f"{PACKAGE}.{module}" and constant in other.constants
        if own or other.imported.get(constant) == (f"{PACKAGE}.{module}", constant):
            patch.setattr(f"{name}.{constant}", 99)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_a_recipe_names_the_modules_that_it_computes_with(recipe: Recipe) -> None:
    name = recipe.compute.__qualname__.partition(".")[0]
    start = (recipe.compute.__module__, recipe.name if name == "<lambda>" else name)
    assert set(recipe.calls) == computing_modules(reached([start], PASSED_OVER))


def test_every_constant_is_some_recipes() -> None:
    called = {"identities", FREEZING}.union(*(recipe.calls for recipe in RECIPES))
    assert {module for module, _ in CONSTANTS} <= called


@pytest.mark.parametrize(("module", "constant"), CONSTANTS)
def test_a_raised_constant_changes_the_keys_of_those_that_call_its_module(
    module: str, constant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {recipe.name: recipe.code_version(SETTINGS) for recipe in RECIPES}
    raise_constant(monkeypatch, module, constant)
    changed = {r.name for r in RECIPES if r.code_version(SETTINGS) != before[r.name]}
    everywhere = module == identities.__name__.removeprefix(f"{PACKAGE}.")
    assert {r.name for r in RECIPES if everywhere or module in r.calls} <= changed


class Opened(Exception):
    """A table of rows was opened, under a name that says what its rows were made under."""


class Opening(Workspace):
    """Goes as far as the first table that is opened."""

    def rows(
        self, name: str, row_settings: str, schema: pa.Schema, family: str | None = None
    ) -> RowCache:
        raise Opened(super().rows(name, row_settings, schema, family)._file)


ENCODER = Encoder(Weights("own", Path(), "digest"), SETTINGS.embedder, SETTINGS.compute)
LATE = LateInteraction(ENCODER)
STATISTICS = partial(TermStatistics.of, ())  # made anew: it remembers its digest
SERVED = ServedModel(model="m", base_url="http://127.0.0.1:9/v1")

ASKED = LLMGenerator(model="m", base_url="http://127.0.0.1:9/v1")

# What opens each table, and the constants that its rows depend on beside the libraries'.
TABLES: list[tuple[str, Callable[[Workspace], object], set[str]]] = [
    (
        "_cut_rows",
        lambda work: chunk_documents([], [], SETTINGS.chunking, ENCODER.weights, work),
        {"CHUNKER_VERSION"},
    ),
    (
        "encoded",
        lambda work: cached_vectors(work, ENCODER, {}, "query"),
        {"ENCODER_VERSION"},
    ),
    (
        "cached_terms",
        lambda work: cached_terms(work, [], "auto"),
        {"TERMS_VERSION"},
    ),
    (
        "_token_cache",
        lambda work: cached_tokens(work, ENCODER, [], 4),
        {"ENCODER_VERSION", "STORAGE_VERSION"},
    ),
    (
        "question_tokens",
        lambda work: question_tokens(work, ENCODER, []),
        {"ENCODER_VERSION"},
    ),
    (
        "weighed_scores",
        lambda work: weighed_scores(work, ENCODER, 4, np.ones(1, np.float32), []),
        {"ENCODER_VERSION", "STORAGE_VERSION", "MAXSIM_VERSION"},
    ),
    (
        "cached_pair_scores",
        lambda work: cached_pair_scores(work, "late", LATE, []),
        {"ENCODER_VERSION", "MAXSIM_VERSION"},
    ),
    (
        "make_catalog",
        lambda work: make_catalog([], STATISTICS(), {}, work),
        {"CATALOG_VERSION", "TERMS_VERSION"},
    ),
    (
        "cached_replies",
        lambda work: write_summaries([], EndpointModel(SERVED), "", work),
        {"SUMMARY_VERSION", "REPLIES_VERSION"},
    ),
    (
        "cached_replies",
        lambda work: answer_pairs([], SERVED, work),
        {"ANSWER_VERSION", "REPLIES_VERSION"},
    ),
    (
        "cached_replies",
        lambda work: _worded({}, ASKED, SETTINGS.compute, work),
        {"ASKING_VERSION", "REPLIES_VERSION"},
    ),
    (
        "cached_replies",
        lambda work: _answers(ServedAnswerer(SERVED), [], SETTINGS, work),
        {"answering.prompts PROMPT_VERSION", "REPLIES_VERSION"},
    ),
    (
        "_known_losses",
        lambda work: _known_losses(ServedAnswerer(SERVED), [], work),
        {"LOSSES_VERSION"},
    ),
    (
        "find_distractors",
        lambda work: find_distractors(
            [], Library({}, frozenset(), {}, STATISTICS(), ""), 2, ENCODER, work
        ),
        {"DISTRACTOR_VERSION", "ENCODER_VERSION", "TERMS_VERSION"},
    ),
    (
        "write_questions",
        lambda work: write_questions([], LLMGenerator(), SETTINGS.compute, work),
        {"questions.llm PROMPT_VERSION", "EMBEDDED_VERSION"},
    ),
    (
        "_extractive_drafts",
        lambda work: _extractive_drafts(ExtractiveGenerator(), [], STATISTICS(), work),
        {"EXTRACTIVE_VERSION", "TERMS_VERSION"},
    ),
]


def test_every_table_of_rows_is_looked_at_here() -> None:
    assert openers_of_row_tables() == {opener for opener, _, _ in TABLES}


@pytest.mark.parametrize(("opener", "open_table", "wanted"), TABLES)
def test_rows_are_of_the_constants_of_what_makes_them(
    opener: str,
    open_table: Callable[[Workspace], object],
    wanted: set[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def file() -> str:
        with pytest.raises(Opened) as opened:
            open_table(Opening(ArtifactStore(tmp_path), "asset", tmp_path))
        return str(opened.value)

    before, found = file(), set()
    for module, constant in CONSTANTS:
        with monkeypatch.context() as patch:
            raise_constant(patch, module, constant)
            LATE.__dict__.pop("identity", None)
            if file() != before:
                found |= {constant, f"{module} {constant}"}
    LATE.__dict__.pop("identity", None)
    assert wanted | {"LIBRARY_VERSION"} <= found
    assert len(found) == 2 * len(wanted) + 2


def test_what_searching_calls_is_what_a_bundle_remembers() -> None:
    start = (Searcher.__module__, Searcher.__name__)
    called = computing_modules(reached([start], PASSED_OVER))
    assert called - {"routing.catalog"} == set(SEARCHING)  # the tools come with the bundle


def test_a_bundle_of_other_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, store = tmp_path / "late", ArtifactStore(tmp_path / "store")
    model.mkdir()
    configuration = Configuration("base", 0.5, RANKER)
    late = make_bundle(store, "pump", PUMP[:2], configuration, Models(late_interaction=model))
    plain = make_bundle(store, "pump", PUMP[:2])
    for module, constant in CONSTANTS:
        with monkeypatch.context() as patch:
            raise_constant(patch, module, constant)
            for bundle, calls in ((late, SEARCHING), (plain, SEARCHING[:1])):
                if module in (*calls, "identities"):
                    with pytest.raises(RagftError, match=f"{constant}.* made it; run `ragft run`"):
                        bundle.require_same_code()
                else:
                    bundle.require_same_code()
    raise_constant(monkeypatch, "retrieval.token_vectors", "STORAGE_VERSION")
    with pytest.raises(RagftError, match="STORAGE_VERSION"):
        Searcher(late)


def test_what_is_identified_by_what_went_in_is_so_by_the_code_too(tmp_path: Path) -> None:
    settings = settings_for(write_corpus(tmp_path / "docs", {"a.md": prose(1)}), tmp_path / "store")
    version = SnapshotStore(ArtifactStore(settings.store)).freeze(settings).version
    recipe = Recipe("own", lambda _: Produced(made_of="the same"))
    raised, faster = replace(recipe, code=2), replace(recipe, heavy=True, sections=("serve",))
    versions = [
        materialize(each, settings, version).artifact.data_version
        for each in (recipe, raised, faster)
    ]
    assert versions[0] == versions[2] != versions[1]
