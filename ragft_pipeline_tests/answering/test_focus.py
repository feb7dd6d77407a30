from __future__ import annotations

import pytest

from ragft_pipeline.answering.focus import cut_to_sentences
from ragft_pipeline.retrieval.encoder import Encoder
from ragft_pipeline.settings import Settings

TEXT = (
    "The bakery opens before dawn. A strainer is cleaned with a soft brush. Bread is cooled on "
    "racks. Rinse the strainer from the inside. The shop closes at noon."
)
QUESTION = "how do I clean the strainer?"


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder.base(Settings().embedder, Settings().compute)


def test_the_nearest_sentences_stay_in_their_order(encoder: Encoder) -> None:
    cut = cut_to_sentences([QUESTION], [[TEXT, "Short and whole."]], 2, encoder)
    nearest = "A strainer is cleaned with a soft brush. Rinse the strainer from the inside."
    assert cut == [[nearest, "Short and whole."]]


def test_a_sentence_that_must_stay_stays(encoder: Encoder) -> None:
    kept = "The shop closes at noon."
    ((cut,),) = cut_to_sentences([QUESTION], [[TEXT]], 2, encoder, kept=[kept])
    assert cut.endswith(kept)
    assert len(cut.split(". ")) == 2


def test_none_leaves_passages_whole(encoder: Encoder) -> None:
    assert cut_to_sentences([QUESTION], [[TEXT]], 0, encoder) == [[TEXT]]
