"""Whether an accelerator computes what the CPU does, and how near it comes to what it could do.

    python -m benchmarks.gpu [--minutes 8] [--device cuda]

Takes whatever accelerator is there (CUDA, MPS), else the CPU with small sizes, and needs what
requirements install: no Dagster, network or store; texts are the sample handbook's, models the
packaged ones. Each stage is first compared with two threads of the CPU in float32, by relative
error and by nDCG@10 of people's questions, then timed, and its time compared with a floor
(benchmarks.gpu_floor). A stage that something is missing for, or for which there is no time left,
says so; one that fails is a shortfall, and the others go on.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
import traceback
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from benchmarks.gpu_bench import FULL, SMALL, Bench, Missing, Stage
from benchmarks.gpu_floor import Rates
from benchmarks.gpu_language import answering, lora
from benchmarks.gpu_retrieval import encoding, maps, token_vectors
from benchmarks.gpu_training import cross_encoder, towers
from ragft_pipeline.errors import RagftError
from ragft_pipeline.models.devices import memory_gib, pick_device
from ragft_pipeline.settings import ComputeSettings

STAGES: dict[str, Stage] = {
    "encoding": encoding,
    "token vectors": token_vectors,
    "maps": maps,
    "towers": towers,
    "cross-encoder": cross_encoder,
    "LoRA": lora,
    "answering": answering,
}
LANGUAGE_MODEL = "embedded:smollm2-135m-instruct"
HEAD = (
    "| stage | numbers | error | nDCG@10 apart | rate | times 2 CPU threads "
    "| share of the floor's rate | bound |\n" + "|---" * 8 + "|"
)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=8.0, help="no stage begins after these")
    parser.add_argument("--device", default="auto", help="auto, cuda, mps or cpu")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES))
    parser.add_argument("--language-model", default=LANGUAGE_MODEL)
    options = parser.parse_args(arguments)
    end = time.monotonic() + 60 * options.minutes
    device = pick_device(ComputeSettings.model_validate({"device": options.device}))
    sizes = SMALL if device == "cpu" else FULL
    rates = Rates.measured(device, sizes.product)
    print(f"{described(device)}: {rates}\n\n{HEAD}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(device, sizes, Path(folder), options.language_model, rates)
        for name, rate in rates.products.items():
            bench.results.add(f"{device}/product/{name}", rate / 1e12, "TFLOP/s")
        bench.results.add(f"{device}/memory", rates.memory / 1e9, "GB/s")
        bench.results.add(f"{device}/sending", rates.sending / 1e9, "GB/s")
        notes = [note for name in options.stages if (note := run(name, bench, end))]
    print("".join(f"\n{note}" for note in notes))
    bench.results.keep_others()  # what was measured on another device
    return bench.results.finish()


def run(name: str, bench: Bench, end: float) -> str:
    """Print a stage's rows as they come; return what there is to say beside them."""
    start = time.monotonic()
    if start > end:
        bench.results.shortfalls.append(f"{bench.device}/{name}: no time was left")
        return f"{name}: no time was left"
    try:
        for row in STAGES[name](bench):
            print(bench.add(row), flush=True)
    except Missing as lacking:
        return f"{name}: missing for {lacking}"
    except (ImportError, RagftError) as error:
        bench.results.shortfalls.append(f"{bench.device}/{name}: {error}")
        return f"{name}: {error}"
    except Exception as error:  # a card is lent for minutes: the other stages are to be seen
        traceback.print_exc()
        line = f"{name}: failed, {type(error).__name__}: {str(error)[:300]}"
        bench.results.shortfalls.append(f"{bench.device}/{line}")
        return line
    return f"{name}: {time.monotonic() - start:.0f} s"


def described(device: str) -> str:
    """Return what the device is, and the number of the CPU's threads."""
    import torch

    named = torch.cuda.get_device_name() if device == "cuda" else device
    memory = "" if device == "cpu" else f", {memory_gib(device):.0f} GiB"
    return f"{named}{memory}, torch {torch.__version__}, {os.cpu_count()} CPU threads"


if __name__ == "__main__":
    raise SystemExit(main())
