"""A sentence-transformers model of two small layers with drawn weights: real, and soon loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

_WORDS = """the of and a in to is for on with pump strainer friday oven bread rye dough valve seal
log gloves pressure flour milk rolls loaf query passage cleaned every after air housing open"""


def tiny_embedder(folder: Path, pooling: str = "mean", dense: bool = True) -> Path:
    """Write a model: BERT of two layers, a pooling, a Dense module if wanted; return the folder.

    The weights are drawn from one seed, so two folders differ in pooling and Dense alone.
    """
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Dense
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
    from transformers import BertConfig, BertModel, BertTokenizerFast

    torch.manual_seed(5)
    raw = folder.with_name(f"{folder.name}-raw")
    raw.mkdir(parents=True)
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)] + list("0123456789.,:?-'")
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *_WORDS.split(), *letters]
    vocabulary += [f"##{letter}" for letter in letters]
    (raw / "vocab.txt").write_text("\n".join(dict.fromkeys(vocabulary)), encoding="utf-8")
    BertTokenizerFast(str(raw / "vocab.txt")).save_pretrained(str(raw))
    config = BertConfig(
        vocab_size=len(dict.fromkeys(vocabulary)), hidden_size=32, num_hidden_layers=2,
        num_attention_heads=2, intermediate_size=64, max_position_embeddings=128,
        initializer_range=0.5,
    )  # fmt: skip
    BertModel(config).save_pretrained(str(raw))
    modules: list[Any] = [Transformer(str(raw), max_seq_length=96), Pooling(32, pooling)]
    projection = Dense(32, 32, bias=False, activation_function=torch.nn.Tanh())
    if dense:
        modules.append(projection)
    model = SentenceTransformer(modules=[*modules, Normalize()], device="cpu")
    model.save_pretrained(str(folder), create_model_card=False)
    return folder
