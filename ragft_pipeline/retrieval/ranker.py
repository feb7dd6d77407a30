"""The ranker: a linear score over named evidence, drawn to a prior, fitted on few questions.

The loss is listwise softmax (Cao et al. 2007; Bruch et al. 2019): minus the log of the share that
the relevant candidates have of a question's softmax, averaged over questions that have one, plus
a share of the squared distance to the prior. So a few questions move it a little and many decide;
many about the same few documents are few.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# Set after a look at weights fitted on a product manual, the documentation of five tools and the
# sample handbook; COVID-QA and government guidance were not looked at. On people's questions of
# these, none of which fitted anything, it scores as well as two weights fitted on them. Late
# interaction's was set with its stretch, for which COVID-QA was looked at too.
PRIOR = {
    "dense": 1.5,
    "base": 1.0,
    "bm25": 1.0,
    "words": 0.3,
    "title": 0.0,
    "document": 0.8,
    "neighbours": 0.5,
    "late interaction": 6.0,
    "coverage": 0.5,
    "bigrams": 0.5,
    "length": 0.0,
    "cross-encoder": 0.0,
}
_OF_BASE = ("dense", "base", "document", "neighbours", "late interaction")  # rest on its vectors


@dataclass(frozen=True)
class Ranker:
    """How much each piece of evidence counts, by its name."""

    weights: dict[str, float]

    @classmethod
    def prior(cls, names: Sequence[str], legible: float = 1.0) -> Ranker:
        """Return the shipped weights of some evidence.

        Args:
            legible: how far the base embedder reads the corpus, 0..1; what rests on its vectors
                counts so much less.
        """
        share = dict.fromkeys(_OF_BASE, legible)
        return cls({name: PRIOR[name] * share.get(name, 1.0) for name in names})

    @classmethod
    def fitted(
        cls,
        names: Sequence[str],
        features: np.ndarray,
        relevant: np.ndarray,
        clusters: Sequence[str],
        legible: float = 1.0,
    ) -> Ranker:
        """Return weights fitted on questions, drawn to the prior; the prior without questions.

        Args:
            names: of the features, in the order of the last axis.
            features: float (questions, candidates, features).
            relevant: bool (questions, candidates).
            clusters: of the documents that each question is about.
            legible: as the prior takes it.
        """
        from scipy.optimize import minimize

        shipped = cls.prior(names, legible)
        prior = np.array([shipped.weights[name] for name in names])
        usable = relevant.any(axis=1)
        shown, wanted = features[usable].astype(np.float64), relevant[usable]
        number = len(shown)
        if not number:
            return shipped
        documents = len(set(np.array(clusters)[usable].tolist()))
        pull = max(0.01, 1 / number, 0.5 / documents)

        def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
            scores = shown @ weights
            mass = np.exp(scores - scores.max(axis=1, keepdims=True))
            right = mass * wanted
            whole, part = mass.sum(axis=1), right.sum(axis=1)
            slope = mass / whole[:, None] - right / part[:, None]
            gradient = np.einsum("qc,qcf->f", slope, shown) / number
            away = weights - prior
            value = np.mean(np.log(whole) - np.log(part)) + pull * away @ away
            return float(value), gradient + 2 * pull * away

        found = minimize(loss, prior, jac=True, method="L-BFGS-B").x
        return cls(dict(zip(names, found.tolist())))

    def scores(self, names: Sequence[str], features: np.ndarray) -> np.ndarray:
        """Return scores of the shape of `features` without its last axis."""
        return features @ self.vector(names)

    def vector(self, names: Sequence[str]) -> np.ndarray:
        """Return the weights in the order of `names`, float32."""
        return np.array([self.weights.get(name, 0.0) for name in names], np.float32)
