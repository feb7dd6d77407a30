"""Questions' best nodes by the base embedder and BM25, kept so that a later version can follow.

An artifact shares the parts of the lists with those before it and adds one.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

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
    Scored,
    Searched,
    follow,
    listed,
    ranked,
    rounded,
    search,
)
from ragft_pipeline.retrieval.encoder import Encoder
from ragft_pipeline.retrieval.lexical import LexicalIndex, TermStatistics
from ragft_pipeline.retrieval.search import rows_at_once
from ragft_pipeline.retrieval.terms import Terms, terms_of_units
from ragft_pipeline.retrieval.text_vectors import (
    EncodedText,
    cached_vectors,
    gathered,
    placed,
    units_of,
)
from ragft_pipeline.retrieval.token_rows import encoded_with_tokens
from ragft_pipeline.retrieval.wording import asked_terms
from ragft_pipeline.retrieval.words import language_of
from ragft_pipeline.settings import Settings
from ragft_pipeline.store import Workspace
from ragft_pipeline.store.segments import digest_in
from ragft_pipeline.store.tables import encodings
from ragft_pipeline.tuning.data import Questions

_WHOLE = 2  # where more than one node in so many left or came, all questions are searched for
_ADDED = 4  # where more than one entry in so many was added, lists are written as one part,
_MOST = 32  # and where there are more parts
_CELLS = 1 << 26  # scores of a search for which nodes are read part by part, 256 MB at most


@dataclass(frozen=True)
class Lists:
    """The lists of questions: what is known of them, and the parts that they are made of.

    Attributes:
        standing: STANDING, by ascending ids.
        width: how many of each list's best were asked for.
    """

    standing: pa.Table
    parts: Sequence[Part]
    width: int

    def best(
        self, questions: Sequence[str], width: int | None
    ) -> tuple[pa.Array, np.ndarray, np.ndarray]:
        """Return the best nodes of some questions, as `ranked` does."""
        return ranked(self.parts, questions, width)


@dataclass(frozen=True)
class KeptLists:
    """An earlier version's lists, and by which nodes (id to text) this version differs from it.

    Attributes:
        lists: by each of `bm25_weights`.
        folder: of the artifact.
        languages: how many nodes were in each language.
        files: what there is beside the parts.
    """

    folder: Path
    files: Sequence[str]
    lists: Sequence[Lists]
    bm25_weights: Sequence[float]
    languages: Counter[str]
    gone: Mapping[str, str]
    came: Mapping[str, str]

    @classmethod
    def load(
        cls, artifact: Path, title: str, gone: Mapping[str, str], came: Mapping[str, str]
    ) -> KeptLists | None:
        """Read what `FirstLook.save` wrote; None where there was no question."""
        if not (artifact / f"{title}.json").is_file():
            return None
        held = json.loads((artifact / f"{title}.json").read_text(encoding="utf-8"))
        lists = [
            Lists(
                pq.read_table(artifact / own["standing"]),
                [Part(gone, artifact / name) for name, gone in own["parts"]],
                held["width"],
            )
            for own in held["lists"]
        ]
        files = [f"{title}.json", *(own["standing"] for own in held["lists"])]
        spoken = Counter(held["languages"])
        return cls(artifact, files, lists, held["bm25_weights"], spoken, gone, came)

    def stand(self, questions: Questions, bm25_weights: Sequence[float]) -> bool:
        """Say whether nothing is otherwise."""
        same = self.lists[0].standing.column("question_id").to_pylist() == questions.ids
        weighted = list(self.bm25_weights) == list(bm25_weights)
        return same and weighted and not (self.gone or self.came)


@dataclass
class FirstLook:
    """Ranks nodes for questions by BM25 and the base embedder.

    Attributes:
        read: returns the nodes as they are read, id to text: all, where all are searched, or
            those of some ids.
        bm25_weights: each makes a list of its own.
        depth: how many of the best are asked for.
        title: how the names of the lists' files begin.
        kept: an earlier version's lists, by the same statistics and embedder.
    """

    read: Callable[[Sequence[str] | None], Mapping[str, str]]
    statistics: TermStatistics
    bm25_weights: Sequence[float]
    depth: int
    settings: Settings
    work: Workspace
    title: str
    kept: KeptLists | None = None

    def lists(self, questions: Questions) -> list[Lists]:
        """Return the lists by weight, of ascending ids, following a change where that can be."""
        kept = self._usable()
        vectors = cached_vectors(self.work, self._encoder, questions.by_id(), "query")[1]
        asked = Asked(questions.ids, questions.texts, rounded(vectors), questions.answers())
        width = min(self.depth, self.languages.total())
        before = kept.lists[0].standing if kept else STANDING.empty_table()
        known = pc.is_valid(pc.index_in(pa.array(asked.ids), before.column("question_id")))
        old, weights = np.flatnonzero(known), [1 - weight for weight in self.bm25_weights]
        if kept is None or not len(old):
            found = search(asked, self._nodes(self._units, self._terms), weights, self.depth)
            return [Lists(standing, [Part([], own)], width) for standing, own in found]
        changed = self._nodes(units_of(kept.gone)), self._nodes(units_of(kept.came))
        followed = [
            self._followed(lists, asked.at(old), *changed, weight)
            for lists, weight in zip(kept.lists, weights)
        ]
        stale = np.any([anew for *_, anew in followed], axis=0)
        again = np.sort(np.append(np.flatnonzero(~known.to_numpy(False)), old[stale]))
        self.work.count("questions_followed", len(asked.ids) - len(again))
        self.work.count("questions_searched", len(again))
        found = [(standing, entries) for standing, entries, _ in followed]
        if len(again):
            some = asked.at(again)
            few = len(some.ids) * len(self._units) <= _CELLS
            nodes = self._scored(some) if few else self._nodes(self._units, self._terms)
            anew = search(some, nodes, weights, self.depth)
            found = [_renewed(*pair, some.ids) for pair in zip(found, anew)]
        ids = pa.array(asked.ids)
        return [
            Lists(
                standing.take(pc.index_in(ids, standing.column("question_id"))),
                [*lists.parts, Part(list(kept.gone), entries)],
                width,
            )
            for lists, (standing, entries) in zip(kept.lists, found)
        ]

    def _followed(
        self, lists: Lists, asked: Asked, gone: Searched, came: Searched, dense_weight: float
    ) -> tuple[pa.Table, pa.Table, np.ndarray]:
        """Return what `follow` does of questions that were asked before, some at a time."""
        at = pc.index_in(pa.array(asked.ids), lists.standing.column("question_id"))
        before, number = lists.standing.take(at), self.languages.total()
        size = rows_at_once(len(gone.ids) + len(came.ids), len(asked.ids))
        blocks = np.split(np.arange(len(asked.ids)), range(size, len(asked.ids), size))
        parts = [
            follow(before.take(rows), asked.at(rows), gone, came, number, dense_weight, self.depth)
            for rows in blocks
        ]
        standing, entries = (pa.concat_tables([part[place] for part in parts]) for place in (0, 1))
        return standing, entries, np.concatenate([anew for *_, anew in parts])

    def save(self, lists: Sequence[Lists]) -> None:
        """Keep lists in the artifact for a later version; where parts have grown, as one.

        The artifact has the earlier parts.
        """
        held = [self._save(number, own) for number, own in enumerate(lists)]
        names = {name for own in held for name, _ in own["parts"]}
        for file in self.work.folder.glob(f"{self.title}.*.parquet"):
            if digest_in(file.name) and file.name not in names:
                file.unlink()
        said = {
            "lists": held,
            "width": lists[0].width,
            "bm25_weights": list(self.bm25_weights),
            "languages": self.languages,
        }
        text = json.dumps(said, sort_keys=True)
        (self.work.folder / f"{self.title}.json").write_text(text, encoding="utf-8")

    def _save(self, number: int, lists: Lists) -> dict[str, Any]:
        """Write the lists of a weight; return what is to be known of their files."""
        folder, (*parts, last) = self.work.folder, lists.parts
        added = sum(part.size for part in (*parts[1:], last))
        if parts and (_ADDED * added > parts[0].size or len(parts) >= _MOST):
            ids = lists.standing.column("question_id").to_pylist()
            parts, last = [], Part([], listed(ids, *lists.best(ids, None)))
        new = folder / ".part"
        pq.write_table(last.entries, new, compression="zstd", **encodings(ENTRIES))
        names = [
            *(Path(part.entries).name for part in parts),
            f"{self.title}.{file_sha256(new)}.parquet",
        ]
        new.replace(folder / names[-1])
        standing = f"{self.title}.{number}.parquet"
        options = encodings(STANDING)
        pq.write_table(lists.standing, folder / standing, compression="zstd", **options)
        gone = [list(part.gone) for part in (*parts, last)]
        return {"standing": standing, "parts": list(zip(names, gone))}

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
        if list(kept.bm25_weights) != list(self.bm25_weights):
            reason = f"BM25's weight was {kept.bm25_weights[0]}"
        elif kept.languages.keys() != self.languages.keys():
            reason = "the languages are others"
        elif _WHOLE * (len(kept.gone) + len(kept.came)) > kept.languages.total():
            reason = f"{len(kept.gone)} nodes left and {len(kept.came)} came"
        if reason:
            asset = self.work.asset
            self.work.progress(f"{asset}, {self.title}: all questions are searched for: {reason}")
        return None if reason else kept

    @cached_property
    def _encoder(self) -> Encoder:
        return Encoder.base(self.settings.embedder, self.settings.compute)

    @cached_property
    def texts(self) -> Mapping[str, str]:
        """All nodes."""
        return self.read(None)

    def some(self, ids: Sequence[str]) -> Mapping[str, str]:
        """Return some nodes."""
        return self.texts if "texts" in vars(self) else self.read(ids)

    @cached_property
    def _units(self) -> list[EncodedText]:
        """All nodes, by ascending ids."""
        return units_of(dict(sorted(self.texts.items())))

    @cached_property
    def _terms(self) -> Terms:
        return terms_of_units(self.work, self._units, self.statistics.language)

    def _nodes(self, units: Sequence[EncodedText], terms: Terms | None = None) -> Searched:
        vectors = gathered(self.work, units, self._encoded(units))
        ids = [unit.text_id for unit in units]
        return Searched(ids, rounded(vectors, out=vectors), self._lexical(units, terms))

    def _scored(self, asked: Asked) -> Scored:
        """Return all nodes with their scores for a few questions, read part by part."""
        units, wanted = self._units, asked_terms(asked.texts, self.languages)
        dense = np.empty((len(asked.ids), len(units)), np.float32)
        for places, vectors in placed(units, self._encoded(units)):
            dense[:, places] = asked.vectors @ rounded(vectors).T
        terms = terms_of_units(self.work, units, self.statistics.language, wanted)
        lexical = self._lexical(units, terms)
        ids = [unit.text_id for unit in units]
        return Scored(ids, asked.ids, dense, lexical.scores(asked.texts))

    def _encoded(self, units: Sequence[EncodedText]) -> Iterator[pa.Table]:
        bits = self.settings.late_interaction.bits
        return encoded_with_tokens(self.work, self._encoder, units, bits)

    def _lexical(self, units: Sequence[EncodedText], terms: Terms | None) -> LexicalIndex:
        texts = [unit.text for unit in units]
        asked_in = sorted(self.languages)
        return LexicalIndex(texts, self.statistics, asked_in=asked_in, terms=terms)


def _renewed(
    lists: tuple[pa.Table, pa.Table], anew: tuple[pa.Table, pa.Table], questions: Sequence[str]
) -> tuple[pa.Table, pa.Table]:
    """Return STANDING and ENTRIES with those of questions that were searched for anew."""
    ids = pa.array(questions, pa.string())
    kept = (one.filter(pc.invert(pc.is_in(one.column("question_id"), ids))) for one in lists)
    standing, entries = (pa.concat_tables(pair) for pair in zip(kept, anew))
    return standing, entries
