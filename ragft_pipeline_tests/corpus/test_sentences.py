from __future__ import annotations

import pytest

from ragft_pipeline.corpus.sentences import sentence_spans

WRAPPED = """\
Before the strainer is cleaned, the operator
closes the inlet valve, waits until the gauge shows zero and only then
lifts the lid. The gasket between the lid
and the housing is replaced whenever it has become hard.
"""


def sentences(text: str) -> list[str]:
    return [" ".join(text[start:end].split()) for start, end in sentence_spans(text)]


def test_the_break_of_a_wrapped_line_ends_no_sentence() -> None:
    assert sentences(WRAPPED) == [
        "Before the strainer is cleaned, the operator closes the inlet valve, "
        "waits until the gauge shows zero and only then lifts the lid.",
        "The gasket between the lid and the housing is replaced whenever it has become hard.",
    ]
    assert (
        len(
            sentences(
                "锅炉每年检修一次，由值班工程师负责，给水泵在六巴压力\n下自动启动，每天两次。"
            )
        )
        == 1
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("पंप बंद करें। ढक्कन खोलें॥फिर", ["पंप बंद करें।", "ढक्कन खोलें॥", "फिर"]),
        ("متى تنظف؟ بعد الشتاء.", ["متى تنظف؟", "بعد الشتاء."]),
        ("每年检修一次。谁启动？我们！", ["每年检修一次。", "谁启动？", "我们！"]),
        ("ให้ปิดสวิตช์ไฟของปั๊มก่อน แล้วจึงเปิดฝาครอบออก", ["ให้ปิดสวิตช์ไฟของปั๊มก่อน", "แล้วจึงเปิดฝาครอบออก"]),
        ("ពណ៌ស។ ក្រហម", ["ពណ៌ស។", "ក្រហម"]),
        ('He said "Stop!" Then 3.5 mm, a.b, e.g. the Dr. Who note, Fig. 3. Why?! Yes',
         ['He said "Stop!"', "Then 3.5 mm, a.b, e.g. the Dr. Who note, Fig. 3.", "Why?!", "Yes"]),
        ("The answer is no. Der Wert z. B. ist 5.", ["The answer is no.", "Der Wert z. B. ist 5."]),
    ],
)  # fmt: skip
def test_sentences_end_as_their_script_has_it(text: str, expected: list[str]) -> None:
    assert sentences(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "# A heading of one line that is long enough to be wrapped\nText of the paragraph below it",
        "- The first item of a list, long enough to be wrapped\n- The second item of it",
        "1. The first item of a list, long enough to be wrapped\n2. The second item of it",
        "| a cell that is long enough to be wrapped | another |\n| the second row of it | here |",
        "a cell that is long enough to be wrapped | another\nthe second row of it | here",
        "Pump A: 10 bar\nPump B: 12 bar",
        "A short line\nThen a line that is very much longer and not broken at the margin",
        "A paragraph that goes on for some time and then\n\nanother one, with a small letter",
    ],
)
def test_what_is_no_running_text_stands_for_itself(text: str) -> None:
    assert len(sentences(text)) == 2


def test_lines_of_code_are_not_joined() -> None:
    text = "```sh\nrun the tool with all of its options --one --two\nand again\n```\n\nText."
    assert len(sentences(text)) == 5


@pytest.mark.parametrize("text", ["", " \n ", "." * 3, "a. " * 3, "```", "~~~\nx"])
def test_spans_lie_in_their_order_and_miss_nothing(text: str) -> None:
    spans = sentence_spans(text)
    assert spans == sorted(spans)
    assert "".join("".join(sentences(text)).split()) == "".join(text.split())
