"""Which questions of a log train, and which are kept to be judged: never both, nor nearly."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ragft_pipeline.corpus.splits import minhash_signature, near_duplicates, unit
from ragft_pipeline.questions.log import plain, question_id

TRAIN, JUDGE, GOLD, NEAR = "train", "judge", "gold", "near"
_RUN = 1  # words: of documents five; a question has too few for that


def kept_to_be_judged(name: str, keep: float) -> bool:
    """Say whether a question, by its id, is kept from training for ever, to be judged."""
    return unit(f"judge:{name}") < keep


def log_parts(
    questions: Mapping[str, str], gold: Iterable[str], keep: float, threshold: float
) -> dict[str, str]:
    """Return each question's part.

    `judge`: kept to be judged; `gold`: asked in the gold set, or nearly; `near`: nearly one that is
    kept to be judged; `train`: the rest. Nearly is what it is for documents, Jaccard similarity by
    MinHash, of the questions' words.

    Args:
        questions: by id.
        gold: people's questions that choose or report.
        keep: the share that is kept, by hash.
        threshold: of similarity (`split.near_duplicate`).
    """
    asked = {f"gold:{question_id(one)}": one for one in gold}
    parts = {name: JUDGE if kept_to_be_judged(name, keep) else TRAIN for name in questions}
    parts |= {name: GOLD for name in questions if f"gold:{name}" in asked}
    texts = {**questions, **asked}
    signatures = {name: minhash_signature(plain(texts[name]), _RUN) for name in texts}
    alike = near_duplicates(signatures, set(questions), threshold)
    parts |= {name: GOLD for name, other in alike if other in asked}
    kept = {name for name, part in parts.items() if part == JUDGE}
    nearly = {name for name, other in alike if other in kept and parts[name] == TRAIN}
    return parts | dict.fromkeys(nearly, NEAR)
