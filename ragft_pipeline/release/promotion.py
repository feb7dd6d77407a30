"""From an evaluated corpus version to what is served: judge, bundle, and move the pointer.

What is judged are the measured models, which saw no test document, on both sides; what is served
are the refitted ones. Whatever the gate says, the documents move on: where it keeps the champion's
models, these get an index over the new documents.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ragft_pipeline.corpus.snapshots import SnapshotStore
from ragft_pipeline.errors import RagftError
from ragft_pipeline.evaluation.choosing import Choices
from ragft_pipeline.evaluation.retrieval_eval import EvaluationData, question_sets
from ragft_pipeline.evaluation.summary import (
    BASE,
    UNTUNED,
    EvaluationRows,
    decide,
    primary_set,
)
from ragft_pipeline.evaluation.trial import Models, Trial
from ragft_pipeline.release.gate import Judgement, Paired, judge
from ragft_pipeline.release.notify import tell
from ragft_pipeline.release.turns import is_current
from ragft_pipeline.serving.bundle import Bundle, BundleStore
from ragft_pipeline.serving.configuration import ASSETS, Configuration
from ragft_pipeline.serving.history import Entry, Event, History, current_user
from ragft_pipeline.serving.searcher import Searcher
from ragft_pipeline.settings import Settings
from ragft_pipeline.store import ArtifactStore, Workspace

_PEOPLE = "gold_test"


@dataclass(frozen=True)
class Candidate:
    """What a corpus version offers.

    Attributes:
        version: the corpus version.
        rows: EVAL_ROWS of the measured models.
        choices: the weights that evaluation chose.
        data: the tables it was measured on.
        measured, released: the models that were measured, and those to serve.
        actions: the action of each measured model, by asset.
        paths: the path of each document, by doc_key.
    """

    version: str
    rows: pa.Table
    choices: Choices
    data: EvaluationData
    measured: Models
    released: Models
    actions: dict[str, str]
    paths: dict[str, str]


@dataclass(frozen=True)
class Decision:
    """What was decided, and the entry it left in the history, if it left one."""

    event: Event | None
    why: str
    bundle: Bundle
    candidate: Bundle
    judgement: Judgement | None

    def facts(self) -> dict[str, Any]:
        """Return what Dagster shows: words first, then the numbers."""
        return {
            "event": self.event or "none",
            "why": self.why,
            "table": self.table(),
            "system": self.bundle.configuration.name,
            "bundle": self.bundle.digest,
            "candidate": self.candidate.digest,
            **(self.judgement.figures if self.judgement else {}),
        }

    def table(self) -> str:
        """Return the gate's tests as a Markdown table."""
        if self.judgement is None:
            return ""
        lines = ["| test | passed | finding |", "|---|---|---|"]
        for test in self.judgement.tests:
            lines.append(f"| {test.name} | {'yes' if test.passed else 'no'} | {test.finding} |")
        return "\n".join(lines)


def promote_if_better(candidate: Candidate, settings: Settings, work: Workspace) -> Decision:
    """Judge a version's candidate against what is served, and serve the better of both.

    A version that is not the corpus as it is now gets its bundle, and nothing is decided: people
    may still promote it.
    """
    store = work.store
    history, bundles = History(store), BundleStore(store)
    now = history.current()
    offered = _offered(candidate, settings)
    if not is_current(SnapshotStore(store), candidate.version):
        bundle = _bundle(offered, candidate, settings, work)
        return Decision(
            None, "not the corpus as it is now: nothing is decided", bundle, bundle, None
        )
    if now is None:
        return _first(offered, candidate, settings, work)
    champion = bundles.load(now.bundle)
    fresh = _bundle(offered, candidate, settings, work)
    kept = _over_new_documents(champion, candidate, settings, work)
    measured = measured_models(champion, store)
    same = (offered.parts == champion.configuration.parts) and all(
        candidate.actions[ASSETS[part]] == champion.measured[ASSETS[part]] for part in offered.parts
    )
    if same or measured is None:
        judgement = None
        passed = measured is None
        why = (
            "the models behind the champion are gone from the store, so nothing can be compared"
            if passed
            else "the same models as before"
        )
    else:
        known = frozenset(champion.nodes().column("node_id").to_pylist())
        judgement = _judgement(
            candidate, fresh, kept, measured, known, history.judgements(), settings, work
        )
        passed, why = judgement.passed, judgement.why
    if passed:
        return _record(now, "promoted", fresh, fresh, candidate, why, judgement, settings, work)
    event: Event = "refreshed" if judgement is None else "kept"
    if event == "refreshed" and kept.digest == now.bundle:
        return Decision(None, f"{why}, over the same documents", kept, fresh, None)
    return _record(now, event, kept, fresh, candidate, why, judgement, settings, work)


def measured_models(bundle: Bundle, store: ArtifactStore) -> Models | None:
    """Return the measured models behind a bundle's parts; None where one left the store."""
    folders: dict[str, Path] = {}
    for part in bundle.configuration.parts:
        artifact = store.find(ASSETS[part], bundle.measured[ASSETS[part]])
        if artifact is None:
            return None
        folders[part] = artifact.model
    return Models(**folders)


def promote(store: ArtifactStore, version: str, force: bool, why: str, settings: Settings) -> Entry:
    """Serve a version's candidate because a person says so.

    Raises RagftError where the gate refused it and `force` is not given.
    """
    made = store.read(version, "champion")
    digest = str(made.facts["candidate"])
    if made.facts["event"] == "kept" and not force:
        raise RagftError(
            f"the gate kept {version}'s candidate out: {made.facts['why']}; "
            "--force promotes it all the same"
        )
    bundle = BundleStore(store).load(digest)
    bundle.verify()
    history = History(store)
    now = history.current()
    if now is not None and now.bundle == digest:
        raise RagftError(f"{version}'s candidate {digest[:12]} is what is served already")
    entry = history.append(now, "forced", digest, version, why or "by hand", who=current_user())
    tell(entry, settings.gate)
    return entry


def roll_back(store: ArtifactStore, why: str, settings: Settings) -> Entry:
    """Serve what was served before, after checking that it is whole."""
    history = History(store)
    BundleStore(store).load(history.before().bundle).verify()
    entry = history.roll_back(why or "by hand")
    tell(entry, settings.gate)
    return entry


def _offered(candidate: Candidate, settings: Settings) -> Configuration:
    """Return the system that the evaluation recommends; at least the untuned hybrid."""
    rows = EvaluationRows(candidate.rows, settings.evaluation)
    recommended = decide(rows, candidate.choices.to_json()).recommended
    return Configuration.of(UNTUNED if recommended == BASE else recommended, candidate.choices)


def _first(
    offered: Configuration, candidate: Candidate, settings: Settings, work: Workspace
) -> Decision:
    """Serve the candidate if it beats the untuned hybrid, else the untuned hybrid."""
    untuned = Configuration.of(UNTUNED, candidate.choices)
    fresh = _bundle(offered, candidate, settings, work)
    if offered == untuned:
        why = "the first champion: nothing tuned is proven better than the untuned hybrid"
        return _record(None, "promoted", fresh, fresh, candidate, why, None, settings, work)
    plain = _bundle(untuned, candidate, settings, work)
    judgement = _judgement(candidate, fresh, plain, Models(), frozenset(), 0, settings, work)
    served = fresh if judgement.passed else plain
    event: Event = "promoted" if judgement.passed else "kept"
    why = f"the first champion, against the untuned hybrid: {judgement.why}"
    return _record(None, event, served, fresh, candidate, why, judgement, settings, work)


def _record(
    after: Entry | None,
    event: Event,
    served: Bundle,
    offered: Bundle,
    candidate: Candidate,
    why: str,
    judgement: Judgement | None,
    settings: Settings,
    work: Workspace,
) -> Decision:
    served.verify()
    entry = History(work.store).append(
        after, event, served.digest, candidate.version, why,
        candidate=offered.digest, metrics=judgement.figures if judgement else {},
    )  # fmt: skip
    work.progress(f"champion: {event} {served.digest[:12]} ({why})")
    tell(entry, settings.gate)
    return Decision(event, why, served, offered, judgement)


def _bundle(
    configuration: Configuration, candidate: Candidate, settings: Settings, work: Workspace
) -> Bundle:
    measured = {ASSETS[part]: candidate.actions[ASSETS[part]] for part in configuration.parts}
    return BundleStore(work.store).build(
        candidate.version, configuration, candidate.released, measured,
        candidate.data.nodes, candidate.paths, settings, work,
    )  # fmt: skip


def _over_new_documents(
    champion: Bundle, candidate: Candidate, settings: Settings, work: Workspace
) -> Bundle:
    """Return the champion's models and weights over the candidate's documents."""
    own = champion.settings(settings.compute)
    return BundleStore(work.store).build(
        candidate.version, champion.configuration, champion.models, champion.measured,
        candidate.data.nodes, candidate.paths, own, work,
    )  # fmt: skip


def _judgement(
    candidate: Candidate,
    fresh: Bundle,
    champion: Bundle,
    measured: Models,
    known: frozenset[str],
    judged_before: int,
    settings: Settings,
    work: Workspace,
) -> Judgement:
    """Judge a candidate's bundle against the champion's, both over the candidate's documents.

    Args:
        measured: the measured models behind the champion.
        known: the nodes that the champion searched before; questions about these alone are a set
            of their own.
    """
    theirs = champion.configuration
    own = champion.settings(settings.compute)
    own = own.model_copy(update={"evaluation": settings.evaluation})
    trial = Trial.of(candidate.data.nodes, theirs.models(measured), own, work)
    sets, _ = question_sets(candidate.data, trial, settings)
    rows = pa.concat_tables(
        [
            as_system(candidate.rows, fresh.configuration.name, "candidate"),
            as_system(trial.rows(sets, theirs.choices), theirs.name, "champion"),
        ]
    )
    compared = EvaluationRows(rows, settings.evaluation)
    primary = primary_set(EvaluationRows(candidate.rows, settings.evaluation))
    pairs = [paired(name, name, compared) for name in (_PEOPLE,) if name != primary]
    if known:
        old = frozenset(
            row["question_id"]
            for row in candidate.rows.select(["question_id", "relevant"]).to_pylist()
            if known.issuperset(row["relevant"])
        )
        unchanged = paired("unchanged documents'", primary, compared, old)
        if len(unchanged) < len(paired(primary, primary, compared)):
            pairs.append(unchanged)
    others = [pair for pair in pairs if len(pair) >= settings.evaluation.min_gold]
    questions = next(iter(sets.values())).texts[: settings.gate.latency_queries]
    latency = _medians(
        [Searcher(bundle, settings.compute) for bundle in (fresh, champion)], questions
    )
    return judge(
        paired(primary, primary, compared), others, latency, judged_before, settings.gate,
        settings.evaluation,
    )  # fmt: skip


def as_system(rows: pa.Table, system: str, name: str) -> pa.Table:
    """Return one system's EVAL_ROWS under another name."""
    rows = rows.filter(pc.equal(rows.column("system"), system))
    column = rows.schema.get_field_index("system")
    names = pa.array([name] * rows.num_rows, pa.string())
    return rows.set_column(column, rows.schema.field(column), names)


def paired(
    title: str, question_set: str, rows: EvaluationRows, among: frozenset[str] | None = None
) -> Paired:
    """Return the scores of the systems `candidate` and `champion` on the questions both answered.

    Args:
        among: leaves out all other questions.
    """
    left, right = (rows.scores(question_set, name) for name in ("candidate", "champion"))
    shared = sorted(q for q in left.keys() & right.keys() if among is None or q in among)
    return Paired(
        title,
        np.array([left[q][0] for q in shared]),
        np.array([right[q][0] for q in shared]),
        [left[q][1] for q in shared],
    )


def _medians(searchers: Sequence[Searcher], questions: Sequence[str]) -> tuple[float, float]:
    times: list[list[float]] = [[], []]
    for question in (*questions[:1], *questions):  # the first one warms up
        for row, searcher in enumerate(searchers):
            start = perf_counter()
            searcher.search(question)
            times[row].append((perf_counter() - start) * 1000)
    ours, theirs = (median(found[1:]) for found in times)
    return ours, theirs
