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
    kept to be judged; `train`: the rest.

    Args:
        questions: by id.
        gold: people's questions that choose or report.
        keep: the share that is kept, by hash.
        threshold: of similarity (`split.near_duplicate`).
    """
    asked = {question_id(one): one for one in gold}
    parts = {name: JUDGE if kept_to_be_judged(name, keep) else TRAIN for name in questions}
    parts |= dict.fromkeys(nearly_among(questions, asked, threshold), GOLD)
    kept = {name: questions[name] for name, part in parts.items() if part == JUDGE}
    others = {name: questions[name] for name, part in parts.items() if part == TRAIN}
    return parts | dict.fromkeys(nearly_among(others, kept, threshold), NEAR)


def nearly_among(
    questions: Mapping[str, str], others: Mapping[str, str], threshold: float
) -> set[str]:
    """Return the ids of the questions that are among others, or nearly.

    Nearly is what it is for documents, Jaccard similarity by MinHash, of the questions' words.
    """
    found = set(questions) & set(others)
    texts = {f"other:{name}": text for name, text in others.items()}
    texts |= {name: questions[name] for name in questions if name not in found}
    signatures = {name: minhash_signature(plain(text), _RUN) for name, text in texts.items()}
    alike = near_duplicates(signatures, set(questions) - found, threshold)
    return found | {name for name, other in alike if other.startswith("other:")}
