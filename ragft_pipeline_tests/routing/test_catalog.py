"""The tool catalog: what an entry says, and what an edit changes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from ragft_pipeline import schemas
from ragft_pipeline.models.language_model import Reply
from ragft_pipeline.retrieval.lexical import TermStatistics
from ragft_pipeline.routing.catalog import (
    KINDS,
    ToolDocument,
    identifiers,
    make_catalog,
    tool_documents,
    write_summaries,
)
from ragft_pipeline.store import ArtifactStore, Workspace

TEXTS = {
    "pumps/north.md": ["# North pump\n\nThe strainer is cleaned on Mondays.", "Flag --dry-run."],
    "pumps/south.md": ["# South pump\n\nThe belt BX-41 is changed in May."],
    "night.md": ["# Night watch\n\nThe watch begins at ten, see watch_log.csv."],
}
STATISTICS = TermStatistics.of([text for texts in TEXTS.values() for text in texts])


def _documents(**changes: list[str]) -> list[ToolDocument]:
    texts = {**TEXTS, **changes}
    return [
        ToolDocument(
            f"key of {path} {hash(tuple(parts))}", path, parts[0].split("\n")[0].strip("# "),
            path, "train", [f"{path}{part}" for part in parts], ["" for _ in parts], parts,
        )
        for path, parts in texts.items()
    ]  # fmt: skip


@contextmanager
def _published(folder: Path) -> Iterator[Workspace]:
    """Give a workspace, and publish what was made in it."""
    store = ArtifactStore(folder)
    with store.staging("tool_catalog") as staged:
        work = Workspace(store, "tool_catalog", staged)
        yield work
        action = f"{len(list((folder / 'artifacts').glob('*/*')))}"
        store.publish(
            "tool_catalog", action, staged, data_version=action, facts={}, inputs={}, lineage=""
        )
        work.published()


def _make(folder: Path, documents: list[ToolDocument]) -> tuple[pa.Table, Workspace]:
    with _published(folder) as work:
        return make_catalog(documents, STATISTICS, {}, work), work


def test_every_document_and_folder_has_a_tool_of_each_kind(tmp_path: Path) -> None:
    table, _ = _make(tmp_path, _documents())
    assert table.schema == schemas.TOOL_CATALOG.schema
    rows = table.to_pylist()
    assert len(rows) == len(KINDS) * (3 + 1)  # three documents and one folder
    by_id = {(row["path"], row["kind"]): row["description"] for row in rows}
    assert "--dry-run" in by_id["pumps/north.md", "keyword"]
    assert "--dry-run" not in by_id["pumps/north.md", "vector"].replace("dry", "")
    assert "strainer" in by_id["pumps/north.md", "summary"]
    assert by_id["pumps", "summary"].endswith("pumps: North pump; South pump.")


def test_an_edit_computes_the_entries_of_its_document_alone(tmp_path: Path) -> None:
    before, first = _make(tmp_path, _documents())
    edited = _documents(**{"night.md": ["# Night watch\n\nThe watch begins at eleven."]})
    after, second = _make(tmp_path, edited)
    assert first.counts["rows_computed"] == 3
    assert second.counts["rows_computed"] == 1
    assert second.counts["rows_reused"] == 2
    old = {tuple(row.items()) for row in before.to_pylist()}
    new = {tuple(row.items()) for row in after.to_pylist()}
    assert {dict(row)["path"] for row in new - old} == {"night.md"}


def test_a_summary_that_failed_is_asked_for_again_and_the_others_are_not(tmp_path: Path) -> None:
    asked: list[int] = []

    class Model:
        def __init__(self, failing: str) -> None:
            self.failing = failing

        def ask(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Reply | None]:
            asked.append(len(prompts))
            said = "<think>hm</think> A line.\n" + " word" * 100
            return [None if self.failing in prompt else Reply(said, 9, 3) for prompt in prompts]

    documents = _documents()
    with _published(tmp_path) as work:
        written = write_summaries(documents, Model("Night"), "m", work)
    assert work.counts["llm_failures"] == 1
    assert {one.path for one in documents if one.doc_key not in written} == {"night.md"}
    with _published(tmp_path) as work:
        written = write_summaries(documents, Model("nothing"), "m", work)
        table = make_catalog(documents, STATISTICS, written, work)
    assert asked == [3, 1]
    assert all("A line." in row["description"] for row in table.to_pylist() if row["split"])
    assert all("think" not in line and len(line.split()) == 60 for line in written.values())


def test_documents_are_one_a_distinct_text_with_nodes_in_reading_order() -> None:
    nodes = pa.Table.from_pylist(
        [
            {"node_id": f"n{start}", "doc_key": "same", "split": split, "title": "T",
             "cluster": "c", "heading_path": [], "text": "", "start_char": start}
            for start, split in ((50, "train"), (0, "test"))
        ]
    )  # fmt: skip
    (found,) = tool_documents(nodes, {"same": "a.md"})
    assert (found.path, found.node_ids, found.folder) == ("a.md", ["n0", "n50"], "")
    assert found.split == "train", "one of its passages is protected, not the document"


def test_identifiers_are_names_no_sentence_holds_by_chance() -> None:
    text = "Set --dry-run or retryCount in app.yaml4, see BX-41, E404 and HandoverNote. A b-side."
    found = identifiers([text, "BX-41"])
    assert found[0] == "BX-41"
    assert {"--dry-run", "retryCount", "E404", "HandoverNote"} <= set(found)
    assert not {"Set", "A", "see"} & set(found)
