"""Two models on the same passages: declines, references, and what a service does not tell."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from ragft_pipeline import schemas
from ragft_pipeline.answering.evaluation import BASE, TUNED, HeldOutText, evaluate_answers
from ragft_pipeline.answering.questions import Question, questions_to_answer
from ragft_pipeline.answering.summary import AnsweringSummary, summarise
from ragft_pipeline.corpus.gold import read_gold_questions
from ragft_pipeline.evaluation.names import CANDIDATE
from ragft_pipeline.models.language_model import Chat, Reply
from ragft_pipeline.retrieval.encoder import Encoder
from ragft_pipeline.retrieval.question_sets import TOMORROW
from ragft_pipeline.settings import Settings
from ragft_pipeline.store import ArtifactStore, Workspace

SETTINGS = Settings.model_validate(
    {
        "evaluation": {"bootstrap": 500, "min_gold": 1},
        "llm_eval": {"closed_book": 1},
        "chats": {"sentences": 0},
    }
)
DECLINE = SETTINGS.chats.decline
GOOD, HALF, OFF = '"the pump is cleaned" [1]', '"the pump" [1]', '"the pump is cleaned" [2]'


@dataclass
class Service:
    """A model behind a service: it answers as it is told, and its losses are nobody's to see."""

    identity: str
    answerable: str
    unanswerable: str

    def answer(self, chats: Sequence[Chat]) -> list[Reply]:
        asked = [chat[-1]["content"] for chat in chats]
        return [Reply(self.answerable if "odd" in q else self.unanswerable, 1, 1) for q in asked]

    def losses(self, texts: Sequence[str]) -> np.ndarray | None:
        return None


class Nobody:
    """A judge that no statement is put to: all stand word for word in their passages or none."""

    def supported(self, pairs: Sequence[tuple[str, str]], work: Workspace) -> np.ndarray:
        return np.zeros(len(pairs), bool)


def questions(number: int = 24) -> list[Question]:
    """Return questions about as many documents: a passage answers the odd ones, none the even."""
    return [
        Question(
            f"q{n}", TOMORROW, f"{('even', 'odd')[n % 2]} {n}?", f"c{n}", True, (f"n{n}",),
            ("the pump is cleaned",), ("n", "m"), ("the pump is cleaned", "the log"),
            (1,) if n % 2 else (),
        )
        for n in range(number)
    ]  # fmt: skip


def summary(base: Service, tuned: Service, folder: Path) -> AnsweringSummary:
    work = Workspace(ArtifactStore(folder / "store"), "llm_eval", folder)
    models = {BASE: lambda: base, TUNED: lambda: tuned}
    texts = [HeldOutText("t", "a text", "c")]
    rows, _ = evaluate_answers(questions(), texts, models, Nobody(), SETTINGS, work)
    losses = schemas.LLM_LOSSES.schema.empty_table()
    found = summarise(rows, losses, SETTINGS)
    assert found is not None
    return found


def test_a_model_that_stops_declining_does_not_win(tmp_path: Path) -> None:
    declining = Service("base", HALF, DECLINE)
    found = summary(declining, Service("tuned", GOOD, GOOD), tmp_path)
    measures = {one.name: one for one in found.measures}
    assert measures["token F1 where a passage answers"].difference.low > 0
    assert measures["declines where no passage answers"].tuned == 0
    assert found.verdict.system == BASE


def test_a_right_decline_counts_and_a_wrong_one_does_not(tmp_path: Path) -> None:
    found = summary(Service("b", GOOD, GOOD), Service("t", DECLINE, DECLINE), tmp_path)
    measures = {one.name: one for one in found.measures}
    assert (measures["token F1"].base, measures["token F1"].tuned) == (0.5, 0.5)
    assert measures["token F1 where a passage answers"].tuned == 0
    assert found.verdict.system == BASE


def test_a_guard_that_a_service_cannot_tell_is_named_as_not_asked(tmp_path: Path) -> None:
    found = summary(Service("b", OFF, OFF), Service("t", GOOD, DECLINE), tmp_path)
    assert found.verdict.system == TUNED
    guard = found.verdict.tests[-1]
    assert (guard.name, guard.passed) == ("guard", None)
    assert "not asked: perplexity of general text" in found.verdict.sentence


def test_two_gold_lines_of_a_question_and_document_are_both_references(tmp_path: Path) -> None:
    text = "The valve opens at 6 bar. It is checked yearly."
    document = {
        "path": "a.md", "doc_key": "k", "cluster": "c", "split": "test", "characters": len(text),
        "file": "a.md", "file_key": "k", "start_char": 0,
    }  # fmt: skip
    lines = [
        {"question": "When?", "doc": "a.md", "answer_text": answer}
        for answer in ("checked yearly", "6 bar")
    ]
    documents = pa.Table.from_pylist([document], schema=schemas.DOCUMENTS.schema)
    gold = read_gold_questions(
        "\n".join(map(json.dumps, lines)), documents, {"k": text}.__getitem__
    )
    (asked,) = gold.table.to_pylist()
    row = {
        "question_id": asked["question_id"], "question": "When?", "question_set": TOMORROW,
        "system": CANDIDATE, "cluster": "c", "held_out": True, "relevant": ["n"],
        "top_nodes": ["m", "n"],
    }  # fmt: skip
    nodes = [{"node_id": "n", "text": text}, {"node_id": "m", "text": "Something else."}]
    (found,) = questions_to_answer(
        pa.Table.from_pylist([row], schema=schemas.EVAL_ROWS.schema),
        gold.table,
        schemas.CHATS.schema.empty_table(),
        pa.Table.from_pylist(nodes, schema=schemas.NODES.schema),
        lambda doc_key: text,
        Encoder.base(SETTINGS.embedder, SETTINGS.compute),
        SETTINGS,
        Workspace(ArtifactStore(tmp_path), "llm_eval", tmp_path),
    )
    assert set(found.references) == {"6 bar", "checked yearly"}
    assert (found.relevant, found.sources) == ((2,), ("n",))
