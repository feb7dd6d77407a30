"""Causal language models on this machine: loading, greedy answers in batches, perplexity.

A model is a name in ragft.yaml: the embedded one (a GGUF file), a local folder or a hub id.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from platformdirs import user_cache_path

from ragft_pipeline.errors import RagftError
from ragft_pipeline.models.memory import give_back, trim
from ragft_pipeline.models.weights import Weights
from ragft_pipeline.store.files import publish_folder, write_json

if TYPE_CHECKING:
    from ragft_pipeline.settings import ComputeSettings

Chat = list[dict[str, str]]
"""Messages with `role` and `content`."""

_UNPACKED_FILE = "ragft_unpacked.json"  # what an unpacked model was made of
_STRIDE = 256  # tokens of a window of which perplexity is taken


@dataclass(frozen=True)
class Reply:
    """A language model's answer to one prompt, with what it cost."""

    text: str
    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True)
class LanguageModel:
    """A tokenizer and a model, ready to answer."""

    tokenizer: Any
    model: Any

    @classmethod
    def load(
        cls,
        weights: Weights,
        compute: ComputeSettings,
        trust_remote_code: bool = False,
        adapter: Path | None = None,
        dtype: str = "",
    ) -> LanguageModel:
        """Return a model, with a LoRA adapter merged into it where there is one.

        Args:
            dtype: the number type it answers in; by default `answering_dtype`.
        """
        dtype = dtype or answering_dtype(compute)
        if adapter is None:
            return cls(*load_language_model(weights, compute, trust_remote_code, dtype))
        import torch
        from peft import PeftModel

        load_language_model.cache_clear()  # two models would be held where one answers
        # merging changes the weights, and rounded ones would lose most of it
        fresh = load_model(weights, compute, trust_remote_code, dtype="float32")
        merged = PeftModel.from_pretrained(fresh, str(adapter)).merge_and_unload()
        merged = merged.to(getattr(torch, dtype))
        # torch would copy frozen word vectors once a question to multiply the prompts' last tokens
        merged.requires_grad_(True)
        del fresh
        give_back()
        return cls(load_tokenizer(weights, trust_remote_code), merged)

    def answer(self, chats: Sequence[Chat], max_new_tokens: int, batch_size: int) -> list[Reply]:
        """Answer each chat greedily."""
        texts = [
            self.tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
            for chat in chats
        ]
        return self.complete(texts, max_new_tokens, batch_size)

    def complete(
        self,
        texts: Sequence[str],
        max_new_tokens: int,
        batch_size: int,
        repetition_penalty: float = 1.0,
        questions: int = 0,
    ) -> list[Reply]:
        """Continue each text greedily, in batches of texts of like length.

        Args:
            questions: a continuation ends with so many question marks; 0: where the model ends it.
        """
        import torch

        marks = _question_marks(self.tokenizer).to(self.model.device) if questions else None
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        replies: list[Reply] = [Reply("", 0, 0)] * len(texts)
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            inputs = self.tokenizer(
                [texts[i] for i in batch],
                return_tensors="pt",
                padding=True,
                add_special_tokens=False,
            )
            given, asked = (
                inputs["input_ids"].shape[1],
                inputs["attention_mask"].sum(dim=1).tolist(),
            )
            with torch.inference_mode():
                output = self.model.generate(
                    **inputs.to(self.model.device),
                    max_new_tokens=max_new_tokens,
                    do_sample=False,
                    repetition_penalty=repetition_penalty,
                    pad_token_id=self.tokenizer.pad_token_id,
                    **_cache(self.model.device.type),
                    stopping_criteria=[] if marks is None else [_ends(marks, given, questions)],
                )
            new = output[:, given:].cpu()
            for i, ids, own in zip(batch, new, asked):
                used = int((ids != self.tokenizer.pad_token_id).sum())
                text = self.tokenizer.decode(ids, skip_special_tokens=True)
                replies[i] = Reply(text, own, used)
            trim()
        return replies

    def losses(self, texts: Sequence[str]) -> np.ndarray:
        """Return the mean negative log-likelihood of a token, one number a text, in nats.

        A text longer than 256 tokens is read in windows of so many; perplexity is exp of a mean.
        """
        import torch

        losses = []
        for text in texts:
            ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
            total, number = 0.0, 0
            for start in range(0, len(ids), _STRIDE):
                window = torch.tensor([ids[start : start + _STRIDE]], device=self.model.device)
                if window.shape[1] < 2:
                    continue
                with torch.inference_mode():
                    loss = self.model(input_ids=window, labels=window).loss
                total += float(loss) * (window.shape[1] - 1)
                number += window.shape[1] - 1
            losses.append(total / max(1, number))
        return np.array(losses)


def _cache(device: str) -> dict[str, str]:
    """Return how keys and values are kept while a model answers.

    A CPU would copy a cache that grows at every token: one of the final size takes a quarter less
    time. Elsewhere transformers compiles the model for one, which takes longer than a few answers.
    """
    return {"cache_implementation": "static"} if device == "cpu" else {}


def _question_marks(tokenizer: Any) -> Any:
    """Return which tokens end with a question mark, a bool tensor over the vocabulary."""
    import torch

    words = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    return torch.tensor([bool(word) and word.endswith(("?", "？")) for word in words])


def _ends(marks: Any, given: int, questions: int) -> Callable[..., Any]:
    """Return transformers' stopping criterion: so many marks after the first `given` tokens."""
    return lambda ids, scores, **_: marks[ids[:, given:]].sum(dim=1) >= questions


@lru_cache(maxsize=1)
def load_language_model(
    weights: Weights, compute: ComputeSettings, trust_remote_code: bool, dtype: str
) -> tuple[Any, Any]:
    """Return the tokenizer and the model, loaded once a process."""
    tokenizer = load_tokenizer(weights, trust_remote_code)
    return tokenizer, load_model(weights, compute, trust_remote_code, dtype=dtype)


def answering_dtype(compute: ComputeSettings) -> str:
    """Return the number type that a language model answers in: the faster one on this machine."""
    from ragft_pipeline.models.number_types import faster_dtype

    return str(faster_dtype(compute)).removeprefix("torch.")


def load_tokenizer(weights: Weights, trust_remote_code: bool = False) -> Any:
    """Return the tokenizer, which pads on the left, as generating needs it."""
    from ragft_pipeline.models.quiet import quiet_transformers

    quiet_transformers()
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(
        model_folder(weights),
        padding_side="left",
        local_files_only=True,
        trust_remote_code=trust_remote_code,
    )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_model(
    weights: Weights, compute: ComputeSettings, trust_remote_code: bool = False, **kwargs: Any
) -> Any:
    """Return a model of its own, ready to answer.

    Args:
        kwargs: for transformers, such as another `dtype` than `compute` says; a quantized model
            finds its device.
    """
    from transformers import AutoModelForCausalLM

    from ragft_pipeline.models.devices import pick_device, pick_dtype

    model = AutoModelForCausalLM.from_pretrained(
        model_folder(weights),
        local_files_only=True,
        trust_remote_code=trust_remote_code,
        **{"dtype": pick_dtype(compute), **kwargs},
    )
    placed = model if "quantization_config" in kwargs else model.to(pick_device(compute))
    return placed.eval()


def model_folder(weights: Weights) -> Path:
    """Return the model as a Hugging Face folder; a GGUF file is unpacked once a machine.

    Reading the GGUF file takes some seconds, which a run that asks about one new node would feel;
    the folder in the user's cache (float32, 540 MB) loads in a second.
    """
    if weights.file is None or weights.file.suffix != ".gguf":
        return weights.folder
    import transformers

    name = f"{weights.name}-{weights.digest[:16]}-{transformers.__version__}"
    folder = user_cache_path("ragft_pipeline") / name
    if not _is_as_unpacked(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
            staged = Path(temporary) / name
            tokenizer, model = _read_gguf(weights)
            tokenizer.save_pretrained(staged)
            # a file is mapped for as long as one of its weights stays as it was loaded
            model.save_pretrained(staged, max_shard_size="50MB")
            write_json(staged / _UNPACKED_FILE, _stamps(staged))
            if folder.is_dir():
                folder.rename(Path(temporary) / "changed")
            publish_folder(staged, folder)
    return folder


def _is_as_unpacked(folder: Path) -> bool:
    """Whether nothing in an unpacked model was changed, added or taken away since."""
    try:
        known = json.loads((folder / _UNPACKED_FILE).read_bytes())
    except (OSError, ValueError):
        return False
    return bool(known == _stamps(folder))


def _stamps(folder: Path) -> dict[str, list[int]]:
    """Return the size and the time of each file; to digest them would take as long as to load."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != _UNPACKED_FILE)
    facts = {path.relative_to(folder).as_posix(): path.stat() for path in files}
    return {name: [found.st_size, found.st_mtime_ns] for name, found in facts.items()}


def _read_gguf(weights: Weights) -> tuple[Any, Any]:
    """Return the tokenizer and the model of a GGUF file."""
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    assert weights.file is not None
    folder, file = str(weights.folder), weights.file.name
    with _reading_once():
        model = AutoModelForCausalLM.from_pretrained(
            folder, gguf_file=file, quantization_config=GgufConfig(dequantize=True), dtype="float32"
        )
        return AutoTokenizer.from_pretrained(folder, gguf_file=file), model


@contextmanager
def _reading_once() -> Iterator[None]:
    """Let transformers read a GGUF file's fields once, and not for each thing it makes of them.

    It reads them for the configuration, the weights and the tokenizer, each time by half a million
    views of a memory map, and makes the map of names for every module: 33 s where this takes 8.
    """
    try:
        import gguf
    except ImportError:
        raise RagftError(
            "a language model in a GGUF file takes: pip install 'ragft-pipeline[answering]'"
        ) from None

    class Reader(gguf.GGUFReader):
        data: Any

        def _get(self, *args: Any, **kwargs: Any) -> Any:
            self.data = np.asarray(self.data)  # a view of a plain array costs less
            return super()._get(*args, **kwargs)

    own = gguf.GGUFReader, gguf.get_tensor_name_map
    gguf.GGUFReader, gguf.get_tensor_name_map = lru_cache(Reader), lru_cache(own[1])
    try:
        yield
    finally:
        gguf.GGUFReader, gguf.get_tensor_name_map = own
