"""Between our tables and sets of questions in other shapes (ragft_pipeline.questions.formats)."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from ragft_pipeline.questions.drafts import IMPORTED, Draft, SourceNode
from ragft_pipeline.questions.formats import Answered, LabelledSet, Text
from ragft_pipeline.retrieval.lexical import lexical_terms

DOUBTFUL = 0.9  # of the source's score: what the teacher gives so much may answer as well


def labelled_pairs(
    pairs: pa.Table, nodes: pa.Table, teacher: pa.Table | None = None, negatives: int = 0
) -> LabelledSet:
    """Return QA pairs with the nodes they name; equal questions are one, with all of their nodes.

    Args:
        pairs, nodes: tables with the columns of QA_PAIRS and NODES that these need.
        teacher: TEACHER_SCORES of the questions, where negatives are wanted.
        negatives: how many a question: the teacher's best that do not answer, without those whose
            score is so near the source's that they may answer as well.
    """
    found = LabelledSet()
    first: dict[str, str] = {}
    ids, questions = pairs.column("question_id").to_pylist(), pairs.column("question").to_pylist()
    for question_id, question, node_id in zip(ids, questions, pairs.column("node_id").to_pylist()):
        name = first.setdefault(question, question_id)
        found.questions[name] = question
        found.judge(name, node_id, 1)
    if teacher is not None and negatives:
        _add_negatives(found, teacher, negatives)
    used = {node_id for own in found.grades.values() for node_id in own}
    rows = nodes.filter(pc.is_in(nodes.column("node_id"), pa.array(sorted(used), pa.string())))
    titles = rows.column("title").to_pylist() if "title" in rows.column_names else None
    texts = zip(
        rows.column("node_id").to_pylist(),
        rows.column("text").to_pylist(),
        titles or [""] * rows.num_rows,
    )
    found.texts = {node_id: Text(text, title or "") for node_id, text, title in texts}
    starts = dict(zip(rows.column("node_id").to_pylist(), _starts(rows)))
    for row in pairs.to_pylist() if "answer_start" in pairs.column_names else ():
        name, text = first[row["question"]], found.texts[row["node_id"]].text
        start = row["answer_start"] - starts[row["node_id"]]
        words = text[max(0, start) : row["answer_end"] - starts[row["node_id"]]]
        if words and words != text:
            answered = Answered(row["node_id"], words, max(0, start))
            found.answers.setdefault(name, []).append(answered)
    return found


def _starts(nodes: pa.Table) -> list[int]:
    has = "start_char" in nodes.column_names
    return list(nodes.column("start_char").to_pylist()) if has else [0] * nodes.num_rows


def _add_negatives(found: LabelledSet, teacher: pa.Table, negatives: int) -> None:
    wanted = pa.array(list(found.questions), pa.string())
    rows = teacher.filter(pc.is_in(teacher.column("question_id"), wanted))
    for row in rows.to_pylist():
        own = set(found.positives(row["question_id"]))
        scores = dict(zip(row["node_ids"], row["scores"]))
        doubtful = DOUBTFUL * max((scores[node] for node in own if node in scores), default=1.0)
        hard = [node for node in row["node_ids"] if node not in own and scores[node] < doubtful]
        for node in hard[:negatives]:
            found.judge(row["question_id"], node, 0)


def imported_drafts(found: LabelledSet, nodes: Sequence[SourceNode]) -> dict[str, list[Draft]]:
    """Return the drafts, by node id, of a team's own set.

    A question belongs to the nodes that are its relevant texts; else, for each text, of the nodes
    that contain it or lie within it, to the one that shares the most terms with the question. Those
    whose texts are in no node of this split are left for the other splits.
    """
    plain = {node: text for node in nodes if (text := _plain(node.text))}
    by_text: dict[str, list[str]] = {}
    for name, question in found.questions.items():
        texts = [_plain(found.texts[one].text) for one in found.positives(name)]
        for text in dict.fromkeys(text for text in texts if text):
            by_text.setdefault(text, []).append(question)
    drafts: dict[str, dict[str, Draft]] = {}
    for text, questions in by_text.items():
        own = [node for node in plain if text == plain[node]] or [
            node for node in plain if text in plain[node] or plain[node] in text
        ]
        terms = {node: set(lexical_terms(plain[node])) for node in own}
        for question in questions if own else ():
            asked = set(lexical_terms(question))
            node = min(own, key=lambda node: (-len(asked & terms[node]), node.node_id))
            draft = Draft(question, IMPORTED, 0, len(node.text))
            drafts.setdefault(node.node_id, {})[question] = draft
    return {node_id: list(own.values()) for node_id, own in drafts.items()}


def _plain(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()
