"""Filters: which drafts become QA pairs. Each says by name what it turned away."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import regex

from ragft_pipeline.corpus.sentences import SOUTH_EAST_ASIAN, UNSPACED
from ragft_pipeline.questions.drafts import IMPORTED, Draft
from ragft_pipeline.retrieval.lexical import lexical_terms
from ragft_pipeline.settings import QuestionSettings

_DEICTIC = re.compile(
    r"\b(?:this|the|these|above|provided|given|following|preceding)\s+"
    r"(?:passage|text|document|context|paragraph|section|excerpt|article|author|statement|"
    r"information\s+(?:above|below|provided|given))\b|\b(?:mentioned|described|stated)\s+"
    r"(?:above|below|here|in\s+the)\b|(?:本文|上文|这段|该段|文中|上述|以上内容|根据文章)",
    re.IGNORECASE,
)
_POINTED_AT = (  # one of them stands in whatever `_DEICTIC` finds
    "passage", "text", "document", "paragraph", "section", "excerpt", "article", "author",
    "statement", "information", "mentioned", "described", "stated", "文", "段", "上述", "以上内容",
)  # fmt: skip
_UNSPACED = regex.compile(f"[{UNSPACED}]")
# regex's \w has the vowel signs of Indian scripts, which re's has not
_WORD, _BETWEEN_WORDS, _OF_WORDS = map(regex.compile, (r"\w+", r"\W+", r"[\w\s]"))
_LETTERS_A_WORD = (
    (regex.compile(rf"(?V1)[{UNSPACED}--[{SOUTH_EAST_ASIAN}]]"), 2),
    (regex.compile(rf"(?V1)[{SOUTH_EAST_ASIAN}--\p{{M}}]"), 3),
)
_ASCII_WORD, _ASCII_OTHER = re.compile(r"\w+"), re.compile(r"[^\w\s]")
_GENERATED = ("llm",)
_ANYWHERE = ""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A draft with the node it was written about."""

    question_id: str
    node_id: str
    generator: str
    draft: Draft


def word_count(text: str) -> float:
    """Return the words of a text; of unspaced scripts 2 characters, or 3 Thai letters, are one."""
    if text.isascii():  # as below, in a fifth of the time
        return len(_ASCII_WORD.findall(text))
    spaced = len(_WORD.findall(_UNSPACED.sub(" ", text)))
    return spaced + sum(len(letter.findall(text)) / number for letter, number in _LETTERS_A_WORD)


def malformed(question: str, settings: QuestionSettings) -> bool:
    """Say whether a question is too short, too long, or not made of words."""
    if question.isascii():
        letters = len(question) - len(_ASCII_OTHER.findall(question))
    else:
        letters = len(_OF_WORDS.findall(question))
    count = word_count(question)
    return not settings.min_words <= count <= settings.max_words or letters < 0.7 * len(question)


def deictic(question: str) -> bool:
    """Say whether a question points at the passage it was written from ("this passage")."""
    lower = question.lower()  # looked through in a sixth of the time
    return any(word in lower for word in _POINTED_AT) and bool(_DEICTIC.search(question))


def grounding(question: str, text: str) -> float:
    """Return the share of the question's terms that stand in the text, by their first 5 letters."""
    stems = {term[:5] for term in lexical_terms(text)}
    terms = [term[:5] for term in lexical_terms(question)]
    return sum(term in stems for term in terms) / len(terms) if terms else 0.0


def filter_candidates(
    candidates: Sequence[Candidate],
    texts: Mapping[str, str],
    settings: QuestionSettings,
    ranks: Callable[[Sequence[Candidate]], np.ndarray],
) -> tuple[list[Candidate], dict[str, int]]:
    """Return the candidates that pass, and how many each filter turned away.

    Of more candidates than `max_pairs` can use, some are not searched: they count as that.

    Args:
        candidates: drafts in a fixed order; of two equal questions the first stays, but an imported
            one is asked of each of its nodes.
        texts: node id to text.
        ranks: the rank, from 0, of each candidate's source when its question is searched.
    """
    turned_away = dict.fromkeys(("malformed", "deictic", "ungrounded", "duplicate"), 0)
    kept: list[Candidate] = []
    seen: dict[str, set[str]] = {}
    for candidate in candidates:
        question = candidate.draft.question
        plain = _BETWEEN_WORDS.sub(" ", question.lower()).strip()
        generated = candidate.draft.kind in _GENERATED
        imported = candidate.draft.kind == IMPORTED
        place = candidate.node_id if imported else _ANYWHERE
        if malformed(question, settings):
            turned_away["malformed"] += 1
        elif deictic(question):
            turned_away["deictic"] += 1
        elif generated and grounding(question, texts[candidate.node_id]) < settings.min_grounding:
            turned_away["ungrounded"] += 1
        elif plain in seen and not (imported and seen[plain].isdisjoint({place, _ANYWHERE})):
            turned_away["duplicate"] += 1
        else:
            seen.setdefault(plain, set()).add(place)
            kept.append(candidate)
    if settings.round_trip_top_k and kept:
        kept, turned_away["round_trip"], turned_away["over_max_pairs"] = _found_again(
            kept, settings, ranks
        )
    return kept, turned_away


def _found_again(
    candidates: list[Candidate],
    settings: QuestionSettings,
    ranks: Callable[[Sequence[Candidate]], np.ndarray],
) -> tuple[list[Candidate], int, int]:
    """Return the candidates whose source is found, how many were not, and how many not searched.

    Searching costs (candidates x nodes), so of very many those that would be taken first, by
    their hashes, are searched first, and no more once there are `max_pairs`.
    """
    at_once = 2 * settings.max_pairs
    if len(candidates) > at_once:
        candidates = sorted(candidates, key=lambda candidate: candidate.question_id)
    kept: list[Candidate] = []
    searched = 0
    while searched < len(candidates) and len(kept) < settings.max_pairs:
        batch = candidates[searched : searched + at_once]
        found = ranks(batch) < settings.round_trip_top_k
        kept += [candidate for candidate, hit in zip(batch, found) if hit]
        searched += len(batch)
    return kept, searched - len(kept), len(candidates) - searched
