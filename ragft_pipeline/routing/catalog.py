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
from ragft_pipeline.corpus.nodes import nearest_heading
from ragft_pipeline.digests import digest_of
from ragft_pipeline.models.language_model import Reply
from ragft_pipeline.questions.llm import QuestionModel, spoken
from ragft_pipeline.questions.replies import cached_replies
from ragft_pipeline.retrieval.lexical import TermStatistics, key_words
from ragft_pipeline.store import Workspace

CATALOG_VERSION = 1  # raise it when some document would get another entry
SUMMARY_VERSION = 1  # raise it when the prompt or what is kept of an answer changes
KINDS = ("vector", "summary", "keyword")
DOCUMENT, COLLECTION = "document", "collection"
_PURPOSE = {
    "vector": "Specific facts in",
    "summary": "An overview of",
    "keyword": "Exact names and identifiers in",
}
_PROTECTION = ("train", "val", "test")
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
_SUMMARY_CHARACTERS, _SUMMARY_WORDS = 3000, 60
_ENTRIES = pa.schema(
    [
        ("row_key", pa.string()),
        ("about", pa.string()),
        ("terms", pa.list_(pa.string())),
        ("identifiers", pa.list_(pa.string())),
    ]
)


@dataclass(frozen=True)
class ToolName:
    """What a tool is called: a document (its doc_key) or a folder, and how it is searched."""

    scope_id: str
    kind: str

    @property
    def tool_id(self) -> str:
        """The name in the catalog."""
        return f"{self.kind}:{self.scope_id}"

    @classmethod
    def parse(cls, name: str | None) -> ToolName | None:
        """Read a tool's name; None where it is none of a catalog."""
        kind, _, scope_id = (name or "").partition(":")
        return cls(scope_id, kind) if kind in KINDS and scope_id else None


@dataclass(frozen=True)
class ToolDocument:
    """A document as the catalog sees it: where it lies, and its nodes in their order.

    A node that also stands in a test document is kept from training wherever it stands, so a
    document's split is that of its least protected node.
    """

    doc_key: str
    path: str
    title: str
    cluster: str
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
            rows[key][0]["cluster"],
            min((row["split"] for row in rows[key]), key=_PROTECTION.index),
            [row["node_id"] for row in rows[key]],
            [nearest_heading(row) for row in rows[key]],
            [row["text"] for row in rows[key]],
        )
        for key in sorted(rows)
    ]


def make_catalog(
    documents: Sequence[ToolDocument],
    statistics: TermStatistics,
    summaries: Mapping[str, str],
    work: Workspace,
) -> pa.Table:
    """Return the TOOL_CATALOG; a document's entry is computed once.

    Args:
        statistics: frozen term statistics, for the choice of key phrases.
        summaries: a line about documents, by doc_key; none need be there.
    """

    def describe(batch: Sequence[ToolDocument]) -> pa.Table:
        rows = [{"row_key": one.key, **_entry(one, statistics)} for one in batch]
        return pa.Table.from_pylist(rows, schema=_ENTRIES)

    cache = work.rows("tool_entries", digest_of(CATALOG_VERSION, statistics.digest), _ENTRIES)
    found = cache.complete(documents, lambda one: one.key, describe, batch_size=1024)
    entries = {row["row_key"]: row for row in found.to_pylist()}
    tools = [
        row
        for one in documents
        for row in _tools(
            DOCUMENT, one.doc_key, one.path, one.title, one.split,
            *_descriptions(entries[one.key], summaries.get(one.doc_key, "")),
        )
    ]  # fmt: skip
    tools += _collections(documents)
    return pa.Table.from_pylist(tools, schema=schemas.TOOL_CATALOG.schema)


def write_summaries(
    documents: Sequence[ToolDocument], model: QuestionModel, identity: str, work: Workspace
) -> dict[str, str]:
    """Return a line about each document by doc_key, asking about none that was asked about before.

    A document that the model fails on is left out, counted as `llm_failures`, and asked about again
    in the next run.

    Args:
        identity: a digest of what decides the model's answers.
    """

    def ask(batch: Sequence[ToolDocument]) -> list[Reply | None]:
        prompts = [
            _SUMMARY_PROMPT.format(text="\n".join(one.texts)[:_SUMMARY_CHARACTERS]) for one in batch
        ]
        return model.ask(prompts, [int(one.key[:7], 16) for one in batch])

    by_key = {one.key: one for one in documents}
    made_under = digest_of(SUMMARY_VERSION, identity)
    replies = cached_replies(work, "tool_summaries", made_under, by_key, ask, batch_size=16)
    return {
        one.doc_key: " ".join(spoken(replies[one.key].text).split()[:_SUMMARY_WORDS])
        for one in documents
        if one.key in replies
    }


def describing(catalog: pa.Table) -> dict[str, str]:
    """Return each document's plain description: that of its `summary` tool."""
    return {
        row["scope_id"]: row["description"]
        for row in catalog.to_pylist()
        if row["scope"] == DOCUMENT and row["kind"] == "summary"
    }


def identifiers(texts: Iterable[str]) -> list[str]:
    """Return the exact names in some texts (flags, codes, dotted and camel-case names) by count."""
    counts = Counter(match.group() for text in texts for match in _IDENTIFIER.finditer(text))
    return sorted(counts, key=lambda name: (-counts[name], name))


def _entry(document: ToolDocument, statistics: TermStatistics) -> dict[str, Any]:
    headings = [heading for heading in dict.fromkeys(document.headings) if heading]
    about = f"{document.title}: {'; '.join(headings[:_HEADINGS])}" if headings else document.title
    return {
        "about": about,
        "terms": key_words(document.texts, statistics)[:_TERMS],
        "identifiers": identifiers(document.texts)[:_IDENTIFIERS],
    }


def _descriptions(entry: dict[str, Any], summary: str) -> tuple[str, dict[str, str]]:
    said = f" {summary}" if summary else ""
    whole = f"{entry['about']}.{said} {', '.join(entry['terms'])}."
    names = f" {', '.join(entry['identifiers'])}." if entry["identifiers"] else ""
    return whole, {"keyword": names}


def _tools(
    scope: str, scope_id: str, path: str, title: str, split: str, about: str, more: dict[str, str]
) -> list[dict[str, Any]]:
    return [
        {
            "tool_id": ToolName(scope_id, kind).tool_id,
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
