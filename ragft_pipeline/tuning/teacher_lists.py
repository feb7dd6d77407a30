"""The teacher's first look: each question's best nodes, kept so that a later version can follow."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ragft_pipeline.retrieval.best_lists import Asked, BestLists, Searched, follow, rounded, search
from ragft_pipeline.retrieval.encoder import Encoder, cached_vectors
from ragft_pipeline.retrieval.lexical import LexicalIndex, TermStatistics
from ragft_pipeline.retrieval.search import rows_at_once
from ragft_pipeline.retrieval.terms import Terms, cached_terms, runs
from ragft_pipeline.retrieval.words import language_of
from ragft_pipeline.settings import Settings
from ragft_pipeline.store import Artifact, Workspace
from ragft_pipeline.store.tables import encodings, segments_of
from ragft_pipeline.tuning.data import Questions

FILES = _LISTS, _COUNTED = "best_lists.parquet", "best_lists.json"
_IDS = "node_ids.list.element"
_WHOLE = 2  # where more than one node in so many left or came, all questions are searched for


@dataclass(frozen=True)
class KeptLists:
    """An earlier version's lists, and by which nodes (id to text) this version differs from it.

    Attributes:
        languages: how many nodes were in each language.
    """

    lists: BestLists
    bm25_weight: float
    languages: Counter[str]
    gone: Mapping[str, str]
    came: Mapping[str, str]

    @classmethod
    def load(
        cls, artifact: Artifact, gone: Mapping[str, str], came: Mapping[str, str]
    ) -> KeptLists | None:
        """Read what `FirstLook.save` wrote, and what it left to the artifact's table.

        None where there was no question.
        """
        if not (artifact.path / _COUNTED).is_file():
            return None
        counted = json.loads((artifact.path / _COUNTED).read_text(encoding="utf-8"))
        kept = pq.read_table(artifact.path / _LISTS).combine_chunks()
        taught = [
            pq.read_table(file, columns=["node_ids", "scores"], read_dictionary=[_IDS])
            for file in segments_of(artifact.table_path())
        ]
        heads = [chunk.flatten() for part in taught for chunk in part.column("node_ids").chunks]
        tails, own = (_flat(kept, name) for name in ("node_ids", "own_ids"))
        names = pc.unique(pa.concat_arrays([*(head.dictionary for head in heads), tails, own]))
        names = names.take(pc.sort_indices(names))
        head = [pc.index_in(one.dictionary, names).to_numpy()[one.indices] for one in heads]
        nodes = np.concatenate(head).reshape(kept.num_rows, -1)
        scores = np.concatenate([_flat(part, "scores") for part in taught]).reshape(nodes.shape)
        as_listed = kept.column("as_listed").to_numpy()
        lengths = pc.list_value_length(kept.column("node_ids")).to_numpy()
        before = np.where(as_listed, nodes.shape[1], 0)
        shape = (kept.num_rows, int((before + lengths).max()))
        lists = np.full(shape, -1), np.full(shape, -1, np.float32)
        rows = np.repeat(np.arange(len(lengths)), lengths)
        columns = runs(before, lengths)
        for whole, first, rest in zip(
            lists,
            (nodes, scores),
            (pc.index_in(tails, names).to_numpy(), _flat(kept, "scores").to_numpy()),
        ):
            whole[as_listed, : nodes.shape[1]] = first[as_listed]
            whole[rows, columns] = rest
        answers = pc.list_value_length(kept.column("own_ids")).to_numpy()
        found = BestLists(
            kept.column("question_id").to_pylist(), names, *lists,
            np.repeat(np.arange(len(answers)), answers),
            pc.index_in(own, names).to_numpy(), _flat(kept, "own_scores").to_numpy(),
            *(np.asarray(_flat(kept, name)).reshape(-1, 4) for name in ("bounds", "having")),
        )  # fmt: skip
        return cls(found, counted["bm25_weight"], Counter(counted["languages"]), gone, came)

    def stand(self, questions: Questions, bm25_weight: float) -> bool:
        """Say whether nothing is otherwise."""
        same = self.lists.ids == questions.ids and self.bm25_weight == bm25_weight
        return same and not (self.gone or self.came)


@dataclass
class FirstLook:
    """Ranks the nodes for the teacher's questions by BM25 and the base embedder.

    Attributes:
        read: returns the nodes as they are read, id to text; asked where all are searched.
        kept: an earlier version's lists, by the same statistics and embedder.
    """

    read: Callable[[], Mapping[str, str]]
    statistics: TermStatistics
    bm25_weight: float
    settings: Settings
    work: Workspace
    kept: KeptLists | None = None

    def lists(self, questions: Questions) -> BestLists:
        """Return the best nodes of some questions, following a change where that can be."""
        kept = self._usable()
        vectors = cached_vectors(self.work, self._encoder, questions.by_id(), "query")[1]
        asked = Asked(questions.ids, questions.texts, rounded(vectors), questions.answers())
        place = {key: row for row, key in enumerate(kept.lists.ids)} if kept else {}
        known = np.array([key in place for key in asked.ids], bool)
        if kept is None or not known.any():
            return self._searched(asked)
        old = kept.lists.at(np.array([place[key] for key in asked.ids if key in place], int))
        ours = asked.at(np.flatnonzero(known))
        gone, came = (self._nodes(texts) for texts in (kept.gone, kept.came))
        size = rows_at_once(len(gone.ids) + len(came.ids), len(old.ids))
        weight, depth = 1 - self.bm25_weight, self.settings.teacher.depth
        parts = [
            follow(old.at(rows), ours.at(rows), gone, came, kept.languages.total(), weight, depth)
            for rows in np.split(np.arange(len(old.ids)), range(size, len(old.ids), size))
        ]
        found = BestLists.joined([lists for lists, _ in parts])
        anew = np.concatenate([rows for _, rows in parts])
        again = np.append(np.flatnonzero(known)[anew], np.flatnonzero(~known))
        self.work.count("questions_followed", len(asked.ids) - len(again))
        self.work.count("questions_searched", len(again))
        if not len(again):
            return found
        order = np.argsort(np.append(np.flatnonzero(known)[~anew], again))
        whole = self._searched(asked.at(again))
        return BestLists.joined([found.at(np.flatnonzero(~anew)), whole]).at(order)

    def save(self, lists: BestLists, as_listed: np.ndarray, width: int) -> None:
        """Keep lists in the artifact for a later version.

        Args:
            as_listed: whose first `width` entries the table of scores has as they are.
        """
        rest = lists.nodes >= 0
        rest[as_listed, :width] = False
        fours = np.full(len(lists.ids), 4)
        own = np.bincount(lists.asking, minlength=len(lists.ids))
        names = lists.names
        columns = {
            "question_id": lists.ids,
            "as_listed": as_listed,
            "node_ids": _lists(names.take(pa.array(lists.nodes[rest])), rest.sum(axis=1)),
            "scores": _lists(lists.scores[rest], rest.sum(axis=1)),
            "own_ids": _lists(names.take(pa.array(lists.answers)), own),
            "own_scores": _lists(lists.answer_scores, own),
            "bounds": _lists(lists.bounds.reshape(-1), fours),
            "having": _lists(lists.having.reshape(-1), fours),
        }
        table = pa.table(columns)
        place = self.work.folder / _LISTS
        pq.write_table(table, place, compression="zstd", **encodings(table.schema))
        counted = {"languages": self.languages, "bm25_weight": self.bm25_weight}
        text = json.dumps(counted, sort_keys=True)
        (self.work.folder / _COUNTED).write_text(text, encoding="utf-8")

    @cached_property
    def languages(self) -> Counter[str]:
        """How many nodes are in each language; a question takes the forms of all of them."""
        if self.kept is None:
            return Counter(self._terms.languages)
        own = self.statistics.language
        gone, came = (
            Counter(language_of(text, own) for text in texts.values())
            for texts in (self.kept.gone, self.kept.came)
        )
        return self.kept.languages - gone + came

    def _usable(self) -> KeptLists | None:
        """Return the kept lists where they can be followed; else say why not."""
        kept = self.kept
        if kept is None:
            return None
        reason = ""
        if kept.bm25_weight != self.bm25_weight:
            reason = f"BM25's weight was {kept.bm25_weight}"
        elif kept.languages.keys() != self.languages.keys():
            reason = "the languages are others"
        elif _WHOLE * (len(kept.gone) + len(kept.came)) > kept.languages.total():
            reason = f"{len(kept.gone)} nodes left and {len(kept.came)} came"
        if reason:
            self.work.progress(f"{self.work.asset}: all questions are searched for: {reason}")
        return None if reason else kept

    @cached_property
    def _encoder(self) -> Encoder:
        return Encoder.base(self.settings.embedder, self.settings.compute)

    @cached_property
    def texts(self) -> Mapping[str, str]:
        """All nodes."""
        return self.read()

    @cached_property
    def _terms(self) -> Terms:
        return cached_terms(self.work, list(self.texts.values()), self.statistics.language)

    def _searched(self, asked: Asked) -> BestLists:
        nodes = self._nodes(self.texts, self._terms)
        return search(asked, nodes, 1 - self.bm25_weight, self.settings.teacher.depth)

    def _nodes(self, texts: Mapping[str, str], terms: Terms | None = None) -> Searched:
        ids = sorted(texts)
        lexical = LexicalIndex(
            [texts[key] for key in ids],
            self.statistics,
            asked_in=sorted(self.languages),
            terms=terms,
        )
        _, vectors = cached_vectors(
            self.work, self._encoder, {key: texts[key] for key in ids}, "document"
        )
        return Searched(ids, rounded(vectors), lexical)


def _flat(table: pa.Table, name: str) -> Any:
    """Return the entries of a table's lists."""
    return table.column(name).combine_chunks().flatten()


def _lists(values: Any, lengths: np.ndarray) -> pa.ListArray:
    ends = np.append(0, np.cumsum(lengths)).astype(np.int32)
    return pa.ListArray.from_arrays(ends, pa.array(values))
