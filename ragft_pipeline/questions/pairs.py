"""QA pairs of one split: every generator's drafts, filtered."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from ragft_pipeline import schemas
from ragft_pipeline.compute import RowFunction
from ragft_pipeline.corpus.nodes import node_texts
from ragft_pipeline.digests import digest_of
from ragft_pipeline.errors import RagftError, TransientError
from ragft_pipeline.questions.drafts import DRAFTS_SCHEMA, Draft, SourceNode, draft_row
from ragft_pipeline.questions.exchange import imported_drafts
from ragft_pipeline.questions.extractive import EXTRACTIVE_VERSION, extract_questions
from ragft_pipeline.questions.filters import Candidate, filter_candidates
from ragft_pipeline.questions.formats import read_labelled
from ragft_pipeline.questions.llm import chosen_ids, write_questions
from ragft_pipeline.questions.round_trip import Kept, RoundTrip
from ragft_pipeline.retrieval.encoder import Encoder
from ragft_pipeline.retrieval.lexical import TermStatistics
from ragft_pipeline.settings import (
    ExtractiveGenerator,
    Generator,
    ImportGenerator,
    LLMGenerator,
    Settings,
)
from ragft_pipeline.store import Workspace

_NAMED = 20  # entries of an imported set that are named when left out


@dataclass(frozen=True)
class QAPairs:
    """The pairs of a split, and how many drafts each filter turned away."""

    table: pa.Table
    drafted: int
    turned_away: dict[str, int]


def make_qa_pairs(
    nodes: pa.Table,
    statistics: TermStatistics,
    settings: Settings,
    work: Workspace,
    kept: Kept | None = None,
) -> QAPairs:
    """Write, filter and store the questions about a split's nodes.

    Args:
        nodes: the split's NODES table.
        statistics: frozen term statistics, for the choice of keywords.
        settings: generators, filters and the base embedder (for the round trip).
        kept: the round trip's ranks of an earlier version.

    The artifact also gets the ranks.
    """
    texts = node_texts(nodes)
    candidates: list[Candidate] = []
    for generator in settings.questions.writers:
        sources = source_nodes(nodes, asked_about(generator, texts))
        drafts = _drafts(generator, sources, statistics, settings, work)
        candidates += [
            Candidate(digest_of(node_id, draft.question)[:32], node_id, generator.kind, draft)
            for node_id in sorted(drafts)
            for draft in drafts[node_id]
        ]
    if failures := work.counts.get("llm_failures"):
        raise TransientError(
            f"questions: {failures} of {work.counts['llm_calls']} nodes got no answer; what was "
            "answered is kept: run again, or lower share_of_nodes"
        )

    encoder = Encoder.base(settings.embedder, settings.compute)
    search = RoundTrip(texts, statistics, encoder, work, kept)
    found, turned_away = filter_candidates(candidates, texts, settings.questions, search.ranks)
    search.save(work.folder)
    found = sorted(found, key=lambda candidate: candidate.question_id)
    unused = turned_away.get("over_max_pairs", 0) + len(found) - settings.questions.max_pairs
    found = found[: settings.questions.max_pairs]
    turned_away["over_max_pairs"] = max(0, unused)
    rows = {row["node_id"]: row for row in _rows(nodes, {pair.node_id for pair in found})}
    pairs = [_pair(candidate, rows) for candidate in found]
    table = pa.Table.from_pylist(pairs, schema=schemas.QA_PAIRS.schema)
    return QAPairs(table, len(candidates), turned_away)


def asked_about(generator: Generator, node_ids: Collection[str]) -> Collection[str]:
    """Return the nodes that a generator may write about; of many, some by their hashes."""
    if isinstance(generator, ExtractiveGenerator) and generator.max_nodes:
        return set(sorted(node_ids)[: generator.max_nodes])  # ids are hashes of the texts
    if isinstance(generator, LLMGenerator):
        return chosen_ids(node_ids, generator)
    return node_ids


def source_nodes(nodes: pa.Table, wanted: Collection[str]) -> list[SourceNode]:
    """Return the wanted nodes of a NODES table as generators see them, in the order of the ids."""
    starts = nodes.group_by("doc_key").aggregate([("start_char", "min")]).to_pylist()
    first = {row["doc_key"]: row["start_char_min"] for row in starts}
    rows = _rows(nodes, wanted)
    return [SourceNode.from_row(row, row["start_char"] == first[row["doc_key"]]) for row in rows]


def _rows(nodes: pa.Table, wanted: Collection[str]) -> list[dict[str, Any]]:
    """Return the first row of each wanted node, in the order of the ids."""
    of_wanted = pc.is_in(nodes.column("node_id"), pa.array(wanted, pa.string()))
    rows = {row["node_id"]: row for row in reversed(nodes.filter(of_wanted).to_pylist())}
    return [rows[node_id] for node_id in sorted(rows)]


def _drafts(
    generator: Generator,
    sources: Sequence[SourceNode],
    statistics: TermStatistics,
    settings: Settings,
    work: Workspace,
) -> dict[str, list[Draft]]:
    if isinstance(generator, ExtractiveGenerator):
        return _extractive_drafts(generator, sources, statistics, work)
    if isinstance(generator, LLMGenerator):
        return write_questions(sources, generator, settings.compute, work)
    if isinstance(generator, ImportGenerator):
        return _imported_drafts(generator, sources, work)
    raise RagftError(f"questions.generators: no generator {generator!r}")


def _imported_drafts(
    generator: ImportGenerator, sources: Sequence[SourceNode], work: Workspace
) -> dict[str, list[Draft]]:
    found = read_labelled(Path(generator.path), generator.format)
    drafts = imported_drafts(found, sources)
    matched = {draft.question for own in drafts.values() for draft in own}
    asked = len(found.questions)
    work.count("imported_questions", asked)
    work.count("imported_matched", len(matched))
    work.count("imported_left_out", len(found.left_out))
    work.progress(
        f"{generator.path}: {len(matched)} of {asked} questions are about nodes of this "
        f"split; {asked - len(matched)} match none of them"
    )
    for line in found.left_out[:_NAMED]:
        work.progress(f"{generator.path}: left out, {line}")
    if len(found.left_out) > _NAMED:
        work.progress(f"{generator.path}: and {len(found.left_out) - _NAMED} more left out")
    return drafts


def _extractive_drafts(
    generator: ExtractiveGenerator,
    sources: Sequence[SourceNode],
    statistics: TermStatistics,
    work: Workspace,
) -> dict[str, list[Draft]]:
    row_settings = digest_of(EXTRACTIVE_VERSION, generator.digest(), statistics.digest)
    cache = work.rows("extractive_drafts", row_settings, DRAFTS_SCHEMA, family="*_qa_pairs")

    extract = _Extract(generator, statistics)
    keys = {node: _extract_key(node) for node in sources}
    rows = cache.complete(sources, keys.__getitem__, extract, batch_size=4096)
    by_key = dict(zip(rows.column("row_key").to_pylist(), rows.column("drafts").to_pylist()))
    return {node.node_id: [Draft(**draft) for draft in by_key[key]] for node, key in keys.items()}


@dataclass(frozen=True)
class _Extract(RowFunction[SourceNode]):
    """Drafts cut out of nodes."""

    seconds: ClassVar[float] = 0.002
    generator: ExtractiveGenerator
    statistics: TermStatistics

    def __call__(self, units: Sequence[SourceNode]) -> pa.Table:
        rows = [
            draft_row(_extract_key(node), extract_questions(node, self.generator, self.statistics))
            for node in units
        ]
        return pa.Table.from_pylist(rows, schema=DRAFTS_SCHEMA)


def _extract_key(node: SourceNode) -> str:
    return digest_of(node.node_id, node.title, node.heading, node.first)


def _pair(candidate: Candidate, rows: dict[str, dict[str, object]]) -> dict[str, object]:
    row = rows[candidate.node_id]
    offset = int(str(row["start_char"]))
    return {
        "question_id": candidate.question_id,
        "question": candidate.draft.question,
        "kind": candidate.draft.kind,
        "generator": candidate.generator,
        "node_id": candidate.node_id,
        "doc_key": row["doc_key"],
        "cluster": row["cluster"],
        "answer_start": offset + candidate.draft.start,
        "answer_end": offset + candidate.draft.end,
    }
