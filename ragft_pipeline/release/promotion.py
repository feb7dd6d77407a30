"""From an evaluated corpus version to what is served: judge, bundle, and move the pointer.

What is judged is what is served, on both sides. Whatever the gate says, the documents move on:
where it keeps the champion's models, these get an index over the new documents.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from ragft_pipeline.corpus.snapshots import SnapshotStore
from ragft_pipeline.errors import RagftError
from ragft_pipeline.evaluation.names import spoken
from ragft_pipeline.evaluation.summary import UNTUNED
from ragft_pipeline.release.gate import Judgement
from ragft_pipeline.release.judging import Candidate, judge_champion, judge_untuned
from ragft_pipeline.release.notify import tell
from ragft_pipeline.release.turns import is_current
from ragft_pipeline.retrieval.encoder import Encoder
from ragft_pipeline.routing.router import router_base
from ragft_pipeline.serving.bundle import Bundle, BundleStore
from ragft_pipeline.serving.configuration import ASSETS, Configuration
from ragft_pipeline.serving.history import Entry, Event, History, current_user
from ragft_pipeline.settings import Settings
from ragft_pipeline.store import ArtifactStore, Workspace

_MORE_QUESTIONS = 1.1


@dataclass(frozen=True)
class Decision:
    """What was decided, and the entry it left in the history, if it left one."""

    event: Event | None
    why: str
    bundle: Bundle
    candidate: Bundle
    judgement: Judgement | None

    def facts(self, ladder: str) -> dict[str, Any]:
        """Return what Dagster shows, what a person reads first, first.

        Args:
            ladder: the report's, in Markdown; the gate's tests stand below it.
        """
        superior = self.judgement.tests[0].figures if self.judgement else {}
        return {
            "event": self.event or "none",
            "why": self.why,
            "serves": spoken(self.bundle.configuration.name),
            "ladder": ladder,
            **({"gate": self.table()} if self.judgement else {}),
            "system": self.bundle.configuration.name,
            "bundle": self.bundle.digest,
            "candidate": self.candidate.digest,
            **superior,
        }

    def table(self) -> str:
        """Return the gate's tests as a Markdown table."""
        lines = ["| test | passed | finding |", "|---|---|---|"]
        for test in self.judgement.tests if self.judgement else ():
            passed = {True: "yes", False: "no", None: "not asked"}[test.passed]
            lines.append(f"| {test.name} | {passed} | {test.finding} |")
        return "\n".join(lines)


def promote_if_better(candidate: Candidate, settings: Settings, work: Workspace) -> Decision:
    """Judge a version's candidate against what is served, and serve the better of both.

    A version that is not the corpus as it is now gets its bundle, and nothing is decided: people
    may still promote it.
    """
    store = work.store
    history, bundles = History(store), BundleStore(store)
    now = history.current()
    offered = Configuration.of(candidate.choices.whole.system, candidate.choices)
    fresh = _bundle(offered, candidate, settings, work)
    if not is_current(SnapshotStore(store), candidate.version):
        return Decision(None, "not the corpus as it is now: nothing is decided", fresh, fresh, None)
    if now is None:
        return _first(fresh, candidate, settings, work)
    champion = bundles.load(now.bundle)
    why = _nothing_to_judge(fresh, champion, history, bundles)
    kept = _over_new_documents(champion, candidate, bool(why), settings, work)
    judgement = None
    if not why:
        known = frozenset(champion.nodes().column("node_id").to_pylist())
        judgement = judge_champion(
            candidate, fresh, kept, known, history.judgements(), settings, work
        )
        why = judgement.why
        if judgement.passed:
            return _record(now, "promoted", fresh, fresh, candidate, why, judgement, settings, work)
    event: Event = "refreshed" if judgement is None else "kept"
    if event == "refreshed" and kept.digest == now.bundle:
        return Decision(None, f"{why}, over the same documents", kept, fresh, None)
    return _record(now, event, kept, fresh, candidate, why, judgement, settings, work)


def _nothing_to_judge(
    fresh: Bundle, champion: Bundle, history: History, bundles: BundleStore
) -> str:
    """Say why a candidate is no other than the champion, or not one to promote; else nothing.

    Weights fitted anew are another candidate once a tenth more people's questions have a say.
    """
    offered, served = fresh.configuration, champion.configuration
    if not offered.questions:
        return "too few of people's questions to compare anything"
    more = offered.questions >= _MORE_QUESTIONS * max(1, served.questions)
    if fresh.models_digest == champion.models_digest and not more:
        return "the same models as before"
    taken_back = history.rolled_back()
    known = bundles.peek(taken_back) if taken_back else None
    if known is not None and known.configuration.name == offered.name:
        return (
            f"{spoken(offered.name)}: a person rolled one back ({known.digest[:12]}), so "
            "`ragft promote` decides"
        )
    return ""


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


def _first(fresh: Bundle, candidate: Candidate, settings: Settings, work: Workspace) -> Decision:
    """Serve the candidate if it beats the untuned hybrid, else the untuned hybrid.

    Without people's questions nothing is judged: the shipped system is served, which was best on
    other corpora.
    """
    choices = candidate.choices
    if not choices.questions or fresh.configuration.name == UNTUNED:
        why = (
            "the first champion: nothing that people's questions choose is beside it"
            if choices.questions
            else "the first champion: the shipped system, as nobody's questions say otherwise"
        )
        return _record(None, "promoted", fresh, fresh, candidate, why, None, settings, work)
    plain = _bundle(Configuration.of(UNTUNED, choices), candidate, settings, work)
    judgement = judge_untuned(candidate, fresh, plain, settings)
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
    before = BundleStore(work.store).peek(after.bundle) if after is not None else None
    served.verify(before.manifest["files"].values() if before is not None else ())
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
        candidate.nodes, candidate.paths, settings, work, candidate.routing,
        candidate.metadata,
    )  # fmt: skip


def _over_new_documents(
    champion: Bundle, candidate: Candidate, take_router: bool, settings: Settings, work: Workspace
) -> Bundle:
    """Return the champion's models and weights over the candidate's documents.

    Args:
        take_router: whether the candidate's router comes along, as it does where nothing was
            refused; else the champion keeps its own.
    """
    own = champion.settings(settings.compute)
    routing = candidate.routing
    if routing is not None and champion.router is not None and not take_router:
        beside = {name: champion.router.parent / name for name in routing.scorers}
        routing = replace(routing, router=champion.router, scorers=beside)
    base = Encoder.base(own.embedder, own.compute).weights.digest
    if routing is not None and router_base(routing.router) != base:
        routing = None  # it was trained over another embedder than the champion's
    return BundleStore(work.store).build(
        candidate.version, champion.configuration, champion.models, champion.measured,
        candidate.nodes, candidate.paths, own, work, routing,
        candidate.metadata,
    )  # fmt: skip
