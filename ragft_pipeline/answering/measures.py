"""Measures of an answer: token F1, exact match, and what its citations are worth."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Sequence

from ragft_pipeline.answering.prompts import Answer

_UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_TOKENS = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+")
_ARTICLES = frozenset(("a", "an", "the"))


def answer_tokens(text: str) -> list[str]:
    """Return lower-case words without articles and punctuation; single CJK characters."""
    return [token for token in _TOKENS.findall(text.lower()) if token not in _ARTICLES]


def token_f1(answer: str, references: Sequence[str]) -> float:
    """Return the best F1 of an answer's tokens with a reference's (Rajpurkar et al. 2016)."""
    return max((_f1(answer_tokens(answer), answer_tokens(one)) for one in references), default=0.0)


def score(answer: Answer, references: Sequence[str], answerable: bool) -> tuple[float, float]:
    """Return token F1 and exact match of an answer; declining counts as in SQuAD 2.0.

    Where nothing shown answers, declining has 1 and answering 0; elsewhere declining has 0
    (Rajpurkar et al. 2018).
    """
    if answer.declined or not answerable:
        right = float(answer.declined and not answerable)
        return right, right
    return token_f1(answer.text, references), exact_match(answer.text, references)


def exact_match(answer: str, references: Sequence[str]) -> float:
    """Return 1 where the answer's tokens are those of a reference, in order, else 0."""
    tokens = answer_tokens(answer)
    return float(any(tokens == answer_tokens(one) for one in references))


def _f1(found: list[str], wanted: list[str]) -> float:
    common = sum((Counter(found) & Counter(wanted)).values())
    return 2 * common / (len(found) + len(wanted)) if common else 0.0


def citation_precision(answer: Answer, relevant: Collection[int]) -> float:
    """Return the share of cited passages that answer; 0 where none is cited.

    Args:
        relevant: the numbers of the passages that answer, of which there is at least one.
    """
    cited = answer.cited
    return sum(number in relevant for number in cited) / len(cited) if cited else 0.0
