"""The teacher's first look: each question's best nodes, kept so that a later version can follow.

An artifact shares the parts of the lists with those before it and adds one. Its table has the lists
of questions that were looked at again, and nothing where the teacher's are the best of these lists.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ragft_pipeline.digests import file_sha256
from ragft_pipeline.retrieval.best_lists import (
    ENTRIES,
    STANDING,
    Asked,
    Part,
    Searched,
    follow,
    listed,
    ranked,
    rounded,
    search,
)
from ragft_pipeline.retrieval.encoder import Encoder, cached_vectors
from ragft_pipeline.retrieval.lexical import LexicalIndex, TermStatistics
from ragft_pipeline.retrieval.search import rows_at_once
from ragft_pipeline.retrieval.terms import Terms, cached_terms
from ragft_pipeline.retrieval.token_rows import vectors_with_tokens
from ragft_pipeline.retrieval.words import language_of
from ragft_pipeline.settings import Settings
from ragft_pipeline.store import Artifact, Workspace
from ragft_pipeline.store.tables import encodings
from ragft_pipeline.tuning.data import Questions

FILES = _STANDING, _PARTS = "standing_lists.parquet", "list_parts.json"
_WHOLE = 2  # where more than one node in so many left or came, all questions are searched for
_ADDED = 4  # where more than one entry in so many was added, lists are written as one part,
_MOST = 32  # and where there are more parts


@dataclass(frozen=True)
class Lists:
    """The lists of questions: what is known of them, and the parts that they are made of.

    Attributes:
        standing: STANDING, by ascending ids.
        width: how many of each list's best the teacher keeps.
    """

    standing: pa.Table
    parts: Sequence[Part]
    width: int

    def best(
        self, questions: Sequence[str], width: int | None
    ) -> tuple[pa.Array, np.ndarray, np.ndarray]:
        """Return the best nodes of some questions, as `ranked` does."""
        return ranked(self.parts, questions, width)

    def scores(self, judged: pa.Table) -> pa.Table:
        """Return TEACHER_SCORES whole: `judged`, and the best of the lists where it has none."""
        plain = pc.is_null(judged.column("node_ids"))
        ids = judged.column("question_id").filter(plain).to_pylist()
        best = listed(ids, *self.best(ids, self.width)).select(judged.column_names)
        both = pa.concat_tables([judged.filter(pc.invert(plain)), best.cast(judged.schema)])
        return both.take(pc.index_in(judged.column("question_id"), both.column("question_id")))


@dataclass(frozen=True)
class KeptLists:
    """An earlier version's lists, and by which nodes (id to text) this version differs from it.

    Attributes:
        languages: how many nodes were in each language.
    """

    lists: Lists
    bm25_weight: float
    languages: Counter[str]
    gone: Mapping[str, str]
    came: Mapping[str, str]

    @classmethod
    def load(
        cls, artifact: Path, gone: Mapping[str, str], came: Mapping[str, str]
    ) -> KeptLists | None:
        """Read what `FirstLook.save` wrote; None where there was no question."""
        if not (artifact / _PARTS).is_file():
            return None
        held = json.loads((artifact / _PARTS).read_text(encoding="utf-8"))
        parts = [Part(gone, artifact / name) for name, gone in held["parts"]]
        lists = Lists(pq.read_table(artifact / _STANDING), parts, held["width"])
        return cls(lists, held["bm25_weight"], Counter(held["languages"]), gone, came)

    def stand(self, questions: Questions, bm25_weight: float) -> bool:
        """Say whether nothing is otherwise."""
        same = self.lists.standing.column("question_id").to_pylist() == questions.ids
        return same and self.bm25_weight == bm25_weight and not (self.gone or self.came)


def read_scores(artifact: Artifact) -> pa.Table:
    """Return the TEACHER_SCORES of an artifact, whole."""
    kept, judged = KeptLists.load(artifact.path, {}, {}), artifact.table()
    return kept.lists.scores(judged) if kept else judged


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

    def lists(self, questions: Questions) -> Lists:
        """Return the lists of questions by ascending ids, following a change where that can be."""
        kept = self._usable()
        vectors = cached_vectors(self.work, self._encoder, questions.by_id(), "query")[1]
        asked = Asked(questions.ids, questions.texts, rounded(vectors), questions.answers())
        weight, depth = 1 - self.bm25_weight, self.settings.teacher.depth
        number = self.languages.total()
        width = min(depth, number)
        before = kept.lists.standing if kept else STANDING.empty_table()
        at = pc.index_in(pa.array(asked.ids), before.column("question_id"))
        known = pc.is_valid(at).to_numpy(False)
        if kept is None or not known.any():
            standing, entries = search(asked, self._all, weight, depth)
            return Lists(standing, [Part([], entries)], width)
        ours, old = asked.at(np.flatnonzero(known)), before.take(at.drop_null())
        gone, came = (self._nodes(texts) for texts in (kept.gone, kept.came))
        size = rows_at_once(len(gone.ids) + len(came.ids), len(ours.ids))
        again, found = np.flatnonzero(~known), []
        for rows in np.split(np.arange(len(ours.ids)), range(size, len(ours.ids), size)):
            standing, entries, anew = follow(
                old.take(rows), ours.at(rows), gone, came, number, weight, depth
            )
            left = pc.is_in(entries.column("question_id"), pa.array(ours.at(rows[anew]).ids, "str"))
            found.append((standing.filter(pa.array(~anew)), entries.filter(pc.invert(left))))
            again = np.append(again, np.flatnonzero(known)[rows[anew]])
        self.work.count("questions_followed", len(asked.ids) - len(again))
        self.work.count("questions_searched", len(again))
        if len(again):
            found.append(search(asked.at(np.sort(again)), self._all, weight, depth))
        standing, entries = (pa.concat_tables(tables) for tables in zip(*found))
        standing = standing.take(pc.index_in(pa.array(asked.ids), standing.column("question_id")))
        return Lists(standing, [*kept.lists.parts, Part(list(gone.ids), entries)], width)

    def save(self, lists: Lists) -> None:
        """Keep lists in the artifact for a later version; where parts have grown, as one.

        The artifact has the earlier parts.
        """
        folder, (*parts, last) = self.work.folder, lists.parts
        added = sum(part.size for part in (*parts[1:], last))
        if parts and (_ADDED * added > parts[0].size or len(parts) >= _MOST):
            ids = lists.standing.column("question_id").to_pylist()
            parts, last = [], Part([], listed(ids, *lists.best(ids, None)))
        new = folder / ".part"
        pq.write_table(last.entries, new, compression="zstd", **encodings(ENTRIES))
        names = [
            *(Path(part.entries).name for part in parts),
            f"best_lists.{file_sha256(new)}.parquet",
        ]
        new.replace(folder / names[-1])
        for file in folder.glob("best_lists.*.parquet"):
            if file.name not in names:
                file.unlink()
        held = {
            "parts": [[name, list(part.gone)] for name, part in zip(names, (*parts, last))],
            "width": lists.width,
            "bm25_weight": self.bm25_weight,
            "languages": self.languages,
        }
        (folder / _PARTS).write_text(json.dumps(held, sort_keys=True), encoding="utf-8")
        standing = encodings(STANDING)
        pq.write_table(lists.standing, folder / _STANDING, compression="zstd", **standing)

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

    @cached_property
    def _all(self) -> Searched:
        return self._nodes(self.texts, self._terms)

    def _nodes(self, texts: Mapping[str, str], terms: Terms | None = None) -> Searched:
        ids = sorted(texts)
        lexical = LexicalIndex(
            [texts[key] for key in ids],
            self.statistics,
            asked_in=sorted(self.languages),
            terms=terms,
        )
        passages = {key: texts[key] for key in ids}
        bits = self.settings.late_interaction.bits
        vectors = vectors_with_tokens(self.work, self._encoder, passages, bits)
        return Searched(ids, rounded(vectors), lexical)
