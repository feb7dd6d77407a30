"""The embedded language model: SmolLM2-135M-Instruct from its package, in batches.

It is small: most of what it writes is filtered out. It needs no key and no network, and shows what
a configured endpoint will do.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from ragft_pipeline.questions.drafts import Reply
from ragft_pipeline.settings import ComputeSettings
from ragft_pipeline.store.files import publish_folder
from ragft_pipeline.weights import Weights

EMBEDDED_VERSION = 1  # raise it when some prompt would be answered otherwise
MAX_NEW_TOKENS = 64
_OPENERS = ("1. What", "1. How", "1. When", "1. Which", "1. Who", "1. Why", "1. Where")


class EmbeddedModel:
    """Answers greedily, in length-sorted batches, each answer begun with a question word.

    A model this small repeats itself and drifts without a beginning and a repetition penalty.
    """

    def __init__(self, weights: Weights, batch_size: int, compute: ComputeSettings) -> None:
        self._weights = weights
        self._batch_size = batch_size
        self._compute = compute

    def ask(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Reply | None]:
        """Answer the prompts; the seed picks the word an answer begins with."""
        import torch

        tokenizer, model = load_language_model(self._weights, self._compute)
        chats = [[{"role": "user", "content": prompt}] for prompt in prompts]
        texts = tokenizer.apply_chat_template(chats, tokenize=False, add_generation_prompt=True)
        openers = [_OPENERS[seed % len(_OPENERS)] for seed in seeds]
        texts = [text + opener for text, opener in zip(texts, openers)]
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        replies: list[Reply | None] = [None] * len(texts)
        for start in range(0, len(order), self._batch_size):
            batch = order[start : start + self._batch_size]
            inputs = tokenizer(
                [texts[i] for i in batch],
                return_tensors="pt",
                padding=True,
                add_special_tokens=False,
            )
            with torch.inference_mode():
                output = model.generate(
                    **inputs.to(model.device),
                    max_new_tokens=MAX_NEW_TOKENS,
                    do_sample=False,
                    repetition_penalty=1.1,
                    pad_token_id=tokenizer.pad_token_id,
                )
            new = output[:, inputs["input_ids"].shape[1] :]
            for i, ids, mask in zip(batch, new, inputs["attention_mask"]):
                used = int((ids != tokenizer.pad_token_id).sum())
                text = openers[i] + tokenizer.decode(ids, skip_special_tokens=True)
                replies[i] = Reply(text, int(mask.sum()), used)
        return replies


@lru_cache(maxsize=1)
def load_language_model(weights: Weights, compute: ComputeSettings) -> tuple[Any, Any]:
    """Return the tokenizer and the model, loaded once a process."""
    from ragft_pipeline.retrieval.encoder import pick_device, pick_dtype, quiet_transformers

    quiet_transformers()
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder, device = unpacked_folder(weights), pick_device(compute)
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left", local_files_only=True)
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=pick_dtype(compute), local_files_only=True
    )
    return tokenizer, model.to(device).eval()


def unpacked_folder(weights: Weights) -> Path:
    """Return the model as a Hugging Face folder in the user's cache, made once a machine.

    Reading the GGUF file takes half a minute, which a run that asks about one new node would feel;
    the folder (float32, 540 MB) loads in a second.
    """
    import transformers

    name = f"{weights.name}-{weights.digest[:16]}-{transformers.__version__}"
    folder = user_cache_path("ragft_pipeline") / name
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
            staged = Path(temporary) / name
            for part in _read_gguf(weights):
                part.save_pretrained(staged)
            publish_folder(staged, folder)
    return folder


def _read_gguf(weights: Weights) -> tuple[Any, Any]:
    """Return the tokenizer and the model of a GGUF file."""
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    assert weights.file is not None
    folder, file = str(weights.folder), weights.file.name
    model = AutoModelForCausalLM.from_pretrained(
        folder, gguf_file=file, quantization_config=GgufConfig(dequantize=True), dtype="float32"
    )
    return AutoTokenizer.from_pretrained(folder, gguf_file=file), model
