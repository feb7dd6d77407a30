from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
import pytest
from datasketch import MinHash, MinHashLSH
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ragft_pipeline.corpus.splits import (
    PROTECTION,
    LedgerEntry,
    assign_splits,
    minhash_signature,
    near_duplicates,
    shingles,
)
from ragft_pipeline.settings import SplitSettings
from ragft_pipeline_tests.corpora import prose

SPLIT = SplitSettings()
TEXTS = [prose(n, 40) for n in range(12)]
TEXTS += [text + " and one more remark." for text in TEXTS[:4]]  # near-duplicates
TEXTS += [text + " " + other for text, other in zip(TEXTS[4:8], TEXTS[8:12])]  # half of each
PATHS = [f"{n}.md" for n in range(7)]
EDITS = st.one_of(
    st.tuples(st.just("write"), st.sampled_from(PATHS), st.sampled_from(TEXTS)),
    st.tuples(st.just("rename"), st.sampled_from(PATHS), st.sampled_from(PATHS)),
    st.tuples(st.just("copy"), st.sampled_from(PATHS), st.sampled_from(PATHS)),
    st.tuples(st.just("delete"), st.sampled_from(PATHS), st.just("")),
)
HISTORIES = st.lists(st.lists(EDITS, min_size=1, max_size=4), min_size=1, max_size=6)
START = {path: TEXTS[n] for n, path in enumerate(PATHS[:5])}
KEYS = {text: hashlib.sha256(text.encode()).hexdigest() for text in TEXTS}


def key_of(text: str) -> str:
    return KEYS.get(text) or hashlib.sha256(text.encode()).hexdigest()


class Chain:
    """A chain of corpus versions, as freezing makes it."""

    def __init__(self, corpus: Mapping[str, str]) -> None:
        self.ledger: list[LedgerEntry] = []
        self.at_path: dict[str, str] | None = None
        self.freeze(corpus)

    def freeze(self, corpus: Mapping[str, str]) -> None:
        documents = {path: key_of(text) for path, text in corpus.items()}
        texts = {key_of(text): text for text in corpus.values()}
        self.ledger = assign_splits(documents, texts, self.ledger, SPLIT, self.at_path)
        self.at_path = documents

    def split(self, text: str) -> str:
        return self.splits()[key_of(text)]

    def splits(self) -> dict[str, str]:
        return {entry.doc_key: entry.split for entry in self.ledger}

    def clusters(self) -> dict[str, str]:
        return {entry.doc_key: entry.cluster for entry in self.ledger}

    def path_splits(self) -> dict[str, str]:
        splits = self.splits()
        return {path: splits[key] for path, key in (self.at_path or {}).items()}


def apply(corpus: dict[str, str], edits: list[tuple[str, str, str]]) -> dict[str, str]:
    after = dict(corpus)
    for kind, path, value in edits:
        if kind == "write":
            after[path] = value
        elif path in after and kind == "rename":
            after[value] = after.pop(path)
        elif path in after and kind == "copy":
            after[value] = after[path]
        elif kind == "delete":
            after.pop(path, None)
    return after or dict(START)


def weakened(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """Return what is now in a less protected split."""
    rank = PROTECTION.index
    return [key for key in before if key in after and rank(after[key]) > rank(before[key])]


@settings(max_examples=40, suppress_health_check=list(HealthCheck))
@given(HISTORIES)
def test_nothing_ever_comes_to_a_less_protected_split(
    history: list[list[tuple[str, str, str]]],
) -> None:
    corpus = dict(START)
    chain = Chain(corpus)
    for edits in history:
        corpus = apply(corpus, edits)
        before, clusters = chain.splits(), chain.clusters()
        chain.freeze(corpus)
        after = chain.splits()
        assert weakened(before, after) == []
        assert before.keys() <= after.keys()
        for cluster in set(clusters.values()):
            members = [key for key, name in clusters.items() if name == cluster]
            assert len({chain.clusters()[key] for key in members}) == 1
        by_cluster = {(entry.cluster, entry.split) for entry in chain.ledger}
        assert len(by_cluster) == len({entry.cluster for entry in chain.ledger})


@settings(max_examples=40, suppress_health_check=list(HealthCheck))
@given(HISTORIES)
def test_an_edited_path_keeps_its_protection(history: list[list[tuple[str, str, str]]]) -> None:
    corpus = dict(START)
    chain = Chain(corpus)
    for edits in history:
        known, places = chain.splits(), chain.path_splits()
        corpus = apply(corpus, edits)
        chain.freeze(corpus)
        edited = {path for path, key in chain.at_path.items() if key not in known}
        after = {path: split for path, split in chain.path_splits().items() if path in edited}
        assert weakened(places, after) == []


@settings(max_examples=15, suppress_health_check=list(HealthCheck))
@given(HISTORIES)
def test_the_same_history_gives_the_same_ledger(history: list[list[tuple[str, str, str]]]) -> None:
    ledgers = []
    for turn in (1, -1):
        corpus = dict(START)
        chain = Chain(dict(list(corpus.items())[::turn]))
        for edits in history:
            corpus = apply(corpus, edits)
            chain.freeze(dict(list(corpus.items())[::turn]))
        ledgers.append(chain.ledger)
    assert ledgers[0] == ledgers[1]


def test_an_edited_copy_stays_with_its_original() -> None:
    for text in TEXTS[:5]:
        chain = Chain({**START, "z.md": text})
        chain.freeze({**START, "z.md": prose("quite another")})
        assert chain.split(prose("quite another")) == chain.split(text)


def test_a_path_follows_the_text_it_held_last() -> None:
    texts = TEXTS[:5]
    chain = Chain(START)
    splits = chain.splits()
    test = next(text for text in texts if splits[key_of(text)] == "test")
    for train in (text for text in texts if splits[key_of(text)] == "train"):
        chain = Chain({"a.md": train, **START})
        chain.freeze({"a.md": test})
        chain.freeze({"a.md": prose("quite another")})
        assert chain.split(prose("quite another")) == "test"


def test_a_deleted_text_returns_to_its_split() -> None:
    chain = Chain(START)
    before = chain.splits()
    chain.freeze({"9.md": prose("only one")})
    chain.freeze({f"moved/{path}": text for path, text in START.items()})
    assert weakened(before, chain.splits()) == []
    assert before.items() <= chain.splits().items()


def test_an_edit_changes_no_other_document() -> None:
    for path, text in START.items():
        chain = Chain(START)
        before = chain.splits()
        chain.freeze(START | {path: prose("edited")})
        assert before.items() <= chain.splits().items()
        assert chain.split(prose("edited")) == chain.split(text)


@pytest.mark.parametrize("number", range(4))
def test_near_duplicates_share_a_split(number: int) -> None:
    chain = Chain({f"{n}.md": text for n, text in enumerate(TEXTS[:16])})
    original, copy = TEXTS[number], TEXTS[12 + number]
    assert chain.split(original) == chain.split(copy)
    assert chain.clusters()[key_of(original)] == chain.clusters()[key_of(copy)]
    assert len(set(chain.clusters().values())) == 12


def test_near_duplicates_are_those_that_datasketch_finds() -> None:
    words = [prose(n, 40).split() for n in range(12)]
    texts = [" ".join([*own[: 40 - cut], *words[(n + 1) % 12][:cut]])
             for n, own in enumerate(words) for cut in (0, 2, 4, 8, 20)]  # fmt: skip
    signatures = {f"k{n:02}": minhash_signature(text) for n, text in enumerate(texts)}
    hashes = {
        key: MinHash(
            num_perm=128, seed=1, scheme="affine32", hashvalues=np.frombuffer(value, "<u4")
        )
        for key, value in signatures.items()
    }
    lsh = MinHashLSH(num_perm=128, params=(32, 4))
    for key, value in hashes.items():
        lsh.insert(key, value)
    new = set(list(signatures)[::2])
    for threshold in (0.5, 0.8):
        wanted = [
            (key, other)
            for key in sorted(new)
            for other in sorted(lsh.query(hashes[key]))
            if other != key and hashes[key].jaccard(hashes[other]) >= threshold
        ]
        assert wanted
        assert near_duplicates(signatures, new, threshold) == wanted


def test_a_late_near_duplicate_joins_its_original() -> None:
    for number in range(4):
        chain = Chain(START)
        chain.freeze({**START, "new.md": TEXTS[12 + number]})
        assert chain.split(TEXTS[12 + number]) == chain.split(TEXTS[number])


@pytest.mark.parametrize("pair", [("test", "train"), ("test", "val"), ("val", "train")])
def test_joined_clusters_take_the_most_protected_split(pair: tuple[str, str]) -> None:
    corpus = {f"{n}.md": prose(n) for n in range(20)}
    chain = Chain(corpus)
    splits = chain.path_splits()
    protected, other = (next(p for p in corpus if splits[p] == split) for split in pair)
    # the protected document is rewritten as a near-duplicate of the other
    chain.freeze(corpus | {protected: corpus[other] + " with a remark"})
    after = chain.path_splits()
    assert after[protected] == after[other] == pair[0]
    rest = set(corpus) - {protected, other}
    assert {p: after[p] for p in rest} == {p: splits[p] for p in rest}


@pytest.mark.parametrize("count", [3, 7, 20, 60])
def test_a_first_version_has_all_three_splits_in_their_shares(count: int) -> None:
    splits = list(Chain({f"{n}.md": prose(n, 20) for n in range(count)}).splits().values())
    assert splits.count("test") == max(1, round(0.25 * count))
    assert splits.count("val") == max(1, round(0.15 * count))
    assert splits.count("train") >= 1


@pytest.mark.parametrize("count", [1, 2])
def test_one_or_two_documents_only_train(count: int) -> None:
    assert set(Chain({f"{n}.md": prose(n) for n in range(count)}).splits().values()) == {"train"}


def test_later_documents_are_drawn_in_about_the_shares() -> None:
    chain = Chain(START)
    first = set(chain.splits())
    chain.freeze(START | {f"new/{n}.md": prose(f"new {n}", 20) for n in range(300)})
    drawn = [split for key, split in chain.splits().items() if key not in first]
    assert 0.17 < drawn.count("test") / 300 < 0.33
    assert 0.09 < drawn.count("val") / 300 < 0.21


def test_signatures_are_fixed_bytes() -> None:
    signature = minhash_signature("The boiler is inspected every year in March.")
    assert len(signature) == 4 * 128
    digest = hashlib.sha256(signature).hexdigest()
    assert (
        digest
        == hashlib.sha256(
            minhash_signature("the boiler is inspected every year, in march")
        ).hexdigest()
    )


def test_shingles_are_words_or_characters() -> None:
    assert shingles("one two three four five six") == {
        b"one two three four five",
        b"two three four five six",
    }
    assert shingles("锅炉每年检修") == {"锅 炉 每 年 检".encode(), "炉 每 年 检 修".encode()}
    assert shingles("two words") == {b"two words"}
    assert shingles("!?") == {b""}


def test_another_corpus_is_split_by_exact_shares_whatever_its_paths() -> None:
    chain = Chain({f"{n}.md": prose(n + 3000, 30) for n in range(30)})
    chain.at_path = None
    other = {f"{n}.md": prose(n + 4000, 30) for n in range(5)}
    chain.freeze(other)
    splits = [chain.split(text) for text in other.values()]
    assert {"train", "val", "test"} == set(splits)
