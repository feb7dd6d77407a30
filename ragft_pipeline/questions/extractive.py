"""Extractive questions: claims, keywords and headings cut from the node; no model, any language.

Short claims and keyword bags, mixed, teach a retriever more than one kind alone (Tamber et al.
2025 report the same of generated queries).
"""

from __future__ import annotations

import re
from collections import Counter

from ragft_pipeline.questions.drafts import Draft, SourceNode
from ragft_pipeline.questions.sentences import sentence_spans
from ragft_pipeline.retrieval.lexical import TermStatistics, lexical_terms
from ragft_pipeline.settings import ExtractiveGenerator

EXTRACTIVE_VERSION = 1  # raise it when some node would get other questions
_UNSPACED = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")
_CLAUSE = re.compile(r"[^，。；：！？,;!?\n]+")
_MARKUP = re.compile(r"[#*`|>]+|^[-+]\s|^\d+[.)]\s")
_CJK_WINDOW = 20
_MIN_CJK = 8
_MIN_CLAIM, _MAX_CLAIM = 6, 60
_KEYWORDS, _KEYWORD_POOL = 4, 12
_SHORT_HEADING = 4


def extract_questions(
    node: SourceNode, settings: ExtractiveGenerator, statistics: TermStatistics
) -> list[Draft]:
    """Return a node's extractive questions: the same ones every time."""
    unspaced = len(_UNSPACED.findall(node.text)) > 0.2 * len(node.text)
    drafts = _unspaced_claims(node, settings) if unspaced else _claims(node, settings)
    if not unspaced:
        drafts += _keywords(node, settings, statistics)
    if settings.headings:
        drafts += _heading(node, settings)
    return drafts


def _claims(node: SourceNode, settings: ExtractiveGenerator) -> list[Draft]:
    sentences = []
    for start, end in sentence_spans(node.text):
        sentence = node.text[start:end]
        words = _MARKUP.sub(" ", sentence.strip()).split()
        if _MIN_CLAIM <= len(words) <= _MAX_CLAIM and " | " not in sentence:
            sentences.append((words, start, end))
    draw = node.random("claims")
    drafts = []
    for words, start, end in draw.sample(sentences, min(settings.claims, len(sentences))):
        window = words
        if len(words) > settings.max_words * 5 // 4:
            offset = draw.randrange(len(words) - settings.max_words + 1)
            window = words[offset : offset + settings.max_words]
        drafts.append(Draft(" ".join(window), "claim", start, end))
    return drafts


def _unspaced_claims(node: SourceNode, settings: ExtractiveGenerator) -> list[Draft]:
    clauses = [
        (match.group().strip(), match.start(), match.end())
        for match in _CLAUSE.finditer(node.text)
        if len(match.group().strip()) >= _MIN_CJK
    ]
    draw = node.random("claims")
    wanted = settings.claims + settings.keywords
    chosen = draw.sample(clauses, min(wanted, len(clauses)))
    return [Draft(text[:_CJK_WINDOW], "claim", start, end) for text, start, end in chosen]


def _keywords(
    node: SourceNode, settings: ExtractiveGenerator, statistics: TermStatistics
) -> list[Draft]:
    counts = Counter(term for term in lexical_terms(node.text) if not term.isdigit())
    ranked = sorted(counts, key=lambda term: (-counts[term] * statistics.idf(term), term))
    pool = ranked[:_KEYWORD_POOL]
    draw = node.random("keywords")
    return [
        Draft(" ".join(draw.sample(pool, _KEYWORDS)), "keywords", 0, len(node.text))
        for _ in range(settings.keywords)
        if len(pool) >= _KEYWORDS
    ]


def _heading(node: SourceNode, settings: ExtractiveGenerator) -> list[Draft]:
    heading = _MARKUP.sub(" ", node.heading).strip()
    if not heading and not node.first:
        return []
    if len(heading.split()) < _SHORT_HEADING and heading != node.title:
        heading = f"{node.title} {heading}".strip()
    words = heading.split()[: settings.max_words]
    return [Draft(" ".join(words), "heading", 0, len(node.text))] if words else []
