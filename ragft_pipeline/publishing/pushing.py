"""`ragft push`: the served embedder on a hub, as its users load it."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np

from ragft_pipeline.digests import file_sha256
from ragft_pipeline.errors import RagftError, TransientError, one_line, redacted
from ragft_pipeline.serving.bundle import Bundle
from ragft_pipeline.serving.export import export_bundle
from ragft_pipeline.settings import ComputeSettings

_CARD = "README.md"
_MODELS = ("embedder_with_adapter", "embedder")


def push(
    bundle: Bundle,
    repository: str,
    compute: ComputeSettings,
    endpoint: str = "",
    key_env: str = "HF_TOKEN",
    private: bool = True,
) -> str:
    """Upload a bundle's embedder, adapter baked in, to a hub; return its address.

    A repository that is there keeps its card and its visibility. What was uploaded is downloaded
    again and must be the same, byte by byte.

    Raises RagftError where the hub refuses, or gives back something else.
    """
    from huggingface_hub import HfApi

    token = os.environ.get(key_env, "")
    if not token:
        raise RagftError(f"the hub's token is read from the variable {key_env}, which is not set")
    api = HfApi(endpoint=endpoint or None, token=token, library_name="ragft_pipeline")
    with tempfile.TemporaryDirectory(prefix="ragft-push-") as scratch:
        written = Path(scratch) / "export"
        export_bundle(bundle, written, compute)
        folder = next(
            written / "models" / name for name in _MODELS if (written / "models" / name).is_dir()
        )
        try:
            api.create_repo(repository, private=private, repo_type="model", exist_ok=True)
            if api.file_exists(repository, _CARD):
                (folder / _CARD).unlink(missing_ok=True)  # people wrote it: it stays
            else:
                (folder / _CARD).write_text(_card(bundle), encoding="utf-8")
            said = f"bundle {bundle.digest} over corpus version {bundle.version}"
            commit = api.upload_folder(
                repo_id=repository, folder_path=str(folder), commit_message=said
            )
            back = api.snapshot_download(
                repository, revision=getattr(commit, "oid", None), local_dir=f"{scratch}/back"
            )
        except RagftError:
            raise
        except Exception as error:
            line = one_line(error, endpoint, [token])
            status = getattr(getattr(error, "response", None), "status_code", 0)
            kind = RagftError if 400 <= int(status or 0) < 500 else TransientError
            raise kind(f"hub {redacted(endpoint) or 'default'}: {line}") from None
        _require_same(folder, Path(back), repository)
        _require_loads(folder, Path(back), bundle, compute)
    return f"{(endpoint or api.endpoint).rstrip('/')}/{repository}"


def _require_same(folder: Path, back: Path, repository: str) -> None:
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_file():
            other = back / name
            if not other.is_file() or file_sha256(other) != file_sha256(path):
                raise RagftError(f"{repository}: {name} does not come back as it was uploaded")


def _require_loads(folder: Path, back: Path, bundle: Bundle, compute: ComputeSettings) -> None:
    """Raise RagftError unless what came back gives the bundle's vectors when it is loaded."""
    from sentence_transformers import SentenceTransformer

    from ragft_pipeline.publishing.bundles import BundleEncoder

    trust = BundleEncoder(bundle, compute).settings.embedder.trust_remote_code
    texts = [bundle.nodes().column("text")[0].as_py()] if bundle.manifest["nodes"] else []
    vectors = []
    for where in (folder, back):
        model = SentenceTransformer(
            str(where), device="cpu", trust_remote_code=trust, local_files_only=True
        )
        vectors.append(model.encode_query(texts, show_progress_bar=False))
    if not np.allclose(vectors[0], vectors[1], atol=1e-5):
        raise RagftError("what the hub gives back encodes otherwise than what was uploaded")


def _card(bundle: Bundle) -> str:
    return (
        "---\nlibrary_name: sentence-transformers\npipeline_tag: sentence-similarity\n"
        "tags: [sentence-transformers, ragft_pipeline]\n---\n\n"
        f"# {bundle.configuration.name}\n\n"
        f"The embedder of bundle `{bundle.digest}` over corpus version {bundle.version}; base "
        f"model {bundle.manifest['base_model']}. `encode_query` and `encode_document` have its "
        "prompts and its adapter.\n"
    )
