"""Embedder and reranker as ONNX graphs, float32 and 8-bit, with what the 8 bits cost and save.

Needs the extra `onnx`. A graph takes input_ids and attention_mask, int64 of shape (texts, tokens),
from the tokenizer beside it, and returns `vector` of shape (texts, width), of length 1, or `scores`
of shape (pairs, 1).
"""

from __future__ import annotations

import contextlib
import io
import logging
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ragft_pipeline.errors import RagftError
from ragft_pipeline.retrieval.encoder import normalise_rows

if TYPE_CHECKING:
    import torch

    Texts = Sequence[str] | Sequence[tuple[str, str]]

FLOAT_FILE, INT8_FILE = "model.onnx", "model_int8.onnx"
_BATCH = 32
_OUTPUT = {"vector": "sentence_embedding", "scores": "scores"}


@dataclass(frozen=True)
class OnnxModel:
    """What an export gave: agreement with the torch model and rates, on the same texts.

    Attributes:
        agreement: mean cosine of the vectors, or correlation of the scores, by file.
        rate: texts a second, by file and for `torch`.
        megabytes: by file.
    """

    agreement: dict[str, float]
    rate: dict[str, float]
    megabytes: dict[str, float]

    def table(self) -> str:
        """Return a Markdown table."""
        lines = ["| model | agreement with torch | texts a second | MB |", "|---|---|---|---|"]
        lines += [f"| torch, float32 | 1 | {self.rate['torch']:.0f} | |"]
        for name, value in self.agreement.items():
            rate, size = self.rate[name], self.megabytes[name]
            lines.append(f"| {name} | {value:.4f} | {rate:.0f} | {size:.0f} |")
        return "\n".join(lines)


def export_onnx(
    model: Any, output: Literal["vector", "scores"], texts: Texts, folder: Path
) -> OnnxModel:
    """Write a sentence-transformers model or cross-encoder as two graphs, and measure them.

    Args:
        model: loaded on the CPU in float32, with eager attention.
        output: `vector` of an embedder, `scores` of a cross-encoder.
        texts: passages, or pairs for a cross-encoder, to measure on.

    Raises RagftError where the extra is not installed.
    """
    try:
        import onnx  # noqa: F401  # the quantizer needs it
        import onnxruntime
        import onnxscript  # noqa: F401  # the exporter needs it
    except ModuleNotFoundError as error:
        raise RagftError(
            f"exporting to ONNX needs {error.name}: pip install 'ragft_pipeline[onnx]'"
        ) from None
    folder.mkdir(parents=True, exist_ok=True)
    _write_graph(model, output, texts, folder / FLOAT_FILE)
    _quantize(folder / FLOAT_FILE, folder / INT8_FILE)
    model.tokenizer.save_pretrained(str(folder))
    expected, rate = _timed(partial(_torch, model, output), model, texts)
    agreement, rates, sizes = {}, {"torch": rate}, {}
    for name in (FLOAT_FILE, INT8_FILE):
        session = onnxruntime.InferenceSession(
            str(folder / name), providers=["CPUExecutionProvider"]
        )
        found, rates[name] = _timed(partial(_onnx, session), model, texts)
        agreement[name] = _agreement(found, expected)
        sizes[name] = (folder / name).stat().st_size / 1e6
    return OnnxModel(agreement, rates, sizes)


def _write_graph(model: Any, output: str, texts: Texts, file: Path) -> None:
    import torch

    class Graph(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Any:
            features = {"input_ids": input_ids, "attention_mask": attention_mask}
            found = self.model(features)[_OUTPUT[output]]
            return torch.nn.functional.normalize(found, dim=1) if output == "vector" else found

    example = _batch(model, texts[:2], "pt")
    rows, tokens = torch.export.Dim("rows"), torch.export.Dim("tokens")
    shape = {0: rows, 1: tokens}
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Graph().eval(),
            (example["input_ids"], example["attention_mask"]),
            str(file),
            input_names=["input_ids", "attention_mask"],
            output_names=[output],
            dynamic_shapes={"input_ids": shape, "attention_mask": shape},
            dynamo=True,
            external_data=False,
        )


def _quantize(source: Path, target: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared = target.with_suffix(".prepared.onnx")
    quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
    quantize_dynamic(prepared, target, weight_type=QuantType.QInt8, per_channel=True)
    prepared.unlink()


def _batch(model: Any, texts: Texts, kind: Literal["np", "pt"]) -> dict[str, Any]:
    pairs = isinstance(texts[0], tuple)
    columns = list(zip(*texts)) if pairs else [texts]
    encoded = model.tokenizer(
        *[list(column) for column in columns],
        padding=True, truncation=True, max_length=_limit(model), return_tensors=kind,
    )  # fmt: skip
    return {name: encoded[name] for name in ("input_ids", "attention_mask")}


def _limit(model: Any) -> int:
    limit = getattr(model, "max_seq_length", None) or getattr(model, "max_length", None)
    return int(limit or 512)


def _torch(model: Any, output: str, batch: dict[str, np.ndarray]) -> np.ndarray:
    import torch

    with torch.inference_mode():
        features = {name: torch.from_numpy(values) for name, values in batch.items()}
        found = model(features)[_OUTPUT[output]].numpy()
    return normalise_rows(found) if output == "vector" else found


def _onnx(session: Any, batch: dict[str, np.ndarray]) -> np.ndarray:
    return np.asarray(session.run(None, batch)[0])


def _timed(
    run: Callable[[dict[str, np.ndarray]], np.ndarray], model: Any, texts: Texts
) -> tuple[np.ndarray, float]:
    """Return what all texts give and texts a second, after one batch to warm up."""
    batches = [_batch(model, texts[i : i + _BATCH], "np") for i in range(0, len(texts), _BATCH)]
    run(batches[0])
    start = time.perf_counter()
    found = [run(batch) for batch in batches]
    return np.concatenate(found), len(texts) / (time.perf_counter() - start)


def _agreement(found: np.ndarray, expected: np.ndarray) -> float:
    if found.shape[1] > 1:
        return float((normalise_rows(found) * normalise_rows(expected)).sum(axis=1).mean())
    return float(np.corrcoef(found[:, 0], expected[:, 0])[0, 1])
