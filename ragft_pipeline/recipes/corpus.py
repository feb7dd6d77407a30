"""The corpus: the frozen documents, their nodes and splits, people's questions, term statistics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

from ragft_pipeline import schemas
from ragft_pipeline.corpus.chunking import Chunked, FrozenDocument, chunk_changes, chunk_documents
from ragft_pipeline.corpus.gold import read_gold_questions
from ragft_pipeline.corpus.nodes import with_context
from ragft_pipeline.corpus.units import is_markdown
from ragft_pipeline.digests import digest_of
from ragft_pipeline.lineage.steps import Produced, Recipe, Step
from ragft_pipeline.models.weights import require_embedder, resolve_weights
from ragft_pipeline.retrieval.lexical import TermStatistics

SPLITS = ("train", "val", "test")
_TEXTS_AT_ONCE = 8192


def _snapshot(step: Step) -> Produced:
    facts = {name: step.snapshot.facts[name] for name in ("documents", "skipped", "characters")}
    facts |= {f"{name}_because": text for name, text in step.snapshot.left_out.items()}
    return Produced(
        step.snapshot.table(schemas.DOCUMENTS), facts, data_version=step.snapshot.data_version
    )


corpus_snapshot = Recipe(
    "corpus_snapshot",
    _snapshot,
    code=2,
    table=schemas.DOCUMENTS,
    identity=lambda snapshot: snapshot.data_version,
)


def frozen_documents(step: Step, version: str) -> list[FrozenDocument]:
    """Return a version's documents, one entry a distinct text."""
    columns = ["path", "doc_key", "markdown", "title", "cluster", "split"]
    table = step.snapshots.load(version).table(schemas.DOCUMENTS).select(columns)
    rows, text = table.sort_by("path").to_pylist(), step.snapshots.text
    documents = {
        row["doc_key"]: FrozenDocument(
            row["doc_key"],
            row["markdown"],
            row["title"],
            row["cluster"],
            row["split"],
            partial(text, row["doc_key"]),
        )
        for row in reversed(rows)
    }
    return [documents[key] for key in sorted(documents)]


def guarded_documents(step: Step, version: str) -> list[FrozenDocument]:
    """Return the val and test documents of earlier versions that a version no longer has."""
    snapshot = step.snapshots.load(version)
    present = set(snapshot.table(schemas.DOCUMENTS).column("doc_key").to_pylist())
    ledger = snapshot.table(schemas.LEDGER).drop_columns("signature")
    held_out = ledger.filter(pc.not_equal(ledger.column("split"), "train"))
    text = step.snapshots.text
    return [
        FrozenDocument(
            row["doc_key"],
            is_markdown(row["path"]),
            "",
            row["cluster"],
            row["split"],
            partial(text, row["doc_key"]),
        )
        for row in held_out.to_pylist()
        if row["doc_key"] not in present
    ]


def cut_version(step: Step, version: str) -> pa.RecordBatchReader:
    """Return the NODES of any frozen version."""
    return chunk_documents(
        frozen_documents(step, version),
        guarded_documents(step, version),
        step.settings.chunking,
        require_embedder(resolve_weights(step.settings.embedder.model)),
        step.work,
    )


def _chunk(step: Step) -> Produced:
    if step.earlier is None:
        return Produced(cut_version(step, step.version))
    before = step.earlier
    made = chunk_changes(
        frozen_documents(step, step.version),
        guarded_documents(step, step.version),
        Chunked(
            frozen_documents(step, before.version),
            guarded_documents(step, before.version),
            before.artifact.table_path(),
            before.artifact.path,
        ),
        step.settings.chunking,
        require_embedder(resolve_weights(step.settings.embedder.model)),
        step.work,
    )
    return Produced(step.spliced(*made))


chunked_nodes = Recipe(
    "chunked_nodes",
    _chunk,
    inputs=("corpus_snapshot",),
    sections=("chunking", "embedder"),
    weights=("embedder",),
    calls=("corpus.chunking",),
    table=schemas.NODES,
    identity=lambda snapshot: snapshot.guard,
)


def _split_recipe(split: str) -> Recipe:
    def select(step: Step) -> Produced:
        if change := step.change("chunked_nodes", schemas.NODES):
            own = change.after.filter(pc.equal(change.after.column("split"), split))
            return Produced(step.spliced(change.groups, own))
        nodes = step.artifact("chunked_nodes").reader()
        return Produced(_filtered(nodes, split))

    return Recipe(f"{split}_nodes", select, inputs=("chunked_nodes",), table=schemas.NODES)


def _filtered(nodes: pa.RecordBatchReader, split: str) -> pa.RecordBatchReader:
    """Return the nodes of one split."""
    kept = (batch.filter(pc.equal(batch.column("split"), split)) for batch in nodes)
    return pa.RecordBatchReader.from_batches(nodes.schema, kept)


train_nodes, val_nodes, test_nodes = (_split_recipe(split) for split in SPLITS)


def _gold(step: Step) -> Produced:
    found = read_gold_questions(
        step.snapshot.gold_text, step.table("corpus_snapshot"), step.snapshots.text
    )
    facts = {"entries": found.entries, "of_whole_documents": found.of_whole_documents}
    reasons = Counter(one.reason for one in found.left_out)
    return Produced(found.table, facts | {f"left_out_{name}": n for name, n in reasons.items()})


gold_questions = Recipe(
    "gold_questions",
    _gold,
    inputs=("corpus_snapshot",),
    calls=("corpus.gold",),
    table=schemas.GOLD_QUESTIONS,
)


def _statistics(step: Step) -> Produced:
    """Count the train nodes of the version whose statistics are in force."""
    anchor = str(step.snapshot.facts["statistics_version"])
    weights = resolve_weights(step.settings.embedder.model)
    counted_by = digest_of(corpus_statistics.code_version(step.settings), weights.digest)
    language = step.settings.passages.language
    facts = {"statistics_of": anchor, "counted_by": counted_by}
    link = step.store.linked(anchor, "corpus_statistics")
    found = step.store.find("corpus_statistics", link.action) if link else None
    if found is not None and facts.items() <= found.facts.items():
        if step.earlier is None or step.earlier.artifact.data_version != found.data_version:
            return Produced(found.table(), facts)
        nothing = schemas.CORPUS_STATISTICS.schema.empty_table()
        return Produced(step.spliced(pa.array([], pa.string()), nothing), facts)
    nodes = _filtered(cut_version(step, anchor), "train").read_all()
    tables = [
        TermStatistics.of(_distinct_texts(nodes, context), language).to_table(context)
        for context in (False, True)
    ]
    return Produced(pa.concat_tables(tables).sort_by("term"), facts)


def _distinct_texts(nodes: pa.Table, context: bool) -> Iterator[str]:
    seen: set[str] = set()
    for batch in nodes.to_batches(_TEXTS_AT_ONCE):
        part = pa.Table.from_batches([batch])
        part = with_context(part) if context else part
        pairs = zip(part.column("node_id").to_pylist(), part.column("text").to_pylist())
        for node_id, text in pairs:
            if node_id not in seen:
                seen.add(node_id)
                yield text


corpus_statistics = Recipe(
    "corpus_statistics",
    _statistics,
    code=2,
    inputs=("train_nodes",),
    sections=("chunking", "passages", "embedder"),
    weights=("embedder",),
    calls=("corpus.chunking", "retrieval.words"),
    table=schemas.CORPUS_STATISTICS,
    identity=lambda snapshot: str(snapshot.facts["statistics_version"]),
)
