"""Texts for benchmarks.gpu: the sample handbook's plain files, and as many more cut out of them."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa

from ragft_pipeline import schemas
from ragft_pipeline.answering.prompts import passages_chat, quoted
from ragft_pipeline.retrieval.metrics import PRIMARY, score_rankings
from ragft_pipeline.retrieval.search import top_k
from ragft_pipeline.tuning.data import Questions
from ragft_pipeline.tuning.teacher import TeacherLists

SAMPLE = Path(__file__).parents[1] / "data" / "sample"
WORDS, ASKED = 110, 9  # of a passage, of a made question
DEPTH = 64  # of the teacher's lists
DECLINE = "The passages do not say."


@dataclass(frozen=True)
class Texts:
    """Passages of the handbook, and people's questions about them.

    Attributes:
        relevant: for each question the passages that answer it.
        words: of all documents, for cutting more, of `long` words each.
    """

    passages: list[str]
    questions: list[str]
    relevant: list[set[int]]
    words: list[str]
    long: int

    @classmethod
    def of_sample(cls, most: int, long: int) -> Texts:
        """Read documents until there are `most` passages."""
        passages: list[str] = []
        words: list[str] = []
        rows_of: dict[str, range] = {}
        for file in sorted((SAMPLE / "docs").rglob("*.*")):
            if file.suffix not in (".md", ".txt"):
                continue
            own = file.read_text(encoding="utf-8").split()
            words += own
            if len(passages) < most:
                cut = [" ".join(own[at : at + WORDS]) for at in range(0, len(own), WORDS)]
                name = file.relative_to(SAMPLE / "docs").as_posix()
                rows_of[name] = range(len(passages), len(passages) + len(cut))
                passages += cut
        questions, relevant = [], []
        for line in (SAMPLE / "queries.jsonl").read_text(encoding="utf-8").splitlines():
            gold = json.loads(line)
            if (rows := rows_of.get(str(gold["doc"]))) is not None:
                start = " ".join(re.split(r"\s+", gold.get("answer_text", ""))[:5])
                found = {row for row in rows if start and start in passages[row]}
                questions.append(gold["question"])
                relevant.append(found or set(rows))
        return cls(passages, questions, relevant, words, long)

    def ndcg(self, queries: np.ndarray, passages: np.ndarray) -> float:
        """Return people's mean nDCG@10 with these vectors."""
        return self.ndcg_of(queries @ passages.T)

    def ndcg_of(self, scores: np.ndarray) -> float:
        """Return people's mean nDCG@10 with scores (questions, passages)."""
        return float(score_rankings(top_k(scores, 100), self.relevant)[PRIMARY].mean())

    def windows(self, number: int) -> list[str]:
        """Return so many passages of `long` words, no two alike."""
        starts = np.linspace(0, len(self.words) - self.long, number).astype(int)
        return [" ".join(self.words[at : at + self.long]) for at in starts]


@dataclass(frozen=True)
class Lessons:
    """Passages, a made question about each, and what a teacher says: the vectors' own cosines."""

    passages: list[str]
    queries: np.ndarray
    vectors: np.ndarray

    @cached_property
    def questions(self) -> Questions:
        ids = [f"{number:06}" for number in range(len(self.passages))]
        return Questions(ids, made_questions(self.passages), ids)

    @cached_property
    def teacher_table(self) -> pa.Table:
        rows = []
        for start in range(0, len(self.passages), 512):
            scores = self.queries[start : start + 512] @ self.vectors.T
            own = np.arange(start, start + len(scores))
            scores[own - start, own] = scores.max(axis=1)
            for number, best in zip(own, top_k(scores, DEPTH)):
                listed = list(dict.fromkeys([int(number), *best.tolist()]))
                values = scores[number - start, listed].clip(0, 1)
                names = [self.questions.ids[place] for place in listed]
                rows.append(
                    {"question_id": self.questions.ids[number], "node_ids": names, "scores": values}
                )
        return pa.Table.from_pylist(rows, schema=schemas.TEACHER_SCORES.schema)

    @cached_property
    def teacher(self) -> TeacherLists:
        return TeacherLists(self.teacher_table, self.questions, self.questions.ids)


def made_questions(passages: list[str]) -> list[str]:
    """Return a question about each passage: some words in a row."""
    random = np.random.default_rng(5)
    asked = []
    for passage in passages:
        words = passage.split()
        start = int(random.integers(max(1, len(words) - ASKED)))
        asked.append(f"what is said of {' '.join(words[start : start + ASKED])}?")
    return asked


def chats(passages: list[str], number: int) -> pa.Table:
    """Return CHATS: a made question, two passages, the first words of the one as the answer."""
    passages = [" ".join(passage.split()[:60]) for passage in passages]
    rows = []
    for place, question in enumerate(made_questions(passages[:number])):
        shown = [passages[place], passages[(place + 1) % len(passages)]]
        answer = quoted(" ".join(shown[0].split()[:12]), 1)
        messages = passages_chat(question, shown, DECLINE)
        rows.append(
            {
                "chat_id": f"{place:032x}", "kind": "people", "question_id": str(place),
                "node_id": "n", "doc_key": "d", "cluster": "c", "passages": ["n", "m"],
                "source": 1, "messages": [*messages, {"role": "assistant", "content": answer}],
            }
        )  # fmt: skip
    return pa.Table.from_pylist(rows, schema=schemas.CHATS.schema)
