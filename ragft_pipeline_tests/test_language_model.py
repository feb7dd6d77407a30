from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ragft_pipeline.models import language_model, number_types
from ragft_pipeline.models.weights import resolve_weights
from ragft_pipeline.settings import ComputeSettings


def test_answers_are_in_the_faster_number_type_or_the_one_that_is_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cpu = ComputeSettings(device="cpu")
    for faster, dtype in ((True, "bfloat16"), (False, "float32")):
        monkeypatch.setattr(number_types, "_cpu_is_faster_in_bfloat16", lambda found=faster: found)
        assert language_model.answering_dtype(cpu) == dtype
    set_so = ComputeSettings(device="cpu", dtype="bfloat16")
    assert language_model.answering_dtype(set_so) == "bfloat16"


def test_a_text_ends_with_its_last_question_whatever_stood_before() -> None:
    import torch

    marks = language_model._question_marks(Tokens(["why", "?", "no?", "so"]))
    assert marks.tolist() == [False, True, True, False]
    enough = language_model._ends(marks, 2, 2)  # marks of the prompt count for nothing
    assert enough(torch.tensor([[1, 1, 1], [1, 0, 3]]), None).tolist() == [False, False]
    assert enough(torch.tensor([[1, 1, 1, 2], [1, 0, 3, 1]]), None).tolist() == [True, False]


class Tokens:
    """A tokenizer's vocabulary."""

    def __init__(self, words: list[str]) -> None:
        self.words = words

    def __len__(self) -> int:
        return len(self.words)

    def convert_ids_to_tokens(self, ids: range) -> list[str]:
        return [self.words[number] for number in ids]


class Part:
    """A tokenizer or a model, as far as unpacking knows it."""

    def __init__(self, name: str, fails: bool = False) -> None:
        self.name, self.fails = name, fails

    def save_pretrained(self, folder: Path, max_shard_size: str = "") -> None:
        if self.fails:
            raise OSError("no space left on device")
        folder.mkdir(exist_ok=True)
        (folder / self.name).write_text(self.name, encoding="utf-8")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(language_model, "user_cache_path", lambda name: tmp_path / name)
    return tmp_path / "ragft_pipeline"


def test_the_model_is_unpacked_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[Any] = []

    def read(weights: Any) -> tuple[Part, Part]:
        reads.append(weights)
        return Part("tokenizer"), Part("model")

    monkeypatch.setattr(language_model, "_read_gguf", read)
    weights = resolve_weights("embedded:smollm2-135m-instruct")
    folders = {language_model.model_folder(weights) for _ in range(2)}
    assert reads == [weights]
    assert list(cache.iterdir()) == list(folders)
    assert sorted(path.name for path in folders.pop().iterdir()) == [
        "model", "ragft_unpacked.json", "tokenizer",
    ]  # fmt: skip


@pytest.mark.parametrize("change", ["tokenizer", "chat_template.jinja"])
def test_an_unpacked_model_that_was_changed_is_unpacked_anew(
    cache: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    monkeypatch.setattr(language_model, "_read_gguf", lambda _: (Part("tokenizer"), Part("model")))
    weights = resolve_weights("embedded:smollm2-135m-instruct")
    folder = language_model.model_folder(weights)
    (folder / change).write_text("another")
    assert language_model.model_folder(weights) == folder
    assert (folder / "tokenizer").read_text() == "tokenizer"
    assert not (folder / "chat_template.jinja").exists()
    assert list(cache.iterdir()) == [folder]


def test_half_an_unpacked_model_is_not_kept(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = Part("tokenizer"), Part("model", fails=True)
    monkeypatch.setattr(language_model, "_read_gguf", lambda weights: parts)
    with pytest.raises(OSError, match="no space"):
        language_model.model_folder(resolve_weights("embedded:smollm2-135m-instruct"))
    assert list(cache.iterdir()) == []
