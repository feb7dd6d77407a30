"""The models of a bundle, loaded; bundles that have the same ones share them."""

from __future__ import annotations

from functools import cached_property
from threading import Lock

from ragft_pipeline.digests import digest_of
from ragft_pipeline.errors import RagftError
from ragft_pipeline.evaluation.second_stages import PairScorer
from ragft_pipeline.retrieval.adapters import Adapter, load_adapter
from ragft_pipeline.retrieval.encoder import Encoder
from ragft_pipeline.retrieval.evidence import CROSS_ENCODER, LATE_INTERACTION
from ragft_pipeline.retrieval.late_interaction import LateInteraction
from ragft_pipeline.retrieval.reranking import Reranker
from ragft_pipeline.retrieval.token_vectors import TokenStore
from ragft_pipeline.serving.bundle import MODELS_FOLDER, Bundle
from ragft_pipeline.serving.index_parts import retriever_parts
from ragft_pipeline.settings import Settings


class LoadedModels:
    """What encodes and scores for a bundle.

    Attributes:
        lock: held while a model computes; tokenizers refuse to be used by two threads at once.

    Raises RagftError where a part does not fit: an adapter of another base, vectors of another
    encoder, a base model that is no longer the same.
    """

    def __init__(self, bundle: Bundle, settings: Settings) -> None:
        self._bundle, self._settings = bundle, settings
        self._made_of = _made_of(bundle)
        self.encoder, adapter = retriever_parts(bundle.configuration, bundle.models, settings)
        _require_same(self.encoder, bundle, "identities")
        digest = self.encoder.weights.digest
        self.adapter: Adapter | None = load_adapter(adapter, digest) if adapter else None
        self.encoder.load()
        self.lock = Lock()
        self._loading = Lock()
        self._base: Encoder | None = None

    def serve(self, bundle: Bundle, settings: Settings) -> bool:
        """Whether they are another bundle's as well."""
        return settings == self._settings and _made_of(bundle) == self._made_of

    @property
    def base(self) -> Encoder:
        """The base embedder; loaded at the first use where the retriever is another one."""
        with self._loading:
            if self._base is None:
                encoder = self.encoder
                if "tuned_embedder" in self._bundle.configuration.parts:
                    encoder = Encoder.base(self._settings.embedder, self._settings.compute)
                _require_same(encoder, self._bundle, "base_identities")
                encoder.load()
                self._base = encoder
            return self._base

    @cached_property
    def _reranker(self) -> Reranker | None:
        folder = self._bundle.models.reranker
        if folder is None:
            return None
        reranker = Reranker(folder, self._settings.reranker, self._settings.compute)
        _ = reranker.model  # now: its bundle may go before the bundles that share it
        return reranker

    def scorers(self, tokens: TokenStore | None) -> dict[str, PairScorer]:
        """Return what scores the pairs that a ranker looks at, by the evidence's name.

        Args:
            tokens: the token vectors of the passages.
        """
        found = dict[str, PairScorer]()
        if self._bundle.models.late_interaction is not None:
            late = self._late_interaction
            found[LATE_INTERACTION] = late.over(tokens) if tokens is not None else late
        if self._reranker is not None:
            found[CROSS_ENCODER] = self._reranker
        return found

    @cached_property
    def _late_interaction(self) -> LateInteraction:
        folder = self._bundle.models.late_interaction
        assert folder is not None
        return LateInteraction.load(folder, self._settings.embedder, self._settings.compute)


def _made_of(bundle: Bundle) -> str:
    manifest = bundle.manifest
    files = {n: sha for n, sha in manifest["files"].items() if n.startswith(f"{MODELS_FOLDER}/")}
    made_by = [manifest["identities"], manifest.get("base_identities")]
    return digest_of(files, made_by, bundle.configuration.retriever, bundle.configuration.parts)


def _require_same(encoder: Encoder, bundle: Bundle, made_by: str) -> None:
    """Raise RagftError unless the encoder is the one that made the bundle's vectors."""
    for kind, made in bundle.manifest[made_by].items():
        if encoder.identity(kind) != made:
            raise RagftError(
                f"bundle {bundle.digest[:12]}: its vectors are not of the {kind} encoder "
                f"{bundle.manifest['base_model']!r} as it is now"
            )
