"""The router: from a question to a few tools with calibrated confidence, or to all of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ragft_pipeline.errors import RagftError
from ragft_pipeline.retrieval.adapters import Adapter, load_adapter
from ragft_pipeline.retrieval.search import top_k
from ragft_pipeline.routing.catalog import KINDS
from ragft_pipeline.routing.index_kinds import KindClassifier

CANDIDATES = 64  # tools among which the confidence is shared
_FILE = "router.json"


@dataclass(frozen=True)
class Choice:
    """What a router decides by; all of it chosen on questions that train nothing.

    Attributes:
        dense_weight: of the best vector's cosine beside BM25 (as a share of the best tool's).
        temperature: of the softmax that makes confidences of scores.
        coverage: tools are picked until their confidence sums to this.
        max_tools: where so many do not reach it, the router abstains: everything is searched.
        kind_floor: kinds with a smaller share than this are not searched.
        rerank_by, rerank_weight: whose opinion counts among the best `rerank_depth`, `reranker` or
            `late_interaction`, and how much; 0 leaves it out.
        vectors_per_tool: passages a tool that it was calibrated with; 0 for all.
        strength: share of the trained maps.
    """

    dense_weight: float
    temperature: float
    coverage: float
    max_tools: int
    kind_floor: float
    rerank_by: str = ""
    rerank_weight: float = 0.0
    rerank_depth: int = 0
    vectors_per_tool: int = 0
    strength: float = 1.0


@dataclass(frozen=True)
class Route:
    """Where a question goes.

    Attributes:
        tools: places of the best tools in the index, best first, with their confidences.
        picked: how many of them to search.
        abstained: whether to search everything instead.
        kinds: share of each index kind, and those to search.
    """

    tools: list[tuple[int, float]]
    picked: int
    abstained: bool
    kinds: dict[str, float]
    searched_kinds: tuple[str, ...]

    @property
    def confidence(self) -> float:
        """How sure it is that the answer is in the first tool."""
        return self.tools[0][1] if self.tools else 0.0


@dataclass(frozen=True)
class Router:
    """A trained router; tools may come and go without training it again.

    Attributes:
        maps: at full strength.
        choice: of all choosing questions: what a release decides by.
        folds: by fold of people's questions, the choice of all others.
    """

    maps: Adapter
    kinds: KindClassifier
    choice: Choice
    folds: Mapping[str, Choice] = field(default_factory=dict)

    @cached_property
    def adapter(self) -> Adapter:
        """The maps as they are used."""
        strength = self.choice.strength
        return self.maps if strength == 1.0 else self.maps.shrunk(strength)

    def without(self, fold: int) -> Router:
        """Return the router whose choice no question of a fold had a part in."""
        return replace(self, choice=self.folds.get(str(fold), self.choice), folds={})

    @property
    def second_opinion(self) -> str:
        """Whose opinion of the best tools counts; empty for nobody's."""
        return self.choice.rerank_by if self.choice.rerank_weight else ""

    def scores(self, dense: np.ndarray, words: np.ndarray) -> np.ndarray:
        """Return tools' scores, of shape (questions, tools): cosine and BM25's share of the best.

        Both are on scales that do not depend on the other tools' worst, so that a score of some
        candidates is that of all.
        """
        best = words.max(axis=1, keepdims=True)
        share = np.divide(words, best, out=np.zeros_like(words), where=best > 0)
        weight = self.choice.dense_weight
        return np.asarray(weight * dense + (1 - weight) * share)

    def confidences(self, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the best candidates and their confidences, each (questions, k), best first."""
        best = top_k(scores, CANDIDATES)
        return best, shares(np.take_along_axis(scores, best, axis=1), self.choice.temperature)

    def pick(self, confidences: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return how many of the first tools to search for each question, and who abstains."""
        return picks(confidences, self.choice.coverage, self.choice.max_tools)

    def routes(
        self, best: np.ndarray, confidences: np.ndarray, kind_shares: np.ndarray
    ) -> list[Route]:
        """Put a block of questions' decisions together."""
        picked, abstained = self.pick(confidences)
        return [
            Route(
                list(zip(best[row].tolist(), confidences[row].tolist())),
                int(picked[row]),
                bool(abstained[row]),
                dict(zip(KINDS, kind_shares[row].tolist())),
                searched_kinds(kind_shares[row], self.choice.kind_floor),
            )
            for row in range(len(best))
        ]

    def save(self, folder: Path) -> None:
        """Save into a folder: the maps, the kinds' weights and the choices."""
        self.maps.save(folder / "maps")
        self.kinds.save(folder)
        folds = {fold: asdict(choice) for fold, choice in self.folds.items()}
        body = {"base_digest": self.maps.base_digest, **asdict(self.choice), "folds": folds}
        (folder / _FILE).write_text(json.dumps(body, indent=1), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path | str, base_digest: str) -> Router:
        """Load what `save` wrote; RagftError where it was trained over another base model."""
        folder = Path(folder)
        try:
            body = json.loads((folder / _FILE).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise RagftError(f"{folder} is no router folder: {_FILE} is missing") from None
        body.pop("base_digest")
        folds = {fold: Choice(**one) for fold, one in body.pop("folds", {}).items()}
        maps = load_adapter(folder / "maps", base_digest)
        return cls(maps, KindClassifier.load(folder), Choice(**body), folds)

    def with_choice(self, **changes: Any) -> Router:
        """Return the router with other choices."""
        return replace(self, choice=replace(self.choice, **changes))


def router_base(folder: Path) -> str:
    """Return the digest of the base model that a router folder belongs to."""
    return str(json.loads((folder / _FILE).read_text(encoding="utf-8"))["base_digest"])


def shares(scores: np.ndarray, temperature: float) -> np.ndarray:
    """Return a softmax of each row."""
    logits = scores / temperature
    values = np.exp(logits - logits.max(axis=1, keepdims=True, initial=-np.inf))
    return np.asarray(values / values.sum(axis=1, keepdims=True))


def picks(
    confidences: np.ndarray, coverage: float, max_tools: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return how many first tools reach the coverage, and whether more than `max_tools` would."""
    sums = np.cumsum(confidences, axis=1)
    needed = (sums < coverage - 1e-9).sum(axis=1) + 1
    most = min(max_tools, confidences.shape[1])
    return np.minimum(needed, most), needed > most


def searched_kinds(kind_shares: Sequence[float] | np.ndarray, floor: float) -> tuple[str, ...]:
    """Return the kinds with at least the floor's share, and always the likeliest."""
    values = np.asarray(kind_shares)
    return tuple(
        kind for kind, share in zip(KINDS, values) if share >= floor or share == values.max()
    )
