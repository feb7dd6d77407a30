"""Words of every script, languages and stems."""

from __future__ import annotations

import pytest
import Stemmer

from ragft_pipeline.retrieval.lexical import LexicalIndex, TermStatistics, key_words
from ragft_pipeline.retrieval.words import language_of, lexical_terms, stemmers, words_of

GERMAN = "Die Pumpen der Anlage werden jedes Jahr von dem Wart gereinigt."
ENGLISH = "The pumps of the plant are cleaned by the warden in every year."


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("पंप का पानी", ["पंप", "का", "पानी"]),
        ("தண்ணீர் பம்ப்", ["தண்ணீர்", "பம்ப்"]),
        ("ปั๊มน้ำ", ["ปั", "ั๊", "๊ม", "มน", "น้", "้ำ"]),
        ("cafe\u0301 bar", ["café", "bar"]),
        ("CHP锅炉2号", ["chp", "锅炉", "号"]),
    ],
)
def test_words_keep_their_marks(text: str, words: list[str]) -> None:
    assert words_of(text) == words


@pytest.mark.parametrize(
    ("text", "language"),
    [
        (ENGLISH, "english"),
        (GERMAN, "german"),
        ("Насос был очищен и не работает.", "russian"),
        ("पंप का पानी", "hindi"),
        ("锅炉每年检修一次", ""),
        ("MODE=0x1F, P20; 12 kg", ""),
    ],
)
def test_a_text_tells_its_own_language(text: str, language: str) -> None:
    assert language_of(text) == language
    assert language_of(text, "off") == ""
    assert language_of(text, "danish") == "danish"


def test_forms_of_a_word_meet_in_whichever_language() -> None:
    index = LexicalIndex([ENGLISH, GERMAN, "MODE=0x1F connections"])
    assert index.scores(["pumping"])[0].argmax() == 0
    assert index.scores(["Anlagen"])[0].argmax() == 1
    assert index.scores(["connections"])[0].argmax() == 2  # a text of no language: as it stands
    off = LexicalIndex([ENGLISH, GERMAN], language="off")
    assert not off.scores(["pumping", "Anlagen"]).any()


def test_a_text_has_the_same_terms_in_any_company() -> None:
    alone, among = LexicalIndex([ENGLISH]), LexicalIndex([GERMAN, ENGLISH])
    assert lexical_terms(ENGLISH, alone.languages[0]) == lexical_terms(ENGLISH, among.languages[1])


def test_key_words_are_shown_as_they_stand() -> None:
    statistics = TermStatistics.of([ENGLISH, "The boilers of the plant are old."])
    assert {"pumps", "cleaned"} <= set(key_words([ENGLISH], statistics)[:5])


@pytest.mark.parametrize("language", stemmers())
def test_words_of_unspaced_scripts_have_no_endings_in_any_language(language: str) -> None:
    words = words_of("锅炉检修さくらやまสวัสดีครับမြန်မာភាសាខ្មែรລາວ カタカナ")
    assert lexical_terms([*words, "pumps"], language)[:-1] == words
    assert Stemmer.Stemmer(language).stemWords(words) == words
    assert lexical_terms(["pumps", *words], language)[0] == lexical_terms("pumps", language)[0]
