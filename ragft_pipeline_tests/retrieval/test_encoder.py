from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import (
    Dense,
    Normalize,
    Pooling,
    StaticEmbedding,
    Transformer,
)
from tokenizers import Tokenizer
from transformers import BertConfig, BertModel, RobertaConfig, RobertaModel

from ragft_pipeline.models.features import quicken
from ragft_pipeline.models.weights import resolve_weights
from ragft_pipeline.retrieval import model_folder, packed
from ragft_pipeline.retrieval.encoder import Encoder, normalise_rows
from ragft_pipeline.retrieval.model_folder import BertFolder, StaticFolder, read_model_folder
from ragft_pipeline.retrieval.packed import LoadedModel, PackedEncoder, can_pack
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


def unknown(*given: object) -> BertFolder:
    """Read no folder."""
    raise ValueError


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
    found = PackedEncoder(LoadedModel(minilm)).encode(TEXTS).numpy()
    np.testing.assert_allclose(found, minilm.encode(TEXTS), atol=1e-5)


@pytest.mark.parametrize("roberta", [False, True])
@pytest.mark.parametrize("pooling", ["cls", "mean", "max"])
def test_other_architectures_and_modules(tmp_path: Path, roberta: bool, pooling: str) -> None:
    model = small_model(tmp_path, roberta, pooling)
    assert can_pack(model)
    for prompt in (None, "query: "):
        theirs = model.encode(TEXTS, prompt=prompt)
        found = PackedEncoder(LoadedModel(model)).encode(TEXTS, prompt).numpy()
        np.testing.assert_allclose(found, theirs, atol=1e-5)


@pytest.mark.parametrize("roberta", [False, True])
@pytest.mark.parametrize("pooling", ["cls", "mean", "max"])
@pytest.mark.parametrize("limit", [20, 512])
def test_a_folder_is_read_as_sentence_transformers_loads_it(
    tmp_path: Path, roberta: bool, pooling: str, limit: int
) -> None:
    small_model(tmp_path / "parts", roberta, pooling).save(str(tmp_path / "saved"))
    model = SentenceTransformer(str(tmp_path / "saved"), device="cpu")
    model.max_seq_length = min(limit, model.max_seq_length or limit)
    read = read_model_folder(tmp_path / "saved", {}, limit, torch.float32)
    assert isinstance(read, BertFolder)
    assert read.width == model.get_embedding_dimension()
    assert read.special == set(model.tokenizer.all_special_ids)
    for prompt in (None, "passage about: "):
        wanted, found = (each.ids(TEXTS, prompt) for each in (LoadedModel(model), read))
        assert wanted[1] == found[1]
        assert [ids.tolist() for ids in wanted[0]] == [ids.tolist() for ids in found[0]]
        theirs = PackedEncoder(LoadedModel(model)).encode(TEXTS, prompt)
        torch.testing.assert_close(
            PackedEncoder(read).encode(TEXTS, prompt), theirs, atol=1e-6, rtol=0
        )


def test_static_word_vectors_are_read_as_sentence_transformers_loads_them(tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_file(str(resolve_weights(MINILM).folder / "tokenizer.json"))
    static = StaticEmbedding(tokenizer, embedding_dim=16)
    SentenceTransformer(modules=[static], device="cpu").save(str(tmp_path))
    model = SentenceTransformer(str(tmp_path), device="cpu")
    read = read_model_folder(tmp_path, {}, 512, torch.float32)
    assert isinstance(read, StaticFolder)
    assert read.width == 16
    for prompt in ("", "query: "):
        theirs = model.encode(TEXTS, prompt=prompt)
        np.testing.assert_allclose(read.encode(TEXTS, prompt), theirs, atol=1e-6)


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("config.json", {"hidden_act": "relu"}),
        ("config.json", {"position_embedding_type": "relative_key"}),
        ("config.json", {"auto_map": {"AutoModel": "own.Model"}}),
        ("sentence_bert_config.json", {"do_lower_case": True}),
        ("sentence_bert_config.json", {"query_length": 32}),
        ("config_sentence_transformers.json", {"truncate_dim": 8}),
        ("tokenizer_config.json", {"do_lower_case": False}),
        ("tokenizer_config.json", {"tokenizer_class": "XLMRobertaTokenizer"}),
        ("1_Pooling/config.json", {"pooling_mode": "weightedmean"}),
        ("1_Pooling/config.json", {"pooling_mode": ["mean", "max"]}),
        ("2_Dense/config.json", {"activation_function": "own.Function"}),
    ],
)
def test_a_folder_that_says_something_unknown_is_left_to_sentence_transformers(
    tmp_path: Path, file: str, change: dict[str, object]
) -> None:
    small_model(tmp_path / "parts", False, "mean").save(str(tmp_path / "saved"))
    assert read_model_folder(tmp_path / "saved", {}, 512, torch.float32)
    said = json.loads((tmp_path / "saved" / file).read_text("utf-8"))
    (tmp_path / "saved" / file).write_text(json.dumps({**said, **change}), encoding="utf-8")
    assert read_model_folder(tmp_path / "saved", {}, 512, torch.float32) is None


def test_a_broken_file_of_weights_is_left_to_sentence_transformers(tmp_path: Path) -> None:
    small_model(tmp_path / "parts", False, "mean").save(str(tmp_path / "saved"))
    weights = tmp_path / "saved" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    assert read_model_folder(tmp_path / "saved", {}, 512, torch.float32) is None


def test_weights_by_old_names_are_left_to_sentence_transformers(tmp_path: Path) -> None:
    small_model(tmp_path / "parts", False, "mean").save(str(tmp_path / "saved"))
    weights = tmp_path / "saved" / "model.safetensors"
    named = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma"): each.clone()
        for name, each in load_file(weights).items()
    }
    save_file(named, weights, {"format": "pt"})
    assert read_model_folder(tmp_path / "saved", {}, 512, torch.float32) is None


def test_a_tokenizer_of_no_known_kind_is_left_to_sentence_transformers(tmp_path: Path) -> None:
    small_model(tmp_path / "parts", False, "mean").save(str(tmp_path / "saved"))
    file = tmp_path / "saved" / "tokenizer.json"
    rules = json.loads(file.read_text("utf-8"))
    file.write_text(json.dumps({**rules, "model": {"type": "Own"}}), encoding="utf-8")
    assert read_model_folder(tmp_path / "saved", {}, 512, torch.float32) is None


def test_encoding_imports_neither_transformers_nor_sentence_transformers() -> None:
    run = """if True:
        import sys
        from ragft_pipeline.retrieval.encoder import Encoder
        from ragft_pipeline.settings import ComputeSettings, EmbedderSettings
        encoder = Encoder.base(EmbedderSettings(), ComputeSettings(device="cpu"))
        encoder.encode_tokens(["a valve"], "document")
        print({"transformers", "sentence_transformers", "sklearn"} & sys.modules.keys())
    """
    said = subprocess.run([sys.executable, "-c", run], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "set()"


@pytest.mark.parametrize("prompt", ["", "query: "])
def test_token_states_are_those_of_sentence_transformers(
    monkeypatch: pytest.MonkeyPatch, prompt: str
) -> None:
    settings = EmbedderSettings(query_prompt=prompt)
    packed = Encoder.base(settings, ComputeSettings()).encode_tokens(TEXTS, "query")[1]
    monkeypatch.setattr(model_folder, "_read", unknown)
    monkeypatch.setattr("ragft_pipeline.retrieval.packed.can_pack", lambda model: False)
    plain = Encoder.base(settings, ComputeSettings()).encode_tokens(TEXTS, "query")[1]
    for (ids, states), (their_ids, their_states) in zip(packed, plain, strict=True):
        assert ids.tolist() == their_ids.tolist()
        np.testing.assert_allclose(states, their_states, atol=1e-4)


def test_the_default_prompt_is_used(tmp_path: Path) -> None:
    model = small_model(tmp_path, False, "mean")
    plain = PackedEncoder(LoadedModel(model)).encode(TEXTS).numpy()
    model.prompts, model.default_prompt_name = {"ask": "passage about: "}, "ask"
    found = PackedEncoder(LoadedModel(model)).encode(TEXTS).numpy()
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
    found = normalise_rows(PackedEncoder(LoadedModel(minilm), int8=True).encode(TEXTS).numpy())
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
