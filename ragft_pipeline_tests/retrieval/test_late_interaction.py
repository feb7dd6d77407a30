"""Late interaction: scores as they are defined, whatever the order and company of the pairs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from benchmarks.scale_corpus import save_mean_of_words
from ragft_pipeline.digests import text_key
from ragft_pipeline.errors import RagftError
from ragft_pipeline.models.weights import resolve_weights
from ragft_pipeline.retrieval import late_interaction, maxsim
from ragft_pipeline.retrieval.encoder import Encoder
from ragft_pipeline.retrieval.late_interaction import LateInteraction
from ragft_pipeline.retrieval.question_tuning import QuestionTuning
from ragft_pipeline.retrieval.text_vectors import gathered, units_of
from ragft_pipeline.retrieval.token_cosines import weighed_scores
from ragft_pipeline.retrieval.token_rows import CachedTokens, cached_tokens, encoded_with_tokens
from ragft_pipeline.retrieval.token_vectors import (
    StoredTokens,
    encode_tokens,
    store_tokens,
)
from ragft_pipeline.settings import ComputeSettings, EmbedderSettings
from ragft_pipeline.store import ArtifactStore, Workspace

QUESTIONS = ["when is the strainer cleaned", "who hands over the night watch"]
PASSAGES = [
    "The strainer of the north pump is cleaned every second Monday, before the shift.",
    "Night watch begins at ten and is handed over in writing by the senior operator.",
    "Boiler water is tested for hardness.",
]
LONG = " ".join([*PASSAGES, *PASSAGES[::-1], "The pump room is closed on Sundays."] * 2)


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
    stretches = [other[start : start + 48] for start in range(0, max(1, len(other) - 32), 16)]
    whole, *parts = ((one @ part.T).max(axis=1).mean() for part in (other, *stretches))
    return float(0.35 * whole + 0.65 * max(parts))


def test_a_score_is_of_each_question_tokens_best_cosine_mostly_in_one_stretch(
    late: LateInteraction,
) -> None:
    pairs = [(question, passage) for question in QUESTIONS for passage in (*PASSAGES, LONG)]
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


PAIRS = [(question, passage) for question in QUESTIONS for passage in (*PASSAGES, LONG)]
# the largest difference that rounding may make to a score, by bits a number
TOLERANCE = {1: 0.2, 2: 0.08, 4: 0.015, 8: 0.002}


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder.base(EmbedderSettings(), ComputeSettings())


def test_each_distinct_text_is_encoded_once(
    encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    whole = encoder.encode_tokens
    monkeypatch.setattr(
        encoder, "encode_tokens", lambda texts, kind: asked.extend(texts) or whole(texts, kind)
    )
    LateInteraction(encoder).score(PAIRS * 3)
    assert sorted(asked) == sorted([*QUESTIONS, *PASSAGES, LONG])


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_stored_passages_score_within_their_tolerance(encoder: Encoder, bits: int) -> None:
    exact = LateInteraction(encoder).score(PAIRS)
    stored = store_tokens(encoder, PASSAGES, bits)
    rounded = LateInteraction(encoder, stored=stored).score(PAIRS)
    assert stored.codes.shape == (stored.lengths.sum(), 384 * bits // 8)
    np.testing.assert_allclose(rounded, exact, atol=TOLERANCE[bits])
    assert not np.array_equal(rounded, exact)


def test_a_passage_that_is_not_stored_scores_as_if_it_were(encoder: Encoder) -> None:
    whole = LateInteraction(encoder, stored=store_tokens(encoder, PASSAGES, 4))
    part = LateInteraction(encoder, stored=store_tokens(encoder, PASSAGES[:1], 4))
    np.testing.assert_allclose(part.score(PAIRS), whole.score(PAIRS), atol=1e-3)
    assert part.identity == whole.identity != LateInteraction(encoder).identity


@pytest.mark.parametrize("stored", [None, PASSAGES, PASSAGES[:1]])
def test_blocks_on_a_device_score_as_passage_by_passage(
    encoder: Encoder, stored: list[str] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(late_interaction, "_BLOCK", 2)
    monkeypatch.setattr(maxsim, "_PAIRS", 3)
    weights = np.linspace(0.1, 2, len(encoder.model.tokenizer), dtype=np.float32)
    tuning = QuestionTuning(encoder.weights.digest, weights)
    tokens = store_tokens(encoder, stored, 4) if stored else None
    late = LateInteraction(encoder, tuning, tokens)
    pairs = [*PAIRS, ("", PASSAGES[0]), (QUESTIONS[0], ""), PAIRS[1]]
    wanted = late.score(pairs)
    asked: dict[str, list[int]] = {}
    for row, (question, passage) in enumerate(pairs):
        if question:
            asked.setdefault(passage, []).append(row)
    np.testing.assert_allclose(late._scores_on("cpu", pairs, asked), wanted, atol=1e-5)
    np.testing.assert_array_equal(late._scores_on("cpu", [], {}), [])


def test_stored_texts_without_tokens_score_nothing(encoder: Encoder) -> None:
    for passages in (["", PASSAGES[0]], [""]):
        late = LateInteraction(encoder, stored=store_tokens(encoder, passages, 4))
        assert late.score([(QUESTIONS[0], "")]) == [0]


def test_stored_passages_load_again_and_refuse_another_embedder(
    encoder: Encoder, tmp_path: Path
) -> None:
    stored = store_tokens(encoder, PASSAGES, 2)
    stored.save(tmp_path)
    loaded = StoredTokens.load(tmp_path)
    np.testing.assert_array_equal(
        LateInteraction(encoder, stored=loaded).score(PAIRS),
        LateInteraction(encoder, stored=stored).score(PAIRS),
    )
    other = Encoder.base(EmbedderSettings(document_prompt="passage: "), ComputeSettings())
    with pytest.raises(RagftError, match="another embedder"):
        LateInteraction(other, stored=stored)


def _work(store: Path, folder: Path) -> Workspace:
    folder.mkdir()
    return Workspace(ArtifactStore(store), "late_interaction", folder)


def test_cached_passages_are_encoded_once(encoder: Encoder, tmp_path: Path) -> None:
    first = _work(tmp_path / "store", tmp_path / "first")
    cached_tokens(first, encoder, [*PASSAGES[:2], PASSAGES[0], ""], 4)
    second = _work(tmp_path / "store", tmp_path / "second")
    stored = cached_tokens(second, encoder, [*PASSAGES[::-1], ""], 4)
    assert first.counts == {"rows_reused": 0, "rows_computed": 3}
    assert second.counts == {"rows_reused": 3, "rows_computed": 1}
    assert stored.keys == [text_key(text) for text in [*PASSAGES[::-1], ""]]
    np.testing.assert_allclose(
        LateInteraction(encoder, stored=stored).score(PAIRS),
        LateInteraction(encoder, stored=store_tokens(encoder, PASSAGES, 4)).score(PAIRS),
        atol=1e-3,
    )


def test_token_weights_count_tokens(encoder: Encoder) -> None:
    question, passage = PAIRS[0]
    ids = encode_tokens(encoder, [question], "query").token_ids
    weights = np.zeros(len(encoder.model.tokenizer), np.float32)
    weights[ids[-1]] = 3.0
    last = LateInteraction(encoder, QuestionTuning(encoder.weights.digest, weights))
    own, other = (
        encode_tokens(encoder, [text], kind).vectors
        for text, kind in ((question, "query"), (passage, "document"))
    )
    assert last.score([PAIRS[0]])[0] == pytest.approx((own[-1] @ other.T).max(), abs=1e-5)


def test_tuning_loads_again_and_refuses_another_base(encoder: Encoder, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    tuning = QuestionTuning(
        encoder.weights.digest,
        random.random(len(encoder.model.tokenizer), np.float32),
    )
    trained = LateInteraction(encoder, tuning)
    trained.save(tmp_path)
    loaded = LateInteraction.load(tmp_path, EmbedderSettings(), ComputeSettings())
    np.testing.assert_array_equal(loaded.score(PAIRS), trained.score(PAIRS))
    assert loaded.identity == trained.identity != LateInteraction(encoder).identity
    with pytest.raises(RagftError, match="train it again over this base"):
        QuestionTuning.load(tmp_path, "0" * 64)
    with pytest.raises(RagftError, match="no late interaction model"):
        QuestionTuning.load(tmp_path / "nothing", encoder.weights.digest)


@pytest.mark.parametrize("tuned", [True, False])
def test_a_model_of_before_stretches_scores_whole_passages(
    encoder: Encoder, tmp_path: Path, tuned: bool
) -> None:
    weights = np.ones(len(encoder.model.tokenizer), np.float32)
    tuning = QuestionTuning(encoder.weights.digest, weights) if tuned else None
    if tuning:
        tuning.save(tmp_path)
    loaded = LateInteraction.load(tmp_path, EmbedderSettings(), ComputeSettings())
    whole = LateInteraction(encoder, tuning, stretch=0.0)
    assert loaded.identity == whole.identity != LateInteraction(encoder, tuning).identity


def test_questions_are_remembered_up_to_so_many_bytes(
    late: LateInteraction, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(late_interaction, "_KNOWN_BYTES", 200_000)
    long = " ".join(["valve"] * 200)
    asked = [f"{number} {long}" for number in range(4)]
    expected = [late.score([(question, PASSAGES[0])])[0] for question in (*QUESTIONS, asked[0])]
    together = [(question, PASSAGES[0]) for question in (*asked, QUESTIONS[0])]
    assert late.score(together)[-1] == pytest.approx(expected[0], abs=1e-5)
    kept = [one.vectors for one in late._known.values()]
    assert sum(array.nbytes for array in kept) < 200_000
    assert all(array.base is None for array in kept)  # no slice that keeps the others' memory
    again = [late.score([(question, PASSAGES[0])])[0] for question in (*QUESTIONS, asked[0])]
    np.testing.assert_allclose(again, expected, atol=1e-5)


def test_new_passages_are_encoded_once_for_both_kinds_of_vectors(
    encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = Workspace(ArtifactStore(tmp_path), "node_embeddings", tmp_path / "made")
    passages = dict(zip("ab", PASSAGES))
    vectors = _vectors(work, encoder, passages)
    np.testing.assert_allclose(vectors, encoder.encode(PASSAGES[:2], "document"), atol=1e-5)
    wanted = store_tokens(encoder, PASSAGES[:2], 4)
    for name in ("encode", "encode_tokens"):
        monkeypatch.setattr(encoder, name, None)
    found = cached_tokens(work, encoder, PASSAGES[:2], 4)
    assert found.lengths.tolist() == wanted.lengths.tolist()
    assert np.mean(found.codes == wanted.codes) > 0.99  # but for rounding at a level's edge


def test_a_model_without_token_states_still_has_vectors(
    encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_mean_of_words(encoder.weights, tmp_path / "words")
    words = Encoder.base(EmbedderSettings(model=str(tmp_path / "words")), ComputeSettings())
    work = Workspace(ArtifactStore(tmp_path), "node_embeddings", tmp_path / "made")
    passages = dict(zip("ab", PASSAGES))
    wanted = words.encode(PASSAGES[:2], "document")
    np.testing.assert_allclose(_vectors(work, words, passages), wanted, atol=1e-6)
    assert not list((tmp_path / "made").glob("tokens_document*"))
    monkeypatch.setattr(Encoder, "model", None)  # what is known loads nothing
    np.testing.assert_allclose(_vectors(work, words, passages), wanted, atol=1e-6)


def test_cosines_that_were_kept_score_by_any_weights(
    encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = Workspace(ArtifactStore(tmp_path), "teacher_scores", tmp_path / "made")
    pairs = [*PAIRS, (QUESTIONS[0], ""), ("", PASSAGES[0]), (QUESTIONS[1], PASSAGES[0] * 20)]
    stored = CachedTokens(work, encoder, 4)
    once = np.ones(encoder.vocabulary, np.float32)
    twice = np.arange(encoder.vocabulary, dtype=np.float32) % 7
    wanted = [
        LateInteraction(encoder, QuestionTuning(encoder.weights.digest, weights), stored).score(
            pairs
        )
        for weights in (once, twice)
    ]
    assert wanted[0][-3:-1].tolist() == [0, 0]
    found = weighed_scores(work, encoder, 4, once, pairs)
    np.testing.assert_allclose(found, wanted[0], atol=1e-5)
    monkeypatch.setattr(LateInteraction, "compared", None)
    found = weighed_scores(work, encoder, 4, twice, pairs[::-1])
    np.testing.assert_allclose(found, wanted[1][::-1], atol=1e-5)


def _vectors(work: Workspace, encoder: Encoder, passages: dict[str, str]) -> np.ndarray:
    units = units_of(passages)
    return gathered(work, units, encoded_with_tokens(work, encoder, units, 4))
