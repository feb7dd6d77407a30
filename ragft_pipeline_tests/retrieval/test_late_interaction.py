"""Late interaction: MaxSim as it is defined, whatever the order and company of the pairs."""

from __future__ import annotations

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from ragft_pipeline.retrieval.encoder import Encoder
from ragft_pipeline.retrieval.late_interaction import LateInteraction
from ragft_pipeline.settings import ComputeSettings, EmbedderSettings
from ragft_pipeline.weights import resolve_weights

QUESTIONS = ["when is the strainer cleaned", "who hands over the night watch"]
PASSAGES = [
    "The strainer of the north pump is cleaned every second Monday, before the shift.",
    "Night watch begins at ten and is handed over in writing by the senior operator.",
    "Boiler water is tested for hardness.",
]


@pytest.fixture(scope="module")
def late() -> LateInteraction:
    return LateInteraction(Encoder.base(EmbedderSettings(), ComputeSettings()))


def _by_hand(question: str, passage: str) -> float:
    model = SentenceTransformer(
        str(resolve_weights("embedded:all-minilm-l6-v2").folder), device="cpu"
    )
    one, other = (
        model.encode(text, output_value="token_embeddings").cpu().numpy()[1:-1]
        for text in (question, passage)
    )
    one, other = (side / np.linalg.norm(side, axis=1, keepdims=True) for side in (one, other))
    return float(np.mean([max(token @ rival for rival in other) for token in one]))


def test_a_score_is_the_mean_of_each_question_tokens_best_cosine(late: LateInteraction) -> None:
    pairs = [(question, passage) for question in QUESTIONS for passage in PASSAGES]
    expected = [_by_hand(*pair) for pair in pairs]
    np.testing.assert_allclose(late.score(pairs), expected, atol=1e-4)


def test_the_passage_that_answers_scores_best(late: LateInteraction) -> None:
    for place, question in enumerate(QUESTIONS):
        assert late.score([(question, passage) for passage in PASSAGES]).argmax() == place


def test_order_repetition_and_company_of_pairs_do_not_matter(late: LateInteraction) -> None:
    pairs = [(question, passage) for question in QUESTIONS for passage in PASSAGES]
    whole = late.score(pairs)
    np.testing.assert_allclose(late.score(pairs[::-1] + pairs[:2])[:6], whole[::-1], atol=1e-5)
    np.testing.assert_allclose(late.score(pairs[3:4]), whole[3:4], atol=1e-5)


def test_texts_without_tokens_score_nothing(late: LateInteraction) -> None:
    assert late.score([]).shape == (0,)
    np.testing.assert_array_equal(late.score([("", PASSAGES[0]), (QUESTIONS[0], "")]), [0, 0])
