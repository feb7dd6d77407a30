from __future__ import annotations

import pytest

from ragft_pipeline.corpus.readers import Reading, SkippedDocument, read_document
from ragft_pipeline.corpus.readers.decoding import declared_in, decode
from ragft_pipeline.settings import CorpusSettings

CHINESE = "锅炉每年检修一次，清洗滤网之前请关闭电源。"
TEXTS = {
    "cp1252": "Die Größe der Düse beträgt fünf Millimeter – „Öffnen Sie“ das Gehäuse.",
    "latin-1": "Le café est prêt à être servi, côté élevé.",
    "shift_jis": "ポンプの手引き。洗浄の前に電源を切ってください。",
    "euc_jp": "ポンプの手引き。洗浄の前に電源を切ってください。",
    "gb18030": CHINESE,
    "big5": "清洗濾網之前請關閉電源並打開蓋子。",
    "euc_kr": "필터를 청소하기 전에 전원을 끄십시오.",
    "cp1251": "Перед чисткой фильтра закройте впускной клапан.",
    "koi8-r": "Перед чисткой фильтра закройте впускной клапан.",
    "cp1250": "Przed czyszczeniem filtra zamknij zawór wlotowy, źdźbło.",
    "cp1253": "Πριν καθαρίσετε το φίλτρο, κλείστε τη βαλβίδα.",
}
MANY = ("utf-8", "gb18030", "shift_jis", "big5", "windows-1252")


def read(name: str, data: bytes, *encodings: str) -> Reading:
    settings = CorpusSettings(encodings=encodings or ("utf-8",))
    return read_document(name, data, settings)


@pytest.mark.parametrize("mark", ["utf-16", "utf-8-sig", "utf-32"])
def test_a_byte_order_mark_says_the_encoding(mark: str) -> None:
    assert read("a.txt", f"Öl {CHINESE}".encode(mark)) == Reading(f"Öl {CHINESE}")


@pytest.mark.parametrize("name", ["utf-16-le", "utf-16-be"])
def test_utf16_without_a_mark_is_seen_by_its_zeros(name: str) -> None:
    assert read("a.txt", "The valve opens at 6 bar.".encode(name)).text.startswith("The valve")


@pytest.mark.parametrize("encoding", TEXTS)
def test_an_undeclared_encoding_is_guessed_and_the_doubt_is_said(encoding: str) -> None:
    reading = read("a.txt", TEXTS[encoding].encode(encoding))
    assert reading.text == TEXTS[encoding]
    assert "its encoding is not declared" in reading.warnings[0]
    assert "corpus.encodings" in reading.warnings[0]


@pytest.mark.parametrize("encoding", ["cp1252", "shift_jis", "gb18030", "big5"])
def test_of_the_encodings_that_are_named_the_likeliest_is_taken(encoding: str) -> None:
    assert read("a.txt", TEXTS[encoding].encode(encoding), *MANY) == Reading(TEXTS[encoding])


def test_an_encoding_outside_of_those_named_is_doubted() -> None:
    reading = read("a.txt", TEXTS["euc_kr"].encode("euc_kr"), "utf-8", "gb2312")
    assert reading.text == TEXTS["euc_kr"]
    assert "is none of corpus.encodings" in reading.warnings[0]


@pytest.mark.parametrize("encoding", ["gbk", "shift_jis", "windows-1252", "big5"])
@pytest.mark.parametrize(
    "head",
    ['<meta charset="{}">', "<meta http-equiv=Content-Type content='text/html; charset={}'>"],
)
def test_a_page_is_decoded_as_it_declares(encoding: str, head: str) -> None:
    own = {"gbk": "gb18030", "windows-1252": "cp1252"}.get(encoding, encoding)
    page = f"<html><head>{head.format(encoding)}</head><body><p>{TEXTS[own]}".encode(own)
    assert read("a.html", page) == Reading(TEXTS[own])


def test_xhtml_is_decoded_as_its_declaration_says() -> None:
    page = '<?xml version="1.0" encoding="ISO-8859-2"?><html><body><p>źdźbło</p></body></html>'
    assert read("a.xhtml", page.encode("iso-8859-2")).text == "źdźbło"


def test_valid_utf8_is_utf8_whatever_is_declared() -> None:
    page = f'<meta charset="iso-8859-1"><p>{CHINESE} Öl</p>'.encode()
    assert read("a.html", page).text == f"{CHINESE} Öl"
    utf16 = '<html><head><meta charset="utf-16"></head><p>Öl</p></html>'
    assert read("a.html", utf16.encode()).text == "Öl"


def test_one_nul_is_a_blank_and_many_are_no_text() -> None:
    assert read("a.log.txt", b"A log with a NUL\x00byte in good text").text == (
        "A log with a NUL byte in good text"
    )
    with pytest.raises(SkippedDocument, match="binary data, not text"):
        decode(b"\x7fELF\x00\x00\x01\x00\x00\x02" * 9, ("utf-8",))


def test_a_declaration_is_sought_at_the_start_only() -> None:
    assert declared_in(b'<meta charset="gbk">') == "gbk"
    assert declared_in(b" " * 5000 + b'<meta charset="gbk">') is None
    assert declared_in(b"<meta charset=klingon>") == "klingon"
    assert decode(b"plain", ("utf-8",), "klingon").text == "plain"


def test_japanese_in_seven_bits_is_no_ascii() -> None:
    assert decode("ポンプの手引き".encode("iso2022_jp"), ("utf-8",)).text == "ポンプの手引き"


def test_of_few_letters_the_common_encoding_is_likelier_than_an_old_one() -> None:
    data = "Größe;Preis\r\n1,5;2.300,00 €\r\n".encode("cp1252")
    assert decode(data, ("utf-8",)).text.startswith("Größe;Preis")
