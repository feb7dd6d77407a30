from __future__ import annotations

import pytest

from ragft_pipeline.questions.drafts import SourceNode
from ragft_pipeline.questions.extractive import extract_questions
from ragft_pipeline.retrieval.lexical import TermStatistics, lexical_terms
from ragft_pipeline.settings import ExtractiveGenerator
from ragft_pipeline_tests.corpora import prose

TEXT = prose("node", 80)
CHINESE = "锅炉每年检修一次，由值班工程师负责安排。给水泵在六巴压力下自动启动，值班员必须记录压力。"
STATISTICS = TermStatistics.of([prose(n) for n in range(10)])
DEFAULTS = ExtractiveGenerator()


def node(text: str = TEXT, *, heading: str = "Feed pumps", first: bool = False) -> SourceNode:
    return SourceNode(f"id of {text[:9]}", text, "Plant manual", heading, first)


def test_the_same_node_gets_the_same_questions() -> None:
    assert extract_questions(node(), DEFAULTS, STATISTICS) == extract_questions(
        node(), DEFAULTS, STATISTICS
    )


def test_claims_and_headings_do_not_depend_on_the_corpus() -> None:
    left, right = (
        [d for d in extract_questions(node(), DEFAULTS, s) if d.kind != "keywords"]
        for s in (STATISTICS, TermStatistics.of(["other corpus"]))
    )
    assert left == right


def test_a_node_gets_the_questions_that_are_asked_for() -> None:
    settings = ExtractiveGenerator(claims=3, keywords=2)
    kinds = [draft.kind for draft in extract_questions(node(), settings, STATISTICS)]
    assert kinds == ["claim"] * 3 + ["keywords"] * 2 + ["heading"]
    none = ExtractiveGenerator(claims=0, keywords=0, headings=False)
    assert extract_questions(node(), none, STATISTICS) == []


@pytest.mark.parametrize("text", [TEXT, CHINESE, " ".join(["word"] * 300), "- a\n- b", "| a | b |"])
def test_answers_lie_in_the_node(text: str) -> None:
    for draft in extract_questions(node(text), DEFAULTS, STATISTICS):
        assert 0 <= draft.start < draft.end <= len(text)
        assert draft.question


def test_claims_are_words_of_their_span() -> None:
    settings = ExtractiveGenerator(claims=5, keywords=0, headings=False, max_words=6)
    for draft in extract_questions(node(), settings, STATISTICS):
        assert draft.question in " ".join(TEXT[draft.start : draft.end].split())
        assert len(draft.question.split()) == 6


def test_claims_carry_no_markup() -> None:
    text = "# Pumps\n\n- The **duty engineer** starts the `feed pump` at six bar.\n1. " + TEXT
    settings = ExtractiveGenerator(claims=9, keywords=0, headings=False)
    questions = [draft.question for draft in extract_questions(node(text), settings, STATISTICS)]
    assert "The duty engineer starts the feed pump at six bar." in questions
    assert not any(set(question) & set("#*`|") for question in questions)


def test_claims_have_the_text_of_links_and_no_tags() -> None:
    text = "The <b>duty</b> engineer reads [the log](http://a.example/log) at six in the morning."
    settings = ExtractiveGenerator(claims=1, keywords=0, headings=False)
    (draft,) = extract_questions(node(text), settings, STATISTICS)
    assert draft.question == "The duty engineer reads the log at six in the morning."


def test_keywords_are_terms_of_the_node_without_numbers() -> None:
    text = TEXT + " 1234 5678 9012"
    settings = ExtractiveGenerator(claims=0, keywords=3, headings=False)
    for draft in extract_questions(node(text), settings, STATISTICS):
        words = draft.question.split()
        assert len(words) == len(set(words)) == 4
        assert set(words) <= set(lexical_terms(TEXT))


def test_chinese_claims_are_clauses_of_the_text() -> None:
    settings = ExtractiveGenerator(claims=2, keywords=1, headings=False)
    drafts = extract_questions(node(CHINESE), settings, STATISTICS)
    assert [draft.kind for draft in drafts] == ["claim"] * 3
    for draft in drafts:
        assert draft.question in CHINESE[draft.start : draft.end]
        assert 8 <= len(draft.question) <= 20
        assert "，" not in draft.question


def test_claims_of_wrapped_lines_are_whole_sentences() -> None:
    text = "Before the strainer is cleaned, the operator\ncloses the inlet valve with both hands."
    settings = ExtractiveGenerator(claims=1, keywords=0, headings=False)
    (draft,) = extract_questions(node(text), settings, STATISTICS)
    assert draft.question == " ".join(text.split())
    assert (draft.start, draft.end) == (0, len(text))


def test_hindi_claims_end_with_their_sentence() -> None:
    text = "छलनी साफ करने से पहले पंप का स्विच बंद करें। ढक्कन खोलने से पहले दबाव को पूरी तरह निकाल दें।"
    settings = ExtractiveGenerator(claims=2, keywords=0, headings=False)
    questions = {draft.question for draft in extract_questions(node(text), settings, STATISTICS)}
    assert questions == {f"{sentence.strip()}।" for sentence in text.split("।") if sentence}


def test_thai_gets_claims_and_no_keywords() -> None:
    text = "ก่อนทำความสะอาดตะแกรงให้ปิดสวิตช์ไฟของปั๊มก่อน แล้วจึงเปิดฝาครอบออกอย่างระมัดระวัง"
    settings = ExtractiveGenerator(claims=1, keywords=1, headings=False)
    drafts = extract_questions(node(text), settings, STATISTICS)
    assert [draft.kind for draft in drafts] == ["claim"] * 2
    assert all(draft.question in text and len(draft.question) > 15 for draft in drafts)


def test_keywords_are_whole_words() -> None:
    text = "पंप का बिजली स्विच बंद करें और छलनी साफ करें"
    settings = ExtractiveGenerator(claims=0, keywords=1, headings=False)
    for draft in extract_questions(node(text), settings, STATISTICS):
        assert set(draft.question.split()) <= set(text.split())


@pytest.mark.parametrize(
    ("heading", "first", "question"),
    [
        ("Feed pumps", False, "Plant manual Feed pumps"),
        ("Starting the feed pump again", False, "Starting the feed pump again"),
        ("Plant manual", True, "Plant manual"),
        ("", True, "Plant manual"),
        ("", False, None),
    ],
)
def test_a_short_heading_is_asked_with_its_title(
    heading: str, first: bool, question: str | None
) -> None:
    settings = ExtractiveGenerator(claims=0, keywords=0)
    drafts = extract_questions(node(heading=heading, first=first), settings, STATISTICS)
    assert [draft.question for draft in drafts] == ([question] if question else [])


@pytest.mark.parametrize("text", ["Short.", "| a | b |\n| 1 | 2 |", "1234", "。。。", "- x"])
def test_a_node_with_too_little_in_it_gets_no_claims(text: str) -> None:
    settings = ExtractiveGenerator(headings=False)
    assert extract_questions(node(text), settings, STATISTICS) == []
