"""The split into train, val and test: by near-duplicate cluster, sticky, leak-proof.

A ledger goes along the chain of corpus versions: every document text ever frozen, its cluster and
its split. The split of a version depends on that chain alone, never on when or in which order
versions are materialized.

Rules for a text that the ledger does not know:

1. It joins the cluster of the document that stood at its path in the last version (an edit),
   where that version was of the same corpus: from the same source, or with a text in common.
2. It joins every cluster that holds a near-duplicate (MinHash, Broder 1997) of it.
3. Joined clusters become one, and take their most protected split: test before val before train.
   So nothing that was in test or val ever comes to train.
4. A cluster of new texts only is drawn by the hash of its name.

A text is a document, or where documents cannot be split a part of one
(ragft_pipeline.corpus.units); a part of what was held out stays so.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ragft_pipeline.settings import SplitSettings

PROTECTION = ("test", "val", "train")
PERMUTATIONS = 128
_BANDS = (32, 4)  # finds nearly all pairs from a similarity of .7; the estimate then decides
_UNSPACED = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")


class Texts(Protocol):
    """Gives a text for a doc_key."""

    def __getitem__(self, doc_key: str, /) -> str: ...


@dataclass(frozen=True)
class LedgerEntry:
    """One text ever frozen: where it last stood, its cluster, its split and its signature."""

    doc_key: str
    path: str
    cluster: str
    split: str
    signature: bytes


def shingles(text: str, longest: int = 5) -> set[bytes]:
    """Return the text's set of shingles of so many words (characters in unspaced scripts)."""
    lowered = text.lower()
    units = re.findall(r"\w", lowered) if _UNSPACED.search(lowered) else re.findall(r"\w+", lowered)
    width = min(longest, max(1, len(units)))
    joined = (" ".join(units[i : i + width]) for i in range(max(1, len(units) - width + 1)))
    return {shingle.encode() for shingle in joined}


def minhash_signature(text: str, longest: int = 5) -> bytes:
    """Return the MinHash signature of a text's shingles: 128 little-endian 32-bit values."""
    from datasketch import MinHash

    minhash = MinHash(num_perm=PERMUTATIONS, seed=1, scheme="affine32")
    minhash.update_batch(sorted(shingles(text, longest)))
    return np.asarray(minhash.hashvalues).astype("<u4").tobytes()


def assign_splits(
    documents: Mapping[str, str],
    texts: Texts,
    ledger: Sequence[LedgerEntry],
    settings: SplitSettings,
    previous: Mapping[str, str] | None = None,
    parents: Mapping[str, Collection[str]] | None = None,
) -> list[LedgerEntry]:
    """Carry the ledger on to a new version.

    Args:
        documents: path to doc_key of the new version.
        texts: doc_key to text, for at least the keys the ledger does not know.
        ledger: the ledger of the version before, empty for the first.
        settings: the shares for new clusters and the near-duplicate threshold (Jaccard).
        previous: path to doc_key of the version before, where this version is a later state of
            the same corpus; None where it is another corpus, whose equal paths mean nothing.
        parents: for parts of documents (ragft_pipeline.corpus.units), the texts of the ledger that
            the whole document is, or is a later state of: a part of a test document is one.

    Returns the new ledger: every entry of the old one (deleted documents stay known, so that they
    return to their split), and the new texts.
    """
    entries = {entry.doc_key: entry for entry in ledger}
    new = {key for key in documents.values() if key not in entries}
    signatures = {key: entry.signature for key, entry in entries.items()}
    signatures |= {key: minhash_signature(texts[key]) for key in sorted(new)}

    groups = _Groups(signatures)
    for cluster_members in _by_cluster(ledger).values():
        for member in cluster_members[1:]:
            groups.join(cluster_members[0], member)
    if previous is not None:
        at_path = {entry.path: entry.doc_key for entry in ledger} | dict(previous)
        for path, key in documents.items():
            if key in new and path in at_path:
                groups.join(key, at_path[path])
    for left, right in near_duplicates(signatures, new, settings.near_duplicate):
        groups.join(left, right)

    members = groups.members()
    before = {
        name: [entries[key] for key in keys if key in entries] for name, keys in members.items()
    }
    inherited = {
        name: {
            entries[parent].split
            for key in keys
            if key in new
            for parent in (parents or {}).get(key, ())
        }
        for name, keys in members.items()
    }
    current = {groups.name(key) for key in documents.values()}
    first = previous is None or not any(before[name] for name in current)
    split_of = _split_groups(before, inherited, settings, first)
    paths = {entry.doc_key: entry.path for entry in ledger}
    paths |= {key: path for path, key in sorted(documents.items(), reverse=True)}
    return [
        LedgerEntry(key, paths[key], name, split_of[name], signatures[key])
        for key in sorted(signatures)
        for name in [groups.name(key)]
    ]


def _by_cluster(ledger: Sequence[LedgerEntry]) -> dict[str, list[str]]:
    clusters: dict[str, list[str]] = {}
    for entry in ledger:
        clusters.setdefault(entry.cluster, []).append(entry.doc_key)
    return clusters


def near_duplicates(
    signatures: Mapping[str, bytes], new: set[str], threshold: float
) -> list[tuple[str, str]]:
    """Return the pairs, one side new, whose estimated Jaccard similarity reaches `threshold`."""
    if not new:
        return []
    keys = sorted(signatures)
    hashes = np.frombuffer(b"".join(signatures[key] for key in keys), "<u4")
    hashes = hashes.reshape(len(keys), PERMUTATIONS)
    is_new = np.array([key in new for key in keys])
    pairs: set[tuple[int, int]] = set()
    for band in range(_BANDS[0]):
        values = hashes[:, band * _BANDS[1] : (band + 1) * _BANDS[1]]
        alike = np.flatnonzero(np.isin(values[:, 0], values[is_new, 0]))
        for group in (alike[rows] for rows in _equal_rows(values[alike])):
            fresh = group[is_new[group]]
            pairs.update((row, other) for row in fresh.tolist() for other in group.tolist())
    return [
        (keys[row], keys[other])
        for row, other in sorted(pairs)
        if row != other and np.mean(hashes[row] == hashes[other]) >= threshold
    ]


def _equal_rows(values: np.ndarray) -> list[np.ndarray]:
    """Return the groups, of two and more, of rows that are equal."""
    order = np.lexsort(values.T)
    edges = np.flatnonzero((values[order[1:]] != values[order[:-1]]).any(axis=1)) + 1
    starts, ends = np.append(0, edges), np.append(edges, len(values))
    many = ends - starts > 1
    return [order[start:end] for start, end in zip(starts[many], ends[many])]


def _split_groups(
    before: Mapping[str, Sequence[LedgerEntry]],
    inherited: Mapping[str, set[str]],
    settings: SplitSettings,
    first: bool,
) -> dict[str, str]:
    result: dict[str, str] = {}
    drawn = []
    for name, known in before.items():
        splits = {entry.split for entry in known} | (inherited[name] - {"train"})
        if splits:
            result[name] = next(split for split in PROTECTION if split in splits)
        else:
            drawn.append(name)
    if first:  # exact shares in a first version, so that a small corpus has all three splits
        ranked = sorted(drawn, key=lambda name: unit(f"split:{name}"))
        tests = max(1, round(settings.test * len(ranked))) if len(ranked) > 2 else 0
        vals = max(1, round(settings.val * len(ranked))) if len(ranked) > 2 else 0
        for rank, name in enumerate(ranked):
            result[name] = "test" if rank < tests else "val" if rank < tests + vals else "train"
    else:
        for name in drawn:
            place = unit(f"split:{name}")
            result[name] = (
                "test"
                if place < settings.test
                else "val" if place < settings.test + settings.val else "train"
            )  # fmt: skip
    return result


def unit(text: str) -> float:
    """Return a number from 0 to 1 that a text decides."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64


class _Groups:
    """Disjoint sets over document keys; a set's name is its smallest key."""

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        self._parent = {key: key for key in keys}

    def members(self) -> dict[str, list[str]]:
        result: dict[str, list[str]] = {}
        for key in sorted(self._parent):
            result.setdefault(self.name(key), []).append(key)
        return result

    def name(self, key: str) -> str:
        while self._parent[key] != key:
            self._parent[key] = self._parent[self._parent[key]]
            key = self._parent[key]
        return key

    def join(self, left: str, right: str) -> None:
        small, large = sorted((self.name(left), self.name(right)))
        self._parent[large] = small
