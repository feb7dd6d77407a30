from __future__ import annotations

import random

import bm25s
import numpy as np
import pytest

from ragft_pipeline import schemas
from ragft_pipeline.retrieval.lexical import K1, B, LexicalIndex, TermStatistics, lexical_terms
from ragft_pipeline_tests.corpora import prose

TEXTS = [prose(n, 50) + " " + prose(n % 7, 20) for n in range(40)]
QUERIES = [" ".join(random.Random(n).sample(TEXTS[n].split(), 6)) for n in range(0, 40, 3)]


def test_scores_equal_those_of_bm25s() -> None:
    index = bm25s.BM25(method="lucene", k1=K1, b=B)
    index.index([lexical_terms(text) for text in TEXTS], show_progress=False)
    theirs = np.stack([index.get_scores(lexical_terms(query)) for query in QUERIES])
    np.testing.assert_allclose(LexicalIndex(TEXTS).scores(QUERIES), theirs, rtol=1e-4, atol=1e-5)


def test_chinese_scores_equal_those_of_bm25s() -> None:
    texts = ["锅炉每年检修一次", "阀门每月检查", "锅炉房的阀门"]
    index = bm25s.BM25(method="lucene", k1=K1, b=B)
    index.index([lexical_terms(text) for text in texts], show_progress=False)
    theirs = index.get_scores(lexical_terms("锅炉检修"))
    ours = LexicalIndex(texts).scores(["锅炉检修"])[0]
    np.testing.assert_allclose(ours, theirs, rtol=1e-4)
    assert ours.argmax() == 0


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("The Valve V-12 isn't open", ["valve", "12", "isn", "open"]),
        ("a I x", []),
        ("ÖLDRUCK prüfen", ["öldruck", "prüfen"]),
        ("锅炉检修", ["锅炉", "炉检", "检修"]),
        ("锅", ["锅"]),
        ("CHP锅炉2号", ["chp", "锅炉", "号"]),
        ("", []),
    ],
)
def test_terms_are_words_and_character_pairs(text: str, terms: list[str]) -> None:
    assert lexical_terms(text) == terms


def test_frozen_statistics_make_a_score_independent_of_company() -> None:
    statistics = TermStatistics.of(TEXTS)
    alone = LexicalIndex(TEXTS[3:4], statistics).scores(QUERIES)[:, 0]
    among = LexicalIndex(TEXTS, statistics).scores(QUERIES)[:, 3]
    np.testing.assert_array_equal(alone, among)


def test_statistics_survive_their_table() -> None:
    statistics = TermStatistics.of(TEXTS)
    table = statistics.to_table()
    assert table.schema == schemas.CORPUS_STATISTICS.schema
    assert TermStatistics.from_table(table) == statistics


def test_empty_statistics_are_usable() -> None:
    empty = TermStatistics.of([])
    read = TermStatistics.from_table(empty.to_table())
    scores = LexicalIndex(["a valve"], read).scores(["valve"])
    assert np.isfinite(scores).all()


def test_rare_terms_weigh_more_and_none_weighs_less_than_nothing() -> None:
    statistics = TermStatistics.of(["valve pump", "valve", "valve boiler", "valve pump"])
    weights = [statistics.idf(term) for term in ("valve", "pump", "boiler", "unknown")]
    assert weights == sorted(weights)
    assert weights[0] > 0


def test_unknown_words_and_empty_inputs_score_zero() -> None:
    assert LexicalIndex(TEXTS).scores(["zzz yyy", ""]).tolist() == np.zeros((2, 40)).tolist()
    assert LexicalIndex(TEXTS).scores([]).shape == (0, 40)
    assert LexicalIndex([]).scores(["valve"]).shape == (1, 0)
    assert LexicalIndex(["", "!"]).scores(["valve"]).tolist() == [[0, 0]]
