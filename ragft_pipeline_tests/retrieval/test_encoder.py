from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import (
    Dense,
    Normalize,
    Pooling,
    Transformer,
)
from transformers import BertConfig, BertModel, RobertaConfig, RobertaModel

from ragft_pipeline.models.features import quicken
from ragft_pipeline.models.weights import resolve_weights
from ragft_pipeline.retrieval import packed
from ragft_pipeline.retrieval.encoder import Encoder, normalise_rows
from ragft_pipeline.retrieval.packed import PackedEncoder, can_pack
from ragft_pipeline.settings import ComputeSettings, EmbedderSettings
from ragft_pipeline_tests.corpora import prose

MINILM = "embedded:all-minilm-l6-v2"
TEXTS = [
    "How do I reset the valve?",
    "",
    "锅炉每年检修一次",
    "How do I reset the valve?",
    *(prose(n, words) for n, words in enumerate((3, 40, 40, 90, 400))),
    "x" * 900,
]


@pytest.fixture(scope="module")
def minilm() -> SentenceTransformer:
    return SentenceTransformer(str(resolve_weights(MINILM).folder), device="cpu")


def small_model(folder: Path, roberta: bool, pooling: str) -> SentenceTransformer:
    """A BERT-like model of random weights, with MiniLM's tokenizer and a Dense module behind."""
    shape = {
        "vocab_size": 30522, "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
        "intermediate_size": 96, "max_position_embeddings": 140, "pad_token_id": 0,
    }  # fmt: skip
    torch.manual_seed(3)
    bert = RobertaModel(RobertaConfig(**shape)) if roberta else BertModel(BertConfig(**shape))
    bert.save_pretrained(folder)
    for file in ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json"):
        if (found := resolve_weights(MINILM).folder / file).is_file():
            shutil.copy(found, folder)
    first = Transformer(str(folder))
    first.max_seq_length = 128
    modules = [first, Pooling(48, pooling, include_prompt=False), Dense(48, 20), Normalize()]
    return SentenceTransformer(modules=modules, device="cpu")


@pytest.mark.parametrize("prompt", [None, "query: "])
def test_features_are_made_quicker_and_are_the_same(
    minilm: SentenceTransformer, prompt: str | None
) -> None:
    quick = SentenceTransformer(str(resolve_weights(MINILM).folder), device="cpu")
    quicken(quick)
    for texts in (TEXTS, TEXTS[:1]):
        wanted, found = (model.preprocess(texts, prompt=prompt) for model in (minilm, quick))
        assert wanted.keys() == found.keys()
        for name, value in wanted.items():
            if torch.is_tensor(value):
                assert value.dtype == found[name].dtype
                assert torch.equal(value, found[name])
            else:
                assert value == found[name]


def test_vectors_are_those_of_sentence_transformers(minilm: SentenceTransformer) -> None:
    assert can_pack(minilm)
    found = PackedEncoder(minilm).encode(TEXTS).numpy()
    np.testing.assert_allclose(found, minilm.encode(TEXTS), atol=1e-5)


@pytest.mark.parametrize("roberta", [False, True])
@pytest.mark.parametrize("pooling", ["cls", "mean", "max"])
def test_other_architectures_and_modules(tmp_path: Path, roberta: bool, pooling: str) -> None:
    model = small_model(tmp_path, roberta, pooling)
    assert can_pack(model)
    for prompt in (None, "query: "):
        theirs = model.encode(TEXTS, prompt=prompt)
        found = PackedEncoder(model).encode(TEXTS, prompt).numpy()
        np.testing.assert_allclose(found, theirs, atol=1e-5)


@pytest.mark.parametrize("prompt", ["", "query: "])
def test_token_states_are_those_of_sentence_transformers(
    monkeypatch: pytest.MonkeyPatch, prompt: str
) -> None:
    settings = EmbedderSettings(query_prompt=prompt)
    packed = Encoder.base(settings, ComputeSettings()).encode_tokens(TEXTS, "query")[1]
    monkeypatch.setattr("ragft_pipeline.retrieval.packed.can_pack", lambda model: False)
    plain = Encoder.base(settings, ComputeSettings()).encode_tokens(TEXTS, "query")[1]
    for (ids, states), (their_ids, their_states) in zip(packed, plain, strict=True):
        assert ids.tolist() == their_ids.tolist()
        np.testing.assert_allclose(states, their_states, atol=1e-4)


def test_the_default_prompt_is_used(tmp_path: Path) -> None:
    model = small_model(tmp_path, False, "mean")
    plain = PackedEncoder(model).encode(TEXTS).numpy()
    model.prompts, model.default_prompt_name = {"ask": "passage about: "}, "ask"
    found = PackedEncoder(model).encode(TEXTS).numpy()
    np.testing.assert_allclose(found, model.encode(TEXTS), atol=1e-5)
    assert np.abs(found - plain).max() > 1e-3


def test_what_cannot_be_packed_is_left_to_sentence_transformers(tmp_path: Path) -> None:
    model = small_model(tmp_path, False, "mean")
    model[0].model.config.hidden_act = "relu"
    assert not can_pack(model)
    model[0].model.config.hidden_act = "gelu"
    model.truncate_dim = 8
    assert not can_pack(model)


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_a_vector_does_not_depend_on_its_company(
    dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    compute = ComputeSettings().model_copy(update={"dtype": dtype})
    encoder = Encoder.base(EmbedderSettings(), compute)
    together = encoder.encode(TEXTS, "document")
    alone = np.concatenate([encoder.encode([text], "document") for text in TEXTS])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    monkeypatch.setattr(packed, "_TOKENS", 64)
    monkeypatch.setattr(packed, "_TEXTS", 3)
    np.testing.assert_allclose(encoder.encode(TEXTS, "document"), together, atol=1e-5)


def test_int8_vectors_are_near_those_of_float32(minilm: SentenceTransformer) -> None:
    found = normalise_rows(PackedEncoder(minilm, int8=True).encode(TEXTS).numpy())
    assert (found * minilm.encode(TEXTS)).sum(axis=1).min() > 0.98


def test_no_texts_have_no_vectors() -> None:
    encoder = Encoder.base(EmbedderSettings(), ComputeSettings())
    assert encoder.encode([], "query").shape == (0, 384)


def test_a_tuned_query_tower_leaves_documents_to_the_base(tmp_path: Path) -> None:
    base = Encoder.base(EmbedderSettings(), ComputeSettings())
    base.model.save_pretrained(str(tmp_path), create_model_card=False)
    (tmp_path / "ragft_card.json").write_text('{"document_tower": "base"}', encoding="utf-8")
    tuned = Encoder.tuned(tmp_path, EmbedderSettings(), ComputeSettings())
    assert tuned.identity("document") == base.identity("document")
    assert tuned.identity("query") != base.identity("query")
    np.testing.assert_array_equal(
        tuned.encode(["a valve"], "document"), base.encode(["a valve"], "document")
    )
