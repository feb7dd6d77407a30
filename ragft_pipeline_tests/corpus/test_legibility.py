from __future__ import annotations

import pytest

from ragft_pipeline.corpus.readers import SkippedDocument, read_document
from ragft_pipeline.corpus.readers.legibility import legibility
from ragft_pipeline.settings import CorpusSettings

GOOD = [
    "Die Größe der Düse beträgt 5 µm; Ω, α und x².",
    "USB接口和V型阀门，请先关闭电源。P20ポンプのお手入れ",
    "필터를 청소하기 전에 전원을 끄십시오.",
    "पंप का पानी बंद करें। ปิดวาล์วก่อนทำความสะอาด",
    "Перед чисткой фильтра. Πριν καθαρίσετε. קודם לכן סגור",
    "naïve café, Ǆungla, Việt Nam, şișe, Łódź",
]
GARBAGE = [
    "쟊엍뢦⃃ 쟏뗅 뿍뱾 쮊 쒯럁 쟼",
    "ɹɹং Θͨ͘͠ ɹɾʏং ʕɷ Ͱಥ ɶʢɱ ѩಓ ɹΑɹ ߦ͘ ʂʃ",
    "(cid:12)(cid:33)(cid:7)(cid:41) (cid:9)(cid:22)",
    "\ufffd\ufffd\ufffda \ue001\ue002\ue003 b",
]


@pytest.mark.parametrize("text", GOOD)
def test_texts_of_any_script_are_legible(text: str) -> None:
    assert (legibility(text).hopeless, legibility(text).doubt) == ("", "")


@pytest.mark.parametrize("text", GARBAGE)
def test_garbage_of_fonts_is_skipped_with_its_measure(text: str) -> None:
    with pytest.raises(SkippedDocument, match=r"its text is garbage: \d+%"):
        read_document("a.txt", text.encode(), CorpusSettings())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("The pump " * 30 + "\ufffd\ue001" * 4, "glyphs without a meaning"),
        ("Die GrÃ¶ÃŸe der DÃ¼se betrÃ¤gt fÃ¼nf Millimeter.", "mojibake"),
        ("Die Größe der Gr鲞e D黶e sowie betr鋑t heute noch", "mix scripts"),
    ],
)
def test_a_doubtful_text_is_read_with_a_warning(text: str, said: str) -> None:
    reading = read_document("a.txt", text.encode(), CorpusSettings())
    assert reading.text
    assert said in reading.warnings[0]
