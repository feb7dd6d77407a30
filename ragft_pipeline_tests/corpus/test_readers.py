from __future__ import annotations

import contextlib
import io
import random
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragft_pipeline.corpus.readers import SkippedDocument, normalise, read_text
from ragft_pipeline.settings import CorpusSettings
from ragft_pipeline_tests.corpora import docx_bytes, encrypted_pdf_bytes, pdf_bytes

DEFAULTS = CorpusSettings()
CHINESE = "锅炉每年检修一次。"


def read(name: str, data: bytes, **settings: object) -> str:
    return read_text(name, data, CorpusSettings.model_validate(settings))


def reason(name: str, data: bytes, **settings: object) -> str:
    with pytest.raises(SkippedDocument) as caught:
        read(name, data, **settings)
    return str(caught.value)


def zip_bytes(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def test_a_pdf_gives_its_text() -> None:
    assert "Valve V-12 opens" in read("a.pdf", pdf_bytes("Valve V-12 opens\nat 6 bar"))


def test_a_word_document_gives_its_text() -> None:
    text = read("a.docx", docx_bytes(f"Valve V-12 opens\n{CHINESE}"))
    assert text.split("\n\n") == ["Valve V-12 opens", CHINESE]


def test_a_suffix_in_capitals_is_read_alike() -> None:
    assert read("A.PDF", pdf_bytes("Valve V-12")) == "Valve V-12"


def test_a_pdf_encrypted_without_a_password_is_read() -> None:
    assert "Valve V-12" in read("a.pdf", encrypted_pdf_bytes("Valve V-12", ""))


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("a.md", b"", "empty file"),
        ("a.pdf", b" \n\t ", "empty file"),
        ("a.md", "\ufeff\n".encode(), "no text"),
        ("a.html", b"<html><script>1</script></html>", "no text"),
        ("a.pdf", pdf_bytes(""), "no text"),
        ("a.pdf", encrypted_pdf_bytes("secret", "pass"), "an encrypted PDF"),
        ("a.pdf", b"%PDF-1.4 nothing more", "an unreadable PDF"),
        ("a.pdf", pdf_bytes("Valve")[:300], "PDF"),
        ("a.docx", b"not a zip", "not a .docx file"),
        ("a.docx", zip_bytes({"other.txt": b"x"}), "cannot be read"),
        ("a.txt", b"\xff\xfeab\x00", "byte-order mark"),
        ("a.txt", b"GIF89a\x00\x01\x02\x03", "binary data, not text"),
    ],
)
def test_what_cannot_be_read_is_skipped_with_a_reason(name: str, data: bytes, said: str) -> None:
    message = reason(name, data)
    assert said in message
    assert "\n" not in message
    assert "/tmp" not in message


def test_what_is_embedded_in_a_page_is_no_text() -> None:
    image = "data:image/png;base64," + "iVBORw0KGgo" * 40 + "=="
    page = f"Wiring\n\n![diagram]({image}) <img src='{image}'> is data: nothing"
    text = read("a.md", page.encode())
    assert text == "Wiring\n\n![diagram]() <img src=''> is data: nothing"


def test_a_zip_bomb_is_not_unpacked() -> None:
    bomb = zip_bytes({"word/document.xml": b"<" * 120_000_000})
    assert len(bomb) < 200_000
    assert reason("a.docx", bomb) == "unpacks to 120 MB"
    assert reason("a.epub", bomb) == "unpacks to 120 MB"


def test_a_text_over_the_limit_is_skipped() -> None:
    assert "corpus.max_text_mb (0.001)" in reason("a.txt", b"word " * 300, max_text_mb=0.001)
    assert len(read("a.txt", b"word " * 100, max_text_mb=0.001)) == 499


@pytest.mark.parametrize("suffix", [".pdf", ".docx", ".html"])
def test_damaged_bytes_never_raise_another_error(suffix: str) -> None:
    whole = {
        ".pdf": pdf_bytes("Valve V-12 opens at 6 bar"),
        ".docx": docx_bytes("Valve V-12 opens at 6 bar"),
        ".html": b"<html><head><title>T</title></head><body><h1>V</h1><ul><li>x</ul></body>" * 3,
    }[suffix]
    draw = random.Random(suffix)
    for _ in range(25):
        data = bytearray(whole)
        for _ in range(draw.randrange(1, 40)):
            data[draw.randrange(len(data))] = draw.randrange(256)
        del data[draw.randrange(len(data) // 2, len(data) + 1) :]
        with contextlib.suppress(SkippedDocument):
            assert read(f"a{suffix}", bytes(data))


@pytest.mark.parametrize(
    "variant",
    [
        "Öl\r\n\r\nzwei",
        "Öl\r\rzwei",
        "\ufeffÖl \t\n\n\n\n\nzwei\n\n",
        "O\u0308l\u00a0\n\nzwei\u3000",
        "Ö\x00l\n\nzwei\x0b",
        "Ö\u00adl\x0c\nzw\u200bei",
        "\x1b[31mÖl\x1b[0m\u2029zwei",
        "\n\nÖl\n \n\t\nzwei",
    ],
)
def test_white_space_and_encoding_variants_normalise_alike(variant: str) -> None:
    assert normalise(variant) == "Öl\n\nzwei"


@given(st.text(st.characters(), max_size=60))
def test_normalised_text_is_clean_and_encodable(text: str) -> None:
    clean = normalise(text)
    assert clean.encode().decode() == clean
    assert not set(clean) & {"\r", "\x00", "\ufeff"}
    assert "\n\n\n" not in clean
    assert all(line == line.rstrip(" \t") for line in clean.split("\n"))


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("con\u00adfig\u00adu\u00adration", "configuration"),
        ("con\ufb01guration \ufb02ow", "configuration flow"),
        ("Ｐ２０，ｶﾞｽ", "P20，ガス"),
        ("5\u00a0km non\u2011breaking", "5 km non-breaking"),
        ("Page one.\x0cPage two.", "Page one.\nPage two."),
        ("word\x0bword\u2028line", "word\nword\nline"),
        ("x² ½ ﷺ", "x² ½ ﷺ"),
    ],
)
def test_variants_of_letters_become_the_plain_ones(written: str, meant: str) -> None:
    assert normalise(written) == meant


def test_a_long_run_of_blanks_takes_no_time() -> None:
    assert len(normalise("a" + " " * 2_000_000 + "b")) == 2_000_002


def test_a_pdf_that_maps_glyphs_to_lone_surrogates_is_read() -> None:
    text = read("a.pdf", surrogate_pdf())
    assert text.encode()


def surrogate_pdf() -> bytes:
    """Return a PDF whose font maps the letter A to half of a surrogate pair."""
    cmap = (
        b"/CIDInit /ProcSet findresource begin begincmap 1 begincodespacerange <00> <FF> "
        b"endcodespacerange 1 beginbfchar <41> <D83D> endbfchar endcmap end"
    )
    page = b"BT /F 12 Tf 72 700 Td (BAB valve) Tj ET"
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R "
        b"/Resources << /Font << /F 5 0 R >> >> >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(page), page),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /ToUnicode 6 0 R >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(cmap), cmap),
    ]
    data, offsets = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        offsets.append(len(data))
        data += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    return data + (
        b"xref\n0 %d\n0000000000 65535 f \n%strailer << /Size %d /Root 1 0 R >>\n"
        b"startxref\n%d\n%%%%EOF" % (len(offsets) + 1, table, len(offsets) + 1, len(data))
    )
