"""A bundle as plain files that other systems load: Parquet, model folders, checksums.

Layout::

    README.md, SHA256SUMS, bundle.json
    index/nodes.parquet, index/vectors.parquet    ids, texts, metadata; vectors by the same ids
    models/embedder/                              sentence-transformers; the base or the tuned one
    models/document_embedder/                     where the query tower alone was tuned: the base
    models/adapter/                               LlamaIndex's AdapterEmbeddingModel (query side)
    models/embedder_with_adapter/                 both in one sentence-transformers model
    models/reranker/ or models/late_interaction/  the second stage, where there is one
    models/ranker.json                            a ranker's weights, and what they are of
    models/<part>_onnx/                           with `onnx`: float32 and 8-bit graphs
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from ragft_pipeline.digests import file_sha256
from ragft_pipeline.errors import RagftError
from ragft_pipeline.models.devices import pick_device
from ragft_pipeline.retrieval.adapters import load_adapter
from ragft_pipeline.retrieval.encoder import Encoder, normalise_rows
from ragft_pipeline.retrieval.evidence import MEANINGS
from ragft_pipeline.retrieval.text_vectors import vectors_table
from ragft_pipeline.serving.bundle import (
    MANIFEST,
    Bundle,
    describe,
)
from ragft_pipeline.serving.index import BundleIndex
from ragft_pipeline.serving.index_files import TOKENS
from ragft_pipeline.serving.index_parts import retriever_parts
from ragft_pipeline.settings import ComputeSettings, Settings
from ragft_pipeline.tuning.baking import bake_adapter

CHECKSUMS_FILE = "SHA256SUMS"
RANKER_FILE = "ranker.json"
_MEASURED = 128  # passages an ONNX graph is compared on
_CHECKED, _ALIKE = 4, 0.999  # passages that exported models are checked on, and least cosine
_EAGER = {"device": "cpu", "model_kwargs": {"attn_implementation": "eager"}}
_README = """# {system}, corpus version {version}

{nodes} passages, vectors of {width} numbers of length 1; a higher inner product is a better match.

```python
import duckdb
duckdb.sql("FROM 'index/nodes.parquet' JOIN 'index/vectors.parquet' USING (node_id)")

from sentence_transformers import SentenceTransformer
model = SentenceTransformer("{model}")
query = model.encode_query("how is the strainer cleaned?", normalize_embeddings=True)
```
{documents}
{hybrid}

| fact | value |
|---|---|
{facts}
{onnx}
Check the files with `sha256sum -c SHA256SUMS`.
"""
_DOCUMENTS = """
Passages are encoded by `models/document_embedder`{adapted}.
"""
_ADAPTED = ", then mapped by the document side of `models/adapter`"
_HYBRID = """The system is a hybrid: {weight:g} times the dense score and {rest:g} times BM25's,
each scaled to 0..1 over all passages of the question."""
_RANKED = """A ranker orders the best 100 by the weighted sum of the evidence in models/ranker.json;
`ragft_pipeline/retrieval/evidence.py` says how each piece is scaled."""


def export_bundle(
    bundle: Bundle, target: Path, compute: ComputeSettings, onnx: bool = False
) -> int:
    """Write a bundle into a new folder; return the number of files.

    Args:
        onnx: also write embedder and reranker as ONNX graphs, with agreement and rates in the
            README (the extra `onnx`).

    Raises RagftError where the folder exists and is not empty, a part does not fit, or an exported
    model gives other vectors than the served one.
    """
    if target.exists() and any(target.iterdir()):
        raise RagftError(f"{target} is not empty: give a new folder")
    bundle.verify()
    target.mkdir(parents=True, exist_ok=True)
    # exported weights are float32, and checked against the served ones as such
    plain = bundle.settings(compute).compute.model_copy(update={"dtype": "float32"})
    settings = bundle.settings(compute).model_copy(update={"compute": plain})
    configuration = bundle.configuration
    encoder, adapter = retriever_parts(configuration, bundle.models, settings)
    models, index = target / "models", target / "index"
    passages = sorted(bundle.nodes().column("text").to_pylist(), key=len)[-_CHECKED:]
    served = {"query": encoder.encode(passages, "query")}
    _export_embedder(encoder, models / "embedder")
    if encoder.documents is encoder:
        served["document"] = encoder.encode(passages, "document")
    else:
        _export_embedder(encoder.documents, models / "document_embedder")
    _require_alike(models / "embedder", passages, served, settings)
    model = "models/embedder"
    if adapter is not None:
        shutil.copytree(adapter, models / "adapter")
        fitted = load_adapter(adapter, encoder.weights.digest)
        if hasattr(fitted.query, "linear"):
            model = "models/embedder_with_adapter"
            bake_adapter(fitted, settings.embedder, target / model, base=encoder.weights)
            sides = {"query": fitted.queries, "document": fitted.documents}
            mapped = {kind: sides[kind](vectors) for kind, vectors in served.items()}
            _require_alike(target / model, passages, mapped, settings)
    for part in ("late_interaction", "reranker"):
        if part in configuration.parts:
            shutil.copytree(getattr(bundle.models, part), models / part)
    if configuration.ranker:
        evidence = {
            name: {"weight": weight, "of": MEANINGS[name]}
            for name, weight in configuration.ranker.items()
        }
        (models / RANKER_FILE).write_text(json.dumps(evidence, indent=1), encoding="utf-8")
    index.mkdir()
    stored = BundleIndex(bundle, settings)
    vectors = stored.vectors()
    pq.write_table(stored.nodes, index / "nodes.parquet")
    named = vectors_table(stored.node_ids, stored.node_ids, vectors[:]).drop_columns(["row_key"])
    pq.write_table(named.rename_columns({"text_id": "node_id"}), index / "vectors.parquet")
    if (bundle.folder / TOKENS).is_dir():
        shutil.copytree(bundle.folder / TOKENS, index / TOKENS)
    measured = _onnx_tables(bundle, models, compute) if onnx else ""
    facts = describe(bundle)
    (target / MANIFEST).write_text(json.dumps(bundle.manifest, indent=1), encoding="utf-8")
    weight = configuration.dense_weight
    ranked = f"\n{_RANKED}" if configuration.ranker else ""
    text = _README.format(
        system=configuration.name,
        version=bundle.version,
        nodes=len(vectors),
        width=vectors.shape[1],
        model=model,
        documents=""
        if encoder.documents is encoder
        else _DOCUMENTS.format(adapted=_ADAPTED if adapter is not None else ""),
        hybrid="" if weight is None else _HYBRID.format(weight=weight, rest=1 - weight) + ranked,
        facts="\n".join(f"| {name} | {value} |" for name, value in facts.items()),
        onnx=measured,
    )
    (target / "README.md").write_text(text, encoding="utf-8")
    return write_checksums(target)


def _export_embedder(encoder: Encoder, folder: Path) -> None:
    """Write an encoder as a model that has its prompts and length, whoever loads it."""
    shutil.copytree(encoder.weights.folder, folder)
    encoder.model.save_pretrained(str(folder), create_model_card=False, safe_serialization=True)


def _require_alike(
    folder: Path, texts: list[str], served: dict[str, np.ndarray], settings: Settings
) -> None:
    """Raise RagftError where a model, loaded as its users will, gives other vectors.

    Args:
        served: vectors of the texts as `query` and as `document`, as far as the model makes them.
    """
    from sentence_transformers import SentenceTransformer

    trust = settings.embedder.trust_remote_code
    model: Any = SentenceTransformer(
        str(folder), device="cpu", trust_remote_code=trust, local_files_only=True
    )
    for kind, expected in served.items():
        encode = model.encode_query if kind == "query" else model.encode_document
        found = normalise_rows(encode(texts, show_progress_bar=False))
        if len(texts) and (found * expected).sum(axis=1).min() < _ALIKE:
            raise RagftError(f"{folder.name} does not give the served {kind} vectors once exported")


def _onnx_tables(bundle: Bundle, models: Path, compute: ComputeSettings) -> str:
    from sentence_transformers import CrossEncoder, SentenceTransformer

    from ragft_pipeline.serving.onnx_graphs import export_onnx

    pick_device(compute)  # sets the number of threads
    passages = bundle.nodes().column("text").to_pylist()[:_MEASURED]
    embedder = SentenceTransformer(str(models / "embedder"), **_EAGER)
    made = export_onnx(embedder, "vector", passages, models / "embedder_onnx")
    tables = [f"\n## ONNX: embedder, {len(passages)} passages\n\n{made.table()}\n"]
    reranker = bundle.models.reranker
    if reranker is not None:
        titles = bundle.nodes().column("title").to_pylist()
        pairs = list(zip(titles, passages))
        crossed = CrossEncoder(str(reranker), **_EAGER)
        made = export_onnx(crossed, "scores", pairs, models / "reranker_onnx")
        tables.append(f"\n## ONNX: reranker, {len(pairs)} pairs\n\n{made.table()}\n")
    return "".join(tables)


def write_checksums(folder: Path) -> int:
    """Write SHA256SUMS over every file below a folder; return their number."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    lines = [f"{file_sha256(path)}  {path.relative_to(folder).as_posix()}" for path in files]
    (folder / CHECKSUMS_FILE).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return len(files)
