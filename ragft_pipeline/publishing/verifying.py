"""Does an endpoint serve the model that a bundle means?

Servers of embeddings differ in silence: another pooling, a Dense module that was dropped, no
prompt. The vectors are then of the right width and of no use. So twenty stored texts are compared,
and where they differ the same texts are embedded here with each usual mistake made: the one that
gives the endpoint's vectors is its cause.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ragft_pipeline.publishing.bundles import BundleEncoder, passages_of
from ragft_pipeline.publishing.endpoints import Endpoint
from ragft_pipeline.retrieval.encoder import Encoder, Kind, normalise_rows, prompt_of
from ragft_pipeline.serving.bundle import Bundle
from ragft_pipeline.settings import ComputeSettings

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

TEXTS, ALIKE = 20, 0.999
_TELLING = 4  # texts that tell one mistake from another
_POOLINGS = {"cls": "the first token's", "lasttoken": "the last token's", "max": "the maximum",
             "mean": "the mean"}  # fmt: skip


@dataclass(frozen=True)
class Verified:
    """What a comparison came to.

    Attributes:
        passed: whether every text's vectors agree.
        cosine: the least of them; 0 where the widths differ.
        line: what a person reads: how far, and why.
    """

    passed: bool
    cosine: float
    line: str


def verify(
    bundle: Bundle,
    endpoint: Endpoint,
    compute: ComputeSettings,
    side: Kind = "query",
    prompted: bool = False,
) -> Verified:
    """Compare an endpoint's vectors of twenty stored texts with a bundle's.

    Args:
        side: whose encoder it is to be.
        prompted: puts the bundle's prompt before each text, as a client would have to; else the
            server has to.
    """
    encoder = BundleEncoder(bundle, compute)
    texts = _sample(bundle, encoder)
    prompt = encoder.about().prompts[side]
    sent = [f"{prompt}{text}" for text in texts] if prompted else texts
    given = endpoint.embed(sent)
    expected = encoder.queries(texts) if side == "query" else encoder.documents(texts)
    what = f"bundle {bundle.digest[:12]}, {side} side, {len(texts)} texts"
    if given.shape[1] != expected.shape[1]:
        causes = _cause(encoder, texts, side, given) or (
            "another model, a Dense module that was dropped or added, or a cut to fewer dimensions"
        )
        return Verified(
            False,
            0.0,
            f"refused ({what}): vectors of {given.shape[1]} numbers, not {expected.shape[1]}: "
            f"{causes}",
        )
    cosine = _least(given, expected)
    if cosine >= ALIKE:
        return Verified(True, cosine, f"the same model ({what}): cosine at least {cosine:.5f}")
    cause = _cause(encoder, texts, side, given) or (
        "none of the usual causes alone (pooling, prompt, a Dense module, the adapter): "
        "another model or other weights"
    )
    return Verified(
        False, cosine, f"refused ({what}): cosine {cosine:.3f}, at least {ALIKE} is wanted: {cause}"
    )


def _sample(bundle: Bundle, encoder: BundleEncoder) -> list[str]:
    """Return twenty passages that lie evenly among all; short ones, that no server cuts."""
    read = sorted({p.read for p in passages_of(bundle, encoder.settings)[0]}, key=len)
    read = read[: max(TEXTS, len(read) // 2)]
    return read[:: max(1, len(read) // TEXTS)][:TEXTS]


def _least(one: np.ndarray, other: np.ndarray) -> float:
    return float((normalise_rows(one) * normalise_rows(other)).sum(axis=1).min(initial=1.0))


def _cause(encoder: BundleEncoder, texts: list[str], side: Kind, given: np.ndarray) -> str:
    """Return which usual mistake gives an endpoint's vectors; "" where none does."""
    texts, given = texts[:_TELLING], given[:_TELLING]
    for cause, vectors in _mistakes(encoder, texts, side):
        if vectors.shape == given.shape and _least(vectors, given) >= ALIKE:
            return f"its vectors are those of {cause}"
    return ""


def _mistakes(
    encoder: BundleEncoder, texts: list[str], side: Kind
) -> Iterator[tuple[str, np.ndarray]]:
    own: Encoder = encoder.encoder if side == "query" else encoder.encoder.documents
    model, embedder = own.model, encoder.settings.embedder
    prompts = {kind: prompt_of(own.weights, embedder, kind) for kind in ("query", "document")}
    other: Kind = "document" if side == "query" else "query"

    def mapped(vectors: np.ndarray) -> np.ndarray:
        adapter = encoder._adapter
        if adapter is None:
            return vectors
        return np.asarray(
            adapter.queries(vectors) if side == "query" else adapter.documents(vectors)
        )

    def encoded(made: SentenceTransformer, prompt: str) -> np.ndarray:
        return normalise_rows(made.encode(texts, prompt=prompt or None, show_progress_bar=False))

    if prompts[side]:
        yield (
            f"no prompt: the bundle's is {prompts[side]!r} (`--prompt` sends it)",
            mapped(encoded(model, "")),
        )
    if prompts[other] and prompts[other] != prompts[side]:
        yield (
            f"the {other} side's prompt, {prompts[other]!r}",
            mapped(encoded(model, prompts[other])),
        )
    if encoder.adapted:
        yield (
            "the model without its adapter: serve what `ragft export` writes with it",
            encoded(model, prompts[side]),
        )
        adapter = encoder._adapter
        wrong = adapter.documents if side == "query" else adapter.queries
        yield f"the {other} side of the adapter", np.asarray(wrong(encoded(model, prompts[side])))
    for cause, made in _rebuilt(model):
        for prompt, said in {prompts[side]: "", "": " and no prompt"}.items():
            vectors = encoded(made, prompt)
            yield f"{cause}{said}", vectors
            if encoder.adapted and vectors.shape[1] == model.get_embedding_dimension():
                yield f"{cause}{said}", mapped(vectors)


def _rebuilt(model: SentenceTransformer) -> Iterator[tuple[str, Any]]:
    """Yield the model with another pooling, and without its Dense modules."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Dense, Pooling

    modules = list(model)
    dense = [module for module in modules if isinstance(module, Dense)]
    kept = [module for module in modules if not isinstance(module, Dense)]

    def made(parts: list[Any]) -> Any:
        found = SentenceTransformer(modules=parts, device=str(model.device))
        found.max_seq_length = model.max_seq_length
        return found

    if dense:
        yield f"the model without its {len(dense)} Dense modules", made(kept)
    for place, module in enumerate(modules):
        if isinstance(module, Pooling):
            width = module.embedding_dimension
            for mode, name in _POOLINGS.items():
                if mode != module.pooling_mode:
                    pooled = Pooling(width, mode)
                    yield (
                        f"another pooling: {name}, the model's is {module.pooling_mode!r}",
                        made([*modules[:place], pooled, *modules[place + 1 :]]),
                    )
                    if dense:
                        rest = [m for m in modules[place + 1 :] if not isinstance(m, Dense)]
                        yield (
                            f"another pooling ({name}) without the Dense modules",
                            made([*modules[:place], pooled, *rest]),
                        )
