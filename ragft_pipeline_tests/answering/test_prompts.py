from __future__ import annotations

import pytest

from ragft_pipeline.answering.measures import citation_precision, exact_match, token_f1
from ragft_pipeline.answering.prompts import passages_chat, quoted, read_answer

DECLINE = "The passages do not say."


def test_a_quoted_answer_reads_back_as_it_was_written() -> None:
    answer = read_answer(quoted("Close the  valve\nfirst.", 2), DECLINE)
    assert answer.claims == (("Close the valve first.", (2,)),)
    assert answer.text == "Close the valve first."
    assert answer.cited == (2,)
    assert not answer.declined


@pytest.mark.parametrize(
    ("reply", "claims"),
    [
        ("Close it. Then wait. [1]", (("Close it.", (1,)), ("Then wait.", (1,)))),
        ("Close it [1][3].", (("Close it", (1, 3)),)),
        ("Close it [1, 3]", (("Close it", (1, 3)),)),
        ("Close it.", (("Close it.", ()),)),
        ("", ()),
        ("[2]", (("", (2,)),)),
        ("阀门关闭。[1]", (("阀门关闭。", (1,)),)),
        ("<think>[7] hm</think>Close it. [1]", (("Close it.", (1,)),)),
    ],
)
def test_citations_belong_to_the_sentences_before_them(
    reply: str, claims: tuple[tuple[str, tuple[int, ...]], ...]
) -> None:
    assert read_answer(reply, DECLINE).claims == claims


@pytest.mark.parametrize("reply", ["The passages do not say.", "the passages do not\nsay"])
def test_declining_is_recognised(reply: str) -> None:
    assert read_answer(reply, DECLINE).declined


def test_a_chat_numbers_its_passages() -> None:
    chat = passages_chat("why?", ["one", "two"], DECLINE)
    assert chat[1]["content"] == "[1] one\n\n[2] two\n\nQuestion: why?"
    assert DECLINE in chat[0]["content"]


def test_token_f1_is_squads() -> None:
    assert token_f1("the cat sat", ["A cat sat!"]) == 1.0
    assert token_f1("cat", ["cat sat", "dog"]) == pytest.approx(2 / 3)
    assert token_f1("", ["cat"]) == 0.0
    assert token_f1("阀门", ["阀门关"]) == pytest.approx(0.8)
    assert exact_match("The cat", ["cat"]) == 1.0
    assert exact_match("cat sat", ["sat cat"]) == 0.0


def test_citation_precision_counts_wrong_and_missing_citations() -> None:
    relevant = (2,)
    assert citation_precision(read_answer("x [2]", DECLINE), relevant) == 1.0
    assert citation_precision(read_answer("x [1][2]", DECLINE), relevant) == 0.5
    assert citation_precision(read_answer("x", DECLINE), relevant) == 0.0
    assert citation_precision(read_answer("x [9]", DECLINE), relevant) == 0.0
