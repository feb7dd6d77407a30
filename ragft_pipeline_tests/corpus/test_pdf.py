from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Sequence

import pytest
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import SimpleDocTemplate, Table

from ragft_pipeline.corpus.readers import Reading, SkippedDocument, read_document
from ragft_pipeline.settings import CorpusSettings


def read(data: bytes) -> Reading:
    return read_document("a.pdf", data, CorpusSettings())


def pdf(pages: Sequence[Sequence[tuple[int, str]]], **options: object) -> bytes:
    """Return a PDF; of each line its height over the page's lower edge, in points."""
    buffer = io.BytesIO()
    canvas = Canvas(buffer, **options)
    for lines in pages:
        for height, text in lines:
            canvas.drawString(72, height, text)
        canvas.showPage()
    canvas.save()
    return buffer.getvalue()


def page(*lines: str) -> list[tuple[int, str]]:
    return [(700 - 16 * number, text) for number, text in enumerate(lines)]


def test_words_cut_at_line_ends_are_joined() -> None:
    first = page("It runs without human inter-", "vention, and is cost-", "effective.")
    second = page("A cost-effective valve. The opera-")
    text = read(pdf([first, second, page("tor opens it.")])).text
    assert text == (
        "It runs without human intervention,\nand is cost-effective.\n\n"
        "A cost-effective valve. The operator\nopens it."
    )


def test_headers_and_footers_go_and_the_sentence_stays_whole() -> None:
    pages = []
    for number in range(1, 6):
        body = page("half stands here.", f"{number}.1 Rinse it.", "Then the valve is opened by")
        edges = [(810, "ACME Pumps - confidential"), (30, f"Rev. 7 Page {number} of 5")]
        pages.append([*edges, *body])
    text = read(pdf(pages)).text
    assert "ACME" not in text
    assert "Page" not in text
    assert text.count("Then the valve is opened by\nhalf stands here.") == 4
    assert "3.1 Rinse it." in text


def test_the_rows_of_a_table_keep_their_columns() -> None:
    buffer = io.BytesIO()
    rows = [["Model", "Flow l/min", "Price EUR"], ["P10", "20", "300"], ["P20", "", "520"]]
    SimpleDocTemplate(buffer).build([Table(rows)])
    assert read(buffer.getvalue()).text == (
        "Model | Flow l/min | Price EUR\nP10 | 20 | 300\nP20 | | 520"
    )


def test_paragraphs_are_parted_and_the_largest_line_is_the_title() -> None:
    buffer = io.BytesIO()
    canvas = Canvas(buffer)
    canvas.drawString(72, 780, "Department of water")
    canvas.setFont("Helvetica", 20)
    canvas.drawString(72, 750, "Pump handbook")
    canvas.setFont("Helvetica", 10)
    for height, text in ((720, "One"), (708, "two."), (696, "Two."), (660, "Three.")):
        canvas.drawString(72, height, text)
    canvas.save()
    reading = read(buffer.getvalue())
    assert reading.title == "Pump handbook"
    assert reading.text.endswith("One\ntwo.\nTwo.\n\nThree.")


def test_pages_without_text_are_counted() -> None:
    assert read(pdf([page("Text.")])).warnings == ()
    reading = read(pdf([[]] * 9 + [page("Only this page has text.")]))
    assert reading.warnings == ("9 of 10 pages have no text (scans? run OCR on it)",)


def test_the_values_of_a_form_are_text() -> None:
    buffer = io.BytesIO()
    canvas = Canvas(buffer)
    canvas.drawString(72, 750, "Registration")
    canvas.acroForm.textfield(name="serial", value="SN-998877", x=72, y=700)
    canvas.acroForm.textfield(name="empty", value="", x=72, y=600)
    canvas.save()
    assert read(buffer.getvalue()).text == "Registration\n\nserial: SN-998877"


def test_attachments_are_named() -> None:
    from pypdf import PdfReader, PdfWriter

    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(pdf([page("Text.")]))))
    writer.add_attachment("notes.txt", b"x")
    buffer = io.BytesIO()
    writer.write(buffer)
    assert read(buffer.getvalue()).warnings == ("attachments are not read: notes.txt",)


def test_a_pdf_that_only_its_owner_may_change_is_read_without_cryptography() -> None:
    data = encrypted("Valve V-12", "")
    code = (
        "import sys; sys.modules['cryptography'] = None\n"
        "from ragft_pipeline.corpus.readers import read_text\n"
        "from ragft_pipeline.settings import CorpusSettings\n"
        "print(read_text('a.pdf', sys.stdin.buffer.read(), CorpusSettings()))"
    )
    run = subprocess.run([sys.executable, "-c", code], input=data, capture_output=True, check=True)
    assert run.stdout.decode().strip() == "Valve V-12"
    with pytest.raises(SkippedDocument, match="an encrypted PDF: save it without a password"):
        read(encrypted("secret", "user"))


def encrypted(text: str, password: str) -> bytes:
    """Return a PDF in AES-256 that its owner's password unlocks, and this one opens."""
    from pypdf import PdfReader, PdfWriter

    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(pdf([page(text)]))))
    writer.encrypt(password, "owner", algorithm="AES-256")
    buffer = io.BytesIO()
    writer.write(buffer)
    return buffer.getvalue()


def test_cjk_fonts_that_are_not_embedded_are_read() -> None:
    codes = "フィルター".encode("euc_jp").hex()
    page_ = f"BT /F 12 Tf 72 700 Td <{codes}> Tj ET".encode()
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R "
        b"/Resources << /Font << /F 5 0 R >> >> >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(page_), page_),
        b"<< /Type /Font /Subtype /Type0 /BaseFont /HeiseiMin-W3 /Encoding /EUC-H "
        b"/DescendantFonts [6 0 R] >>",
        b"<< /Type /Font /Subtype /CIDFontType0 /BaseFont /HeiseiMin-W3 /CIDSystemInfo "
        b"<< /Registry (Adobe) /Ordering (Japan1) /Supplement 2 >> /FontDescriptor 7 0 R >>",
        b"<< /Type /FontDescriptor /FontName /HeiseiMin-W3 /Flags 4 /FontBBox [0 0 1000 1000] "
        b"/ItalicAngle 0 /Ascent 800 /Descent -200 /CapHeight 700 /StemV 80 >>",
    ]
    assert read(assembled(objects)).text == "フィルター"


def assembled(objects: Sequence[bytes]) -> bytes:
    data, offsets = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        offsets.append(len(data))
        data += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    return data + (
        b"xref\n0 %d\n0000000000 65535 f \n%strailer << /Size %d /Root 1 0 R >>\n"
        b"startxref\n%d\n%%%%EOF" % (len(offsets) + 1, table, len(offsets) + 1, len(data))
    )
