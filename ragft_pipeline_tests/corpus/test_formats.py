from __future__ import annotations

import io
import json
import sys
import zipfile
from email.message import EmailMessage

import pytest

from ragft_pipeline.corpus.readers import Reading, SkippedDocument, read_document
from ragft_pipeline.settings import CorpusSettings


def read(name: str, data: bytes | str) -> Reading:
    return read_document(name, data.encode() if isinstance(data, str) else data, CorpusSettings())


def zipped(members: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return buffer.getvalue()


_ODF = "urn:oasis:names:tc:opendocument:xmlns"


def odt(body: str) -> bytes:
    spaces = " ".join(f'xmlns:{name}="{_ODF}:{name}:1.0"' for name in ("office", "text", "table"))
    return zipped(
        {
            "content.xml": f"<office:document-content {spaces}><office:body><office:text>{body}"
            "</office:text></office:body></office:document-content>"
        }
    )


def epub() -> bytes:
    return zipped(
        {
            "META-INF/container.xml": '<container xmlns="urn:c"><rootfiles><rootfile '
            'full-path="book/content.opf"/></rootfiles></container>',
            "book/content.opf": '<package xmlns="http://www.idpf.org/2007/opf" '
            'xmlns:dc="http://purl.org/dc/elements/1.1/"><metadata><dc:title>The pump</dc:title>'
            '</metadata><manifest><item id="a" href="b%20c.xhtml" '
            'media-type="application/xhtml+xml"/><item id="z" href="first.xhtml" '
            'media-type="application/xhtml+xml"/></manifest>'
            '<spine><itemref idref="z"/><itemref idref="a"/></spine></package>',
            "book/b c.xhtml": "<html><head><title/></head><body><h2>Second</h2><a id='x'/>"
            "<table><tr><td>bar</td><td>6</td></tr></table></body></html>",
            "book/first.xhtml": "<html><body><p>First.</p></body></html>",
        }
    )


def pptx() -> bytes:
    from pptx import Presentation
    from pptx.util import Inches

    deck = Presentation()
    slide = deck.slides.add_slide(deck.slide_layouts[5])
    slide.shapes.title.text = "Valves"
    box = slide.shapes.add_textbox(0, 0, Inches(1), Inches(1)).text_frame
    box.text = "Close it"
    box.add_paragraph().text = "Open it"
    table = slide.shapes.add_table(2, 2, 0, 0, Inches(2), Inches(1)).table
    for place, text in enumerate(("Model", "bar", "V-12", "6")):
        table.cell(place // 2, place % 2).text = text
    slide.notes_slide.notes_text_frame.text = "Say it slowly."
    buffer = io.BytesIO()
    deck.save(buffer)
    return buffer.getvalue()


def xlsx() -> bytes:
    from openpyxl import Workbook

    book = Workbook()
    book.active.title = "Prices"
    for row in (["Model", "Flow", "Price"], ["P20", None, 520.5], [None, None, None]):
        book.active.append(row)
    buffer = io.BytesIO()
    book.save(buffer)
    return buffer.getvalue()


def mail() -> bytes:
    message = EmailMessage()
    message["Subject"] = "Größe der Düse"
    message["From"] = "alice@example.com"
    message.set_content("Fünf Millimeter.")
    message.add_attachment(b"x", "application", "pdf", filename="plan.pdf")
    return message.as_bytes()


NOTEBOOK = {
    "cells": [
        {"cell_type": "markdown", "source": ["# Pump curves\n", "text"]},
        {"cell_type": "code", "source": "# comment\nprint(1)", "outputs": [{"text": "1"}]},
    ],
    "metadata": {"language_info": {"name": "python"}},
}
RST = """\
Pumps
=====

Cleaning
--------

Close :term:`the valve <valve>` first.

.. versionadded:: 2.1

   Now with ``code``.

.. note:: Mind the lid.

.. list-table::

   * - Model
     - bar
   * - V-12
     - 6
"""
ADOC = """\
= Pumps
:toc:

== Cleaning
* First
** Second

----
= no heading
----

|===
|Model |bar

|V-12
|6
|===
"""


@pytest.mark.parametrize(
    ("name", "data", "title", "text"),
    [
        (
            "deck.pptx",
            pptx(),
            "Valves",
            "# Valves\n\n## Valves\n\n- Close it\n- Open it\n\nModel | bar\n-|-\nV-12 | 6\n\n"
            "Say it slowly.",
        ),
        (
            "list.xlsx",
            xlsx(),
            "list",
            "## Prices\n\nModel | Flow | Price\n-|-|-\nP20 | | 520.5",
        ),
        (
            "faq.csv",
            "name;answer\nvalve;\nlid;close it\n",
            "faq",
            "name | answer\n-|-\nvalve |\nlid | close it",
        ),
        ("faq.tsv", "a\tb\n\n1\t2", "faq", "a | b\n-|-\n1 | 2"),
        (
            "letter.odt",
            odt(
                '<text:p text:style-name="Title">Letter</text:p><text:h text:outline-level="1">'
                "Data</text:h><text:p>One<text:s/>two</text:p><text:list><text:list-item><text:p>x"
                "</text:p></text:list-item></text:list><table:table><table:table-row>"
                "<table:table-cell><text:p>bar</text:p></table:table-cell><table:table-cell><text:p>"
                "6</text:p></table:table-cell></table:table-row></table:table>"
            ),
            "Letter",
            "# Letter\n\n## Data\n\nOne two\n\n- x\n\nbar | 6\n-|-",
        ),
        ("book.epub", epub(), "The pump", "# The pump\n\nFirst.\n\n## Second\n\nbar | 6\n-|-"),
        (
            "note.rtf",
            r"{\rtf1\ansi{\info{\title Note}}Gr\'f6\'dfe\par two}",
            "Note",
            "Größe\ntwo",
        ),
        (
            "a.ipynb",
            json.dumps(NOTEBOOK),
            "",
            "# Pump curves\ntext\n\n```python\n# comment\nprint(1)\n```",
        ),
        (
            "a.rst",
            RST,
            "",
            "# Pumps\n\n## Cleaning\n\nClose the valve first.\n\n2.1\n\nNow with code.\n\nNote\n\n"
            "Mind the lid.\n\nModel | bar\n-|-\nV-12 | 6",
        ),
        (
            "a.adoc",
            ADOC,
            "Pumps",
            "# Pumps\n\n## Cleaning\n- First\n   - Second\n\n```\n= no heading\n```\n\n"
            "Model | bar\n-|-\nV-12 | 6",
        ),
        ("a.markdown", "# Same", "", "# Same"),
        ("a.mdx", "# Same", "", "# Same"),
        ("a.xhtml", "<html><head><title/></head><body><h1>V</h1></body></html>", "V", "# V"),
    ],
)  # fmt: skip
def test_a_format_is_read_with_its_title_and_tables(
    name: str, data: bytes | str, title: str, text: str
) -> None:
    assert read(name, data) == Reading(text, title)


def test_a_message_is_read_with_its_subject_and_its_attachments_are_named() -> None:
    reading = read("a.eml", mail())
    assert reading.title == "Größe der Düse"
    assert reading.text == "# Größe der Düse\n\nFrom: alice@example.com\n\nFünf Millimeter."
    assert reading.warnings == ("attachments are not read: plan.pdf",)


def test_a_message_in_html_alone_is_read() -> None:
    page = b"Subject: S\nContent-Type: text/html; charset=windows-1252\n\n<p>Gr\xf6\xdfe</p>"
    assert read("a.eml", page).text == "# S\n\nGröße"


@pytest.mark.parametrize(
    ("name", "data", "module"),
    [
        ("a.pptx", pptx(), "pptx"),
        ("a.xlsx", xlsx(), "openpyxl"),
        ("a.rst", RST, "docutils.core"),
        ("a.rtf", r"{\rtf1 x}", "striprtf.striprtf"),
    ],
)
def test_a_missing_reader_is_named_with_the_line_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, name: str, data: bytes | str, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(SkippedDocument, match=r"pip install 'ragft-pipeline\[formats\]'"):
        read(name, data)


@pytest.mark.parametrize("name", ["a.docx", "a.pptx", "a.xlsx", "a.odt", "a.epub"])
def test_entities_bombs_and_old_files_are_refused(name: str) -> None:
    entities = zipped({"word/document.xml": '<!DOCTYPE x [<!ENTITY a "aaa">]><x>&a;</x>'})
    old = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600
    for data, said in (
        (entities, "defines entities"),
        (old, "of an old Office"),
        (b"PK\x03\x04 not really", f"not a {name[1:]} file"),
    ):
        with pytest.raises(SkippedDocument, match=said):
            read(name, data)


def test_a_document_that_includes_files_does_not_get_them() -> None:
    text = read(
        "a.rst", "Text.\n\n.. include:: /etc/passwd\n\n.. raw:: html\n   :file: /etc/passwd\n"
    ).text
    assert text == "Text."
