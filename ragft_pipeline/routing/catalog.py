"""The tool catalog: one entry a document or folder and an index kind, described by its own text.

An entry is made of one document alone and of frozen term statistics, so an edit to a document
changes that document's entries and no other. A folder's entry lists its documents' titles.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa

from ragft_pipeline import schemas
from ragft_pipeline.questions.llm import QuestionModel
from ragft_pipeline.retrieval.lexical import TermStatistics, lexical_terms
from ragft_pipeline.store import Workspace, digest_of

CATALOG_VERSION = 1  # raise it when some document would get another entry
KINDS = ("vector", "summary", "keyword")
DOCUMENT, COLLECTION = "document", "collection"
_PURPOSE = {
    "vector": "Specific facts in",
    "summary": "An overview of",
    "keyword": "Exact names and identifiers in",
}
_HEADINGS, _TERMS, _IDENTIFIERS, _TITLES = 10, 15, 12, 20
_WORD = r"[A-Za-z0-9]"
_IDENTIFIER = re.compile(
    rf"(?<![\w-])(?:--?[a-z]{_WORD}+(?:[-_]{_WORD}+)*"  # --flags
    rf"|{_WORD}+(?:[_./:-]{_WORD}+)*[_./:-](?=\S*[0-9_]){_WORD}+"  # dotted, dashed, underscored
    rf"|(?=\w*[0-9])(?=\w*[A-Za-z]){_WORD}{{3,}}"  # letters with digits
    r"|[a-z]+[A-Z]\w+|[A-Z][a-z]+[A-Z]\w+)(?!\w)"  # camel case
)
_SUMMARY_PROMPT = """\
{text}

In at most 25 words, what is this document about? Reply with one sentence only."""
_SUMMARY_CHARACTERS = 3000
_ENTRIES = pa.schema(
    [
        ("row_key", pa.string()),
        ("about", pa.string()),
        ("terms", pa.list_(pa.string())),
        ("identifiers", pa.list_(pa.string())),
        ("summary", pa.string()),
    ]
)


@dataclass(frozen=True)
class ToolDocument:
    """A document as the catalog sees it: where it lies, and its nodes in their order."""

    doc_key: str
    path: str
    title: str
    split: str
    node_ids: list[str]
    headings: list[str]
    texts: list[str]

    @property
    def key(self) -> str:
        """A digest of all that its entry is made of."""
        return digest_of(self.title, self.node_ids, self.headings)[:32]

    @property
    def folder(self) -> str:
        """The folder it lies in, empty at the top."""
        parent = PurePosixPath(self.path).parent.as_posix()
        return "" if parent == "." else parent


def tool_documents(nodes: pa.Table, paths: Mapping[str, str] | None = None) -> list[ToolDocument]:
    """Return the documents that have nodes, one a distinct text, in the order of their keys.

    Args:
        nodes: NODES.
        paths: where each document lies, by doc_key; only the catalog shows it.
    """
    paths = paths or {}
    rows: dict[str, list[dict[str, Any]]] = {}
    for row in nodes.sort_by("start_char").to_pylist():
        rows.setdefault(row["doc_key"], []).append(row)
    return [
        ToolDocument(
            key,
            paths.get(key, ""),
            rows[key][0]["title"],
            rows[key][0]["split"],
            [row["node_id"] for row in rows[key]],
            [row["heading"] for row in rows[key]],
            [row["text"] for row in rows[key]],
        )
        for key in sorted(rows)
    ]


def make_catalog(
    documents: Sequence[ToolDocument],
    statistics: TermStatistics,
    model: QuestionModel | None,
    model_identity: str,
    work: Workspace,
) -> pa.Table:
    """Return the TOOL_CATALOG; a document's entry is computed once.

    Args:
        model: writes a line about each document; None for none.
        model_identity: a digest of what decides its answers.
    """
    counted = digest_of(sorted(statistics.document_frequency.items()), statistics.nodes)
    settings = digest_of(CATALOG_VERSION, counted, model_identity)

    def describe(batch: Sequence[ToolDocument]) -> pa.Table:
        summaries = _summaries(batch, model, work)
        rows = [
            {"row_key": document.key, "summary": summary, **_entry(document, statistics)}
            for document, summary in zip(batch, summaries)
            if summary is not None
        ]
        return pa.Table.from_pylist(rows, schema=_ENTRIES)

    cache = work.rows("tool_entries", settings, _ENTRIES)
    batch_size = 16 if model is not None else 1024
    found = cache.complete(documents, lambda d: d.key, describe, batch_size=batch_size)
    entries = {row["row_key"]: row for row in found.to_pylist()}
    tools = [
        row
        for document in documents
        if (entry := entries.get(document.key)) is not None
        for row in _tools(
            DOCUMENT, document.doc_key, document.path, document.title, document.split,
            *_descriptions(entry),
        )
    ]  # fmt: skip
    tools += _collections(documents)
    return pa.Table.from_pylist(tools, schema=schemas.TOOL_CATALOG.schema)


def identifiers(texts: Iterable[str]) -> list[str]:
    """Return the exact names in some texts (flags, codes, dotted and camel-case names) by count."""
    counts = Counter(match.group() for text in texts for match in _IDENTIFIER.finditer(text))
    return sorted(counts, key=lambda name: (-counts[name], name))


def _entry(document: ToolDocument, statistics: TermStatistics) -> dict[str, Any]:
    headings = [heading for heading in dict.fromkeys(document.headings) if heading]
    counts = Counter(term for text in document.texts for term in lexical_terms(text))
    words = [term for term in counts if not term.isdigit()]
    terms = sorted(words, key=lambda term: (-counts[term] * statistics.idf(term), term))
    about = f"{document.title}: {'; '.join(headings[:_HEADINGS])}" if headings else document.title
    return {
        "about": about,
        "terms": terms[:_TERMS],
        "identifiers": identifiers(document.texts)[:_IDENTIFIERS],
    }


def _descriptions(entry: dict[str, Any]) -> tuple[str, dict[str, str]]:
    summary = f" {entry['summary']}" if entry["summary"] else ""
    whole = f"{entry['about']}.{summary} {', '.join(entry['terms'])}."
    names = f" {', '.join(entry['identifiers'])}." if entry["identifiers"] else ""
    return whole, {"keyword": names}


def _tools(
    scope: str, scope_id: str, path: str, title: str, split: str, about: str, more: dict[str, str]
) -> list[dict[str, Any]]:
    return [
        {
            "tool_id": f"{kind}:{scope_id}",
            "scope": scope,
            "scope_id": scope_id,
            "kind": kind,
            "path": path,
            "title": title,
            "split": split,
            "description": f"{_PURPOSE[kind]} {about}{more.get(kind, '')}",
        }
        for kind in KINDS
    ]


def _collections(documents: Sequence[ToolDocument]) -> list[dict[str, Any]]:
    folders: dict[str, set[str]] = {}
    for document in documents:
        folders.setdefault(document.folder, set()).add(document.title)
    return [
        row
        for folder in sorted(folders)
        if folder
        for row in _tools(
            COLLECTION, folder, folder, folder, "",
            f"{folder}: {'; '.join(sorted(folders[folder])[:_TITLES])}.", {},
        )
    ]  # fmt: skip


def _summaries(
    batch: Sequence[ToolDocument], model: QuestionModel | None, work: Workspace
) -> list[str | None]:
    """Return a line about each document; None where the model failed, to be asked again."""
    if model is None:
        return [""] * len(batch)
    prompts = [
        _SUMMARY_PROMPT.format(text="\n".join(document.texts)[:_SUMMARY_CHARACTERS])
        for document in batch
    ]
    replies = model.ask(prompts, [int(document.key[:7], 16) for document in batch])
    work.count("llm_calls", len(batch))
    work.count("llm_failures", sum(reply is None for reply in replies))
    return [None if reply is None else " ".join(reply.text.split()) for reply in replies]
