from __future__ import annotations

from pathlib import Path

import numpy as np

from ragft_pipeline.retrieval import terms
from ragft_pipeline.retrieval.lexical import LexicalIndex, TermStatistics
from ragft_pipeline.retrieval.terms import Terms, cached_terms
from ragft_pipeline.retrieval.words import language_of
from ragft_pipeline.store import ArtifactStore, Workspace

TEXTS = [
    "The pumps are drained before the frost comes.",
    "Die Pumpen werden vor dem Frost geleert, und das ist gut.",
    "",
    "水泵在霜冻之前排空",
    "Drained pumps; frost, frost and pumps.",
]


def test_kept_terms_are_those_of_the_texts(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    for action, texts in (("a1", TEXTS[::-1]), ("a2", [*TEXTS, "new pumps", TEXTS[0]])):
        with store.staging("nodes") as folder:
            work = Workspace(store, "nodes", folder)
            kept = cached_terms(work, texts, "auto")
            store.publish("nodes", action, folder, data_version="", facts={}, inputs={})
        made = Terms.of(texts, [language_of(text) for text in texts])
        assert kept.vocabulary == made.vocabulary
        assert kept.languages == made.languages
        np.testing.assert_array_equal(kept.sequence, made.sequence)
        np.testing.assert_array_equal(kept.lengths, made.lengths)
        plain, given = LexicalIndex(texts), LexicalIndex(texts, terms=kept)
        queries = ["frost of pumps", "pump", "霜冻"]
        np.testing.assert_array_equal(plain.scores(queries), given.scores(queries))
        at = np.array([0, 3, 1])
        pairs = given.scores(queries)[np.arange(3), at]
        np.testing.assert_allclose(given.scores_of(queries, at), pairs, rtol=1e-6)
        some = kept.take(np.array([3, 0]))
        two = [texts[3], texts[0]]
        own = TermStatistics.of(TEXTS)
        taken = LexicalIndex(two, own, terms=some).scores(queries)
        np.testing.assert_allclose(taken, LexicalIndex(two, own).scores(queries), rtol=1e-6)
    assert work.counts == {"rows_reused": 5, "rows_computed": 1}


def test_no_text_has_no_terms(tmp_path: Path) -> None:
    work = Workspace(ArtifactStore(tmp_path), "nodes", tmp_path / "staged")
    assert len(cached_terms(work, [], "off").lengths) == 0
    assert LexicalIndex([], terms=terms.Terms.of([], [])).scores(["a"]).shape == (1, 0)
