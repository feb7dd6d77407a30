from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragft_pipeline.corpus.matching import MatchedText

PAGE = """# Setup of the pump

The **maximum pressure** is *six bar*, and it must never be exceeded. Don't open the lid.

Use `--fast`, see [the manual](https://example.org/m "Manual") for “details”; it’s black – and soft.

> Note: an ob-
servation of the non-
breaking kind. Café, ﬁlter, Größe, Ｐ２０.

| Model | Flow     |
|:------|---------:|
| P10   | 20 l/min |

锅炉每年检修
一次。 ปั๊มน้ำ
"""
TEXT = MatchedText(unicodedata.normalize("NFC", PAGE))


@pytest.mark.parametrize(
    ("answer", "span"),
    [
        ("it  must\nnever be exceeded!", "it must never be exceeded"),
        ("“Don’t open the lid”", "Don't open the lid"),
        ("maximum pressure is six bar", "maximum pressure** is *six bar"),
        ("**six** bar", "six bar"),
        ("Use --fast, see the manual for details", None),
        ("it's black - and soft", "it’s black – and soft"),
        ("THE MANUAL", "the manual"),
        ("an observation of the nonbreaking kind", "an ob-\nservation of the non-\nbreaking kind"),
        (unicodedata.normalize("NFD", "Café"), "Café"),
        ("filter, GRÖSSE, P20", "ﬁlter, Größe, Ｐ２０"),
        ("P10 20 l/min", "P10   | 20 l/min"),
        ("Model Flow P10", None),
        ("每年检修一次", "每年检修\n一次"),
        ("น้ำ", "น้ำ"),
        ("https://example.org/m", "https://example.org/m"),
        ("maximum pressure … must never", "maximum pressure** is *six bar*, and it must never"),
        ("maximum [...] lid", None),
        ("# Setup of the pump", "Setup of the pump"),
    ],
)
def test_an_answer_is_found_however_it_was_typed(answer: str, span: str | None) -> None:
    found = [TEXT.text[start:end] for start, end in TEXT.find(answer)]
    assert len(found) == 1
    assert span is None or found == [span]


@pytest.mark.parametrize(
    "answer", ["", " ", "?!", "“”", "*", "at most seven bar", "lid … pressure", "…", "not ... here"]
)
def test_what_is_not_there_is_not_found(answer: str) -> None:
    assert TEXT.find(answer) == []


def found(text: str, answer: str, start: int | None = None) -> list[tuple[int, int]]:
    return MatchedText(text).find(answer, start)


def test_all_occurrences_are_found_or_the_one_nearest_to_a_start() -> None:
    text = "six bar, then *six* bar, then six\nbar"
    assert [text[a:b] for a, b in found(text, "six bar")] == ["six bar", "six* bar", "six\nbar"]
    assert found(text, "six bar", 16) == [(15, 23)]
    assert found(text, "six bar", 10**30) == [(30, 37)]


def test_whole_words_are_preferred_and_numbers_never_cut() -> None:
    assert found("party art", "art") == [(6, 9)]
    assert found("Betriebsdruck", "Druck") == [(8, 13)]
    assert found("16 bar, 0.6 bar, 1,6 bar", "6 bar") == []
    assert found("6.5 bar", "6") == []
    assert found("5-6 bar", "56 bar") == []
    assert found("56 bar", "5-6 bar") == []
    assert found("5 – 6 bar", "5-6 bar") == [(0, 9)]


WORDS = st.lists(st.text("abcéñß水", min_size=2, max_size=6), min_size=1, max_size=5)
BREAKS = st.sampled_from([" ", "\n", " **", "** ", "*\n*", " – ", "-\n", "\n| ", " “", "_ `"])


@settings(max_examples=40)
@given(WORDS, st.data())
def test_breaks_marks_and_quotes_between_words_hide_no_answer(
    words: list[str], data: st.DataObject
) -> None:
    shown = "".join(part for word in words for part in (word, data.draw(BREAKS))).rstrip()
    text = unicodedata.normalize("NFC", f"Before. {shown} After.")
    for answer in (" ".join(words), unicodedata.normalize("NFD", " ".join(words)).upper()):
        spans = found(text, answer)
        assert spans
        assert all(0 <= start < end <= len(text) for start, end in spans)


def test_time_is_linear_in_the_text() -> None:
    text = "](" * 50_000 + "| - " * 50_000 + "- " * 50_000 + "# " * 50_000 + " six bar"
    assert len(found(text, "six bar")) == 1
