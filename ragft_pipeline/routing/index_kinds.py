"""Which kind of index answers a question: a calibrated, multi-label guess from the question alone.

Logistic regression (scikit-learn's) on the frozen vector of the question and a few marks of its
surface, towards what each kind gained on the training questions.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ragft_pipeline.routing.catalog import KINDS, identifiers

_FILE = "index_kinds.safetensors"
_GAIN_TEMPERATURE = 0.2
_REGULARISATION = 1.0
_TEMPERATURES = np.exp(np.linspace(np.log(0.3), np.log(5.0), 40))


def surface(questions: Sequence[str]) -> np.ndarray:
    """Return marks of the questions' surface, float32 (questions, 5), each about 0..1."""
    rows = []
    for text in questions:
        words = text.split()
        size = max(1, len(text))
        rows.append(
            [
                min(1.0, len(words) / 16),
                sum(c.isdigit() for c in text) / size,
                sum(not c.isalnum() and not c.isspace() for c in text) / size,
                min(1.0, len(identifiers([text]))),
                float(bool(re.search(r"[?？]\s*$", text))),
            ]
        )
    return np.array(rows, np.float32).reshape(len(questions), 5)


def soft_labels(gains: np.ndarray) -> np.ndarray:
    """Return the share of each kind: a softmax of what it gained; equal gains share equally."""
    logits = gains / _GAIN_TEMPERATURE
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(shares / shares.sum(axis=1, keepdims=True))


@dataclass(frozen=True)
class KindClassifier:
    """The share of each index kind for a question; the even share where nothing was learnt."""

    weights: np.ndarray
    bias: np.ndarray
    temperature: float = 1.0

    @classmethod
    def fit(
        cls, queries: np.ndarray, questions: Sequence[str], gains: np.ndarray
    ) -> KindClassifier:
        """Learn from questions on which some kind gained more than another.

        Args:
            queries: the questions' vectors, float32 (questions, width).
            gains: what each kind gained, float (questions, 3).
        """
        from sklearn.linear_model import LogisticRegression

        features = _features(queries, questions)
        telling = gains.max(axis=1) > gains.min(axis=1)
        width = features.shape[1]
        even = cls(np.zeros((width, len(KINDS)), np.float32), np.zeros(len(KINDS), np.float32))
        labels = soft_labels(gains[telling])
        if len(labels) < 2 * len(KINDS):
            return even
        # a soft label is one row a kind, weighted by its share
        stacked = np.repeat(features[telling], len(KINDS), axis=0)
        classes = np.tile(np.arange(len(KINDS)), len(labels))
        model = LogisticRegression(C=_REGULARISATION, max_iter=500)
        model.fit(stacked, classes, sample_weight=labels.reshape(-1))
        return cls(model.coef_.T.astype(np.float32), model.intercept_.astype(np.float32))

    def shares(self, queries: np.ndarray, questions: Sequence[str]) -> np.ndarray:
        """Return the share of each kind, float (questions, 3) with rows that sum to 1."""
        logits = (_features(queries, questions) @ self.weights + self.bias) / self.temperature
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(shares / shares.sum(axis=1, keepdims=True))

    def calibrated(
        self, queries: np.ndarray, questions: Sequence[str], gains: np.ndarray
    ) -> KindClassifier:
        """Return the classifier with the temperature that fits other questions best."""
        telling = gains.max(axis=1) > gains.min(axis=1)
        if not telling.any():
            return self
        wanted = soft_labels(gains[telling])
        asked = [text for text, keep in zip(questions, telling) if keep]

        def loss(temperature: float) -> float:
            tried = KindClassifier(self.weights, self.bias, temperature)
            return float(-(wanted * np.log(tried.shares(queries[telling], asked) + 1e-9)).sum())

        best = min(_TEMPERATURES.tolist(), key=loss)
        return KindClassifier(self.weights, self.bias, best)

    def save(self, folder: Path) -> None:
        """Save as safetensors."""
        from safetensors.numpy import save_file

        folder.mkdir(parents=True, exist_ok=True)
        arrays = {
            "weights": self.weights,
            "bias": self.bias,
            "temperature": np.array([self.temperature], np.float32),
        }  # contiguous, for safetensors writes memory as it lies
        save_file({n: np.ascontiguousarray(a) for n, a in arrays.items()}, folder / _FILE)

    @classmethod
    def load(cls, folder: Path) -> KindClassifier:
        """Load what `save` wrote."""
        from safetensors.numpy import load_file

        held = load_file(folder / _FILE)
        return cls(held["weights"], held["bias"], float(held["temperature"][0]))


def _features(queries: np.ndarray, questions: Sequence[str]) -> np.ndarray:
    return np.concatenate([queries, surface(questions)], axis=1).astype(np.float32)
