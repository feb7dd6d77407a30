"""What a reranker learns from: per question its source among negatives, easy lists first.

A new head on an embedder stays at chance for hundreds of full passages, and leaves it within some
twenty steps of short ones: so the first lists show windows of the passages, cut around what they
share with the question, and no other node of the source's document; then whole passages come, with
hard, medium and random negatives.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from ragft_pipeline.settings import RerankerSettings
from ragft_pipeline.tuning.data import Questions

_HARD, _MEDIUM, _EASY = (0, 30), (30, 90), (5, 60)  # ranks, likely false negatives left out
_FALSE_NEGATIVE = 0.95  # of the source's score: what scores higher may answer as well
_UNSPACED = "\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
_WORDS = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+")  # unspaced scripts: a character a word


@dataclass(frozen=True)
class TrainingList:
    """A question, its candidates (the source first) and how the teacher scores each, 0..1."""

    question: str
    node_ids: list[str]
    passages: list[str]
    teacher: np.ndarray
    easy: bool


class ListMaker:
    """Draws training lists from the teacher's rankings; the same ones for the same seed.

    Args:
        nodes: NODES of train.
        teacher: TEACHER_SCORES of the questions.
    """

    def __init__(self, nodes: pa.Table, teacher: pa.Table, recipe: RerankerSettings) -> None:
        ids = nodes.column("node_id").to_pylist()
        self._texts = dict(sorted(zip(ids, nodes.column("text").to_pylist())))
        self._document = dict(zip(ids, nodes.column("doc_key").to_pylist()))
        self._nodes_of: dict[str, set[str]] = {}
        for node_id, document in self._document.items():
            self._nodes_of.setdefault(document, set()).add(node_id)
        self._every = list(self._texts)
        self._teacher = {row["question_id"]: row for row in teacher.to_pylist()}
        self._recipe = recipe
        self._random = np.random.default_rng(recipe.seed)

    def lists(self, questions: Questions, easy_share: float) -> list[TrainingList]:
        """Return `epochs` lists a question in training order: the easy share, then the others."""
        total = max(1, round(len(questions) * self._recipe.epochs))
        passes = -(-total // len(questions))
        order = np.concatenate([self._random.permutation(len(questions)) for _ in range(passes)])
        easy = round(easy_share * total)
        return [self._list(questions, row, place < easy) for place, row in enumerate(order[:total])]

    def _list(self, questions: Questions, row: int, easy: bool) -> TrainingList:
        question, source = questions.texts[row], questions.node_ids[row]
        ranked = self._teacher[questions.ids[row]]
        scores = dict(zip(ranked["node_ids"], ranked["scores"]))
        node_ids = [source, *self._negatives(source, scores, easy)]
        lowest = min(scores.values(), default=0.0)  # what the teacher did not list is at most this
        passages = [self._texts[node_id] for node_id in node_ids]
        if easy:
            passages = [self._window(question, text) for text in passages]
        teacher = np.array([scores.get(node_id, lowest) for node_id in node_ids], np.float32)
        return TrainingList(question, node_ids, passages, teacher, easy)

    def _negatives(self, source: str, scores: dict[str, float], easy: bool) -> list[str]:
        limit = _FALSE_NEGATIVE * scores.get(source, 1.0)
        barred = {node for node, score in scores.items() if score >= limit} | {source}
        if easy:
            barred |= self._nodes_of[self._document[source]]
        ranked = [node for node in scores if node not in barred]
        recipe = self._recipe
        wanted = recipe.hard_negatives + recipe.medium_negatives + recipe.random_negatives
        if easy:
            chosen = self._draw(ranked[slice(*_EASY)], wanted)
        else:
            chosen = self._draw(ranked[slice(*_HARD)], recipe.hard_negatives)
            chosen += self._draw(ranked[slice(*_MEDIUM)], recipe.medium_negatives)
        return chosen + self._draw_any(wanted - len(chosen), barred | set(chosen))

    def _draw(self, pool: Sequence[str], number: int) -> list[str]:
        return [pool[i] for i in self._random.permutation(len(pool))[:number]]

    def _draw_any(self, number: int, barred: set[str]) -> list[str]:
        enough = min(len(self._every), number + len(barred))
        places = self._random.choice(len(self._every), size=enough, replace=False)
        return [self._every[i] for i in places if self._every[i] not in barred][:number]

    def _window(self, question: str, text: str) -> str:
        """Return the part of a text that shares most words with the question; of ties, any."""
        places = [(match.start(), match.end()) for match in _WORDS.finditer(text)]
        size = self._recipe.easy_words
        if len(places) <= size:
            return text
        asked = set(_WORDS.findall(question.lower()))
        shared = np.array([text[start:end].lower() in asked for start, end in places], dtype=int)
        counts = np.convolve(shared, np.ones(size, dtype=int), "valid")
        first = int(self._random.choice(np.flatnonzero(counts == counts.max())))
        return text[places[first][0] : places[first + size - 1][1]]


def training_columns(
    lists: Sequence[TrainingList], recipe: RerankerSettings
) -> dict[str, list[Any]]:
    """Return the columns that the recipe's loss reads, in the order of the lists.

    `bce`: query, passage and label, a row a candidate. `lambda` and `distill`: query, docs and
    labels, a row a question; those of `distill` are the logarithms of `distil_target`.
    """
    if recipe.recipe == "bce":
        pairs = [(one, place) for one in lists for place in range(len(one.passages))]
        return {
            "query": [one.question for one, _ in pairs],
            "passage": [one.passages[place] for one, place in pairs],
            "label": [float(place == 0) for _, place in pairs],
        }
    if recipe.recipe == "lambda":
        labels = [[1.0, *[0.0] * (len(one.passages) - 1)] for one in lists]
    else:
        targets = [distil_target(one.teacher, recipe) for one in lists]
        labels = [np.log(np.maximum(target, 1e-9)).tolist() for target in targets]
    return {
        "query": [one.question for one in lists],
        "docs": [one.passages for one in lists],
        "labels": labels,
    }


def distil_target(teacher: np.ndarray, recipe: RerankerSettings) -> np.ndarray:
    """Return the probabilities to learn: `source_share` on the source, the rest the teacher's."""
    logits = teacher / recipe.teacher_temperature
    shares = np.exp(logits - logits.max())
    target = (1 - recipe.source_share) * shares / shares.sum()
    target[0] += recipe.source_share
    return np.asarray(target)
