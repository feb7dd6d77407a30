"""Extractive questions: claims, keywords and headings cut from the node; no model, any language.

Short claims and keyword bags, mixed, teach a retriever more than one kind alone (Tamber et al.
2025 report the same of generated queries).
"""

from __future__ import annotations

import re

import regex

from ragft_pipeline.corpus.sentences import SOUTH_EAST_ASIAN, UNSPACED, sentence_spans
from ragft_pipeline.questions.drafts import Draft, SourceNode
from ragft_pipeline.retrieval.lexical import TermStatistics, key_words
from ragft_pipeline.settings import ExtractiveGenerator

EXTRACTIVE_VERSION = 3  # raise it when some node would get other questions
_UNSPACED = re.compile(f"[{UNSPACED}]")
_CLAUSE = re.compile(r"[^，。；：！？,;!?]+")
_BREAK = re.compile(r"\s*\n\s*")
_LINK = re.compile(r"!?\[([^\[\]]*)\]\([^()\s]*\)")
_MARKUP = re.compile(r"</?[a-zA-Z][^<>]*>|[#*`|>]+|^[-+]\s|^\d+[.)]\s")
# At most 20 letters with their marks of a Chinese or Japanese clause, 60 of a Thai one.
_WINDOW = regex.compile(rf"(?:[{SOUTH_EAST_ASIAN}]\X?\X?|\X){{1,20}}")
_MIN_UNSPACED = 8  # characters
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


def _unmarked(text: str) -> str:
    """Return Markdown as words: without marks and tags, of a link its text."""
    return _MARKUP.sub(" ", _LINK.sub(r"\1", text.strip())).strip()


def _claims(node: SourceNode, settings: ExtractiveGenerator) -> list[Draft]:
    sentences = []
    for start, end in sentence_spans(node.text):
        sentence = node.text[start:end]
        words = _unmarked(sentence).split()
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
    clauses = []
    for start, end in sentence_spans(node.text):
        for match in _CLAUSE.finditer(node.text, start, end):
            clause = _unmarked(_BREAK.sub("", match.group()))
            if len(clause) >= _MIN_UNSPACED and not match.group().startswith("#"):
                clauses.append((clause, match.start(), match.end()))
    draw = node.random("claims")
    wanted = settings.claims + settings.keywords
    chosen = draw.sample(clauses, min(wanted, len(clauses)))
    return [Draft(_WINDOW.match(text)[0], "claim", start, end) for text, start, end in chosen]


def _keywords(
    node: SourceNode, settings: ExtractiveGenerator, statistics: TermStatistics
) -> list[Draft]:
    """Draw from the node's most telling words, as they stand in it."""
    words = key_words([node.text], statistics)
    pool = [word for word in words if not _UNSPACED.search(word)][:_KEYWORD_POOL]
    draw = node.random("keywords")
    return [
        Draft(" ".join(draw.sample(pool, _KEYWORDS)), "keywords", 0, len(node.text))
        for _ in range(settings.keywords)
        if len(pool) >= _KEYWORDS
    ]


def _heading(node: SourceNode, settings: ExtractiveGenerator) -> list[Draft]:
    heading = _unmarked(node.heading)
    if not heading and not node.first:
        return []
    if len(heading.split()) < _SHORT_HEADING and heading != node.title:
        heading = f"{node.title} {heading}".strip()
    words = heading.split()[: settings.max_words]
    return [Draft(" ".join(words), "heading", 0, len(node.text))] if words else []
