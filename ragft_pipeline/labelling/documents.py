"""Where passages stand in the documents, and what stands around them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from ragft_pipeline import schemas
from ragft_pipeline.corpus.snapshots import SnapshotStore
from ragft_pipeline.labelling.judgements import Passage
from ragft_pipeline.serving.searcher import Searcher


@dataclass(frozen=True)
class Around:
    """A passage with the text before it and after it."""

    path: str
    before: str
    text: str
    after: str


class Documents:
    """The frozen documents of a store; one object may serve many threads."""

    def __init__(self, snapshots: SnapshotStore) -> None:
        self._snapshots = snapshots
        self._rows = lru_cache(maxsize=4)(self._rows_of)
        self._text = lru_cache(maxsize=32)(snapshots.text)

    def _rows_of(self, version: str) -> dict[str, tuple[str, str, int, int]]:
        """Return of each doc_key the file, the key of its text, where it begins there, and where
        that text begins in the file.
        """
        table = self._snapshots.load(version).table(schemas.DOCUMENTS)
        return {
            row["doc_key"]: (
                row["file"] or row["path"], row["file_key"] or row["doc_key"],
                row["start_char"] or 0, row["front"] or 0,
            )
            for row in table.to_pylist()
        }  # fmt: skip

    def passage(self, searcher: Searcher, node_id: str) -> Passage:
        """Return where a node stands first."""
        row = searcher.places(node_id)[0]
        file, _, offset, front = self._rows(searcher.bundle.version)[row["doc_key"]]
        start = offset + front
        return Passage(file, row["start_char"] + start, row["end_char"] + start)

    def around(self, searcher: Searcher, node_id: str, reach: int) -> Around:
        """Return a node with at most `reach` characters of its document on either side."""
        row = searcher.places(node_id)[0]
        file, key, offset, _ = self._rows(searcher.bundle.version)[row["doc_key"]]
        text = self._text(key)
        start, end = row["start_char"] + offset, row["end_char"] + offset
        return Around(
            file, text[max(0, start - reach) : start], text[start:end],
            text[end : end + reach],
        )  # fmt: skip
