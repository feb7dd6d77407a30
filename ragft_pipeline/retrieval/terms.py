"""The terms of texts, one after the other, as BM25 counts them: made once for each text."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ragft_pipeline.compute import RowFunction
from ragft_pipeline.digests import digest_of, text_key
from ragft_pipeline.retrieval.words import TERMS_VERSION, language_of, lexical_terms
from ragft_pipeline.store import Workspace

if TYPE_CHECKING:
    from ragft_pipeline.retrieval.text_vectors import EncodedText

_SCHEMA = pa.schema(
    [("row_key", pa.string()), ("language", pa.string()), ("terms", pa.list_(pa.string()))]
)
_Unit = tuple[str, str]  # the row key of a text, and the text


@dataclass(frozen=True)
class Terms:
    """Texts as numbers of terms.

    Attributes:
        vocabulary: the terms' numbers, in the order in which the texts first have them.
        sequence: the texts' terms end to end, int32 of shape (terms,).
        lengths: how many each text has, int64 of shape (texts,).
        languages: of the texts; empty where none is told.
        held: how many of each text's terms stand in `sequence`, where only some do.
    """

    vocabulary: dict[str, int]
    sequence: np.ndarray
    lengths: np.ndarray
    languages: list[str]
    held: np.ndarray | None = None

    @property
    def standing(self) -> np.ndarray:
        """How many terms of each text stand in `sequence`, int64 of shape (texts,)."""
        return self.lengths if self.held is None else self.held

    @classmethod
    def of(cls, texts: Sequence[str], languages: Sequence[str]) -> Terms:
        """Cut texts, each by its language."""
        numbers: dict[str, int] = {}
        known: dict[tuple[str, str], np.ndarray] = {}  # a title stands above many texts
        sequence, lengths = [np.empty(0, np.int32)], []
        for unit in zip(texts, languages):
            if (own := known.get(unit)) is None:
                terms = lexical_terms(*unit)
                numbered = [numbers.setdefault(term, len(numbers)) for term in terms]
                own = known[unit] = np.array(numbered, np.int32)
            sequence.append(own)
            lengths.append(len(own))
        return cls(numbers, np.concatenate(sequence), np.array(lengths, np.int64), list(languages))

    def take(self, texts: np.ndarray) -> Terms:
        """Return those of some texts, by the numbers of all."""
        standing = self.standing
        starts = (np.cumsum(standing) - standing)[texts]
        sequence = self.sequence[runs(starts, standing[texts])]
        languages = [self.languages[at] for at in texts.tolist()]
        held = None if self.held is None else self.held[texts]
        return Terms(self.vocabulary, sequence, self.lengths[texts], languages, held)

    def renumbered(self) -> Terms:
        """Return the same with the terms' numbers as `of` gives them."""
        encoded = pa.array(self.sequence).dictionary_encode()
        names = list(self.vocabulary)
        vocabulary = {names[old]: new for new, old in enumerate(encoded.dictionary.to_pylist())}
        return Terms(vocabulary, encoded.indices.to_numpy(), self.lengths, self.languages)

    def column(self) -> pa.Array:
        """Return each text's terms, as lists of a dictionary."""
        own = self.renumbered()
        terms = pa.DictionaryArray.from_arrays(
            pa.array(own.sequence, pa.int32()), pa.array(list(own.vocabulary), pa.string())
        )
        ends = np.append(0, np.cumsum(self.lengths)).astype(np.int32)
        return pa.ListArray.from_arrays(pa.array(ends), terms)

    @classmethod
    def of_column(
        cls, column: pa.ListArray, languages: list[str], vocabulary: dict[str, int]
    ) -> Terms:
        """Return what `column` gave, by a vocabulary that takes in what is new to it."""
        flat = column.flatten()
        known = [
            vocabulary.setdefault(term, len(vocabulary)) for term in flat.dictionary.to_pylist()
        ]
        sequence = np.array(known, np.int32)[flat.indices.to_numpy()]
        return cls(vocabulary, sequence, column.value_lengths().to_numpy().astype("i8"), languages)

    @classmethod
    def joined(cls, parts: Sequence[Terms]) -> Terms:
        """Return those of all texts, by the vocabulary that they share."""
        return cls(
            parts[0].vocabulary,
            np.concatenate([part.sequence for part in parts]),
            np.concatenate([part.lengths for part in parts]),
            [language for part in parts for language in part.languages],
        )


def runs(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return the places of runs, one after the other."""
    before = np.cumsum(lengths) - lengths
    return np.arange(int(lengths.sum())) + np.repeat(starts - before, lengths)


@dataclass(frozen=True)
class _Cut(RowFunction[_Unit]):
    seconds: ClassVar[float] = 0.0001
    language: str

    def __call__(self, units: Sequence[_Unit]) -> pa.Table:
        languages = [language_of(text, self.language) for _, text in units]
        terms = [lexical_terms(text, own) for (_, text), own in zip(units, languages)]
        return pa.table([[key for key, _ in units], languages, terms], schema=_SCHEMA)


def cached_terms(
    work: Workspace,
    texts: Sequence[str],
    language: str,
    keys: Sequence[str] | None = None,
    asked: Collection[str] | None = None,
) -> Terms:
    """Return the terms of texts, cutting only those that no artifact holds.

    Args:
        language: `passages.language`.
        keys: the texts' row keys, where they are at hand.
        asked: the terms that are wanted; all by default.
    """
    cache = work.rows("terms", digest_of(TERMS_VERSION, language), _SCHEMA, family="*")
    if keys is None:
        keys = [text_key(text) for text in texts]
    place = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    numbers = {term: number for number, term in enumerate(sorted(asked or ()))}
    languages = [""] * len(place)
    starts, lengths, held = np.zeros((3, len(place)), np.int64)
    parts, end = [np.empty(0, np.int32)], 0
    units = list(zip(keys, texts))
    for rows in cache.batches(units, itemgetter(0), _Cut(language), batch_size=8192):
        at = np.array([place[key] for key in rows.column("row_key").to_pylist()], np.int64)
        lists = rows.column("terms").combine_chunks()
        own = standing = lists.value_lengths().to_numpy()
        if asked is None:
            found = _numbered(lists.flatten(), numbers)
        else:
            found, standing = _among(lists, numbers)
        parts.append(found)
        starts[at], lengths[at], held[at] = end + np.cumsum(standing) - standing, own, standing
        end += len(found)
        for number, spoken in zip(at.tolist(), rows.column("language").to_pylist()):
            languages[number] = spoken
    wanted = np.array([place[key] for key in keys], np.int64)
    held = held[wanted]
    sequence = np.concatenate(parts)[runs(starts[wanted], held)]
    spoken = [languages[number] for number in wanted.tolist()]
    if asked is not None:
        return Terms(numbers, sequence, lengths[wanted], spoken, held)
    return Terms(numbers, sequence, held, spoken).renumbered()


def terms_of_units(
    work: Workspace,
    units: Sequence[EncodedText],
    language: str,
    asked: Collection[str] | None = None,
) -> Terms:
    """Return the `cached_terms` of texts whose row keys are at hand."""
    texts, keys = [unit.text for unit in units], [unit.row_key for unit in units]
    return cached_terms(work, texts, language, keys, asked)


def _numbered(terms: pa.Array, numbers: dict[str, int]) -> np.ndarray:
    """Return the numbers of terms, int32, giving one to what is new."""
    flat = terms.dictionary_encode()
    known = [numbers.setdefault(term, len(numbers)) for term in flat.dictionary.to_pylist()]
    return np.array(known, np.int32)[flat.indices.to_numpy()]


def _among(lists: pa.ListArray, numbers: dict[str, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return the numbers of the terms that have one, int32, and how many each list has of them."""
    found = pc.index_in(lists.flatten(), pa.array(list(numbers), pa.string()))
    of = np.repeat(np.arange(len(lists)), lists.value_lengths().to_numpy())
    has = pc.is_valid(found).to_numpy(zero_copy_only=False)
    return found.drop_null().to_numpy(), np.bincount(of[has], minlength=len(lists))
