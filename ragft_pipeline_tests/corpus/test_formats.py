from __future__ import annotations

import io
import json
import sys
import zipfile
from datetime import datetime
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


_ODF_NAMES = ("office", "text", "table", "style")


def odt(body: str) -> bytes:
    spaces = " ".join(f'xmlns:{name}="{_ODF}:{name}:1.0"' for name in _ODF_NAMES)
    return zipped(
        {
            "content.xml": f"<office:document-content {spaces}><text:list-style style:name='n'>"
            "<text:list-level-style-number text:level='1'/></text:list-style><office:body>"
            f"<office:text>{body}"
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
    from pptx.chart.data import CategoryChartData
    from pptx.enum.chart import XL_CHART_TYPE
    from pptx.util import Inches

    deck = Presentation()
    slide = deck.slides.add_slide(deck.slide_layouts[5])
    slide.shapes.title.text = "Valves"
    box = slide.shapes.add_textbox(0, 0, Inches(1), Inches(1)).text_frame
    box.text = "Close it"
    box.add_paragraph().text = "Open it"
    sales = CategoryChartData()
    sales.categories = ["East", "West"]
    sales.add_series("Sales", (1.5, 2))
    sales.add_series("Costs", (3, None))
    slide.shapes.add_chart(XL_CHART_TYPE.COLUMN_CLUSTERED, 0, 0, Inches(1), Inches(1), sales)
    table = slide.shapes.add_table(3, 2, 0, 0, Inches(2), Inches(1)).table
    for place, text in enumerate(("Model", "bar", "V-12", "6", "", "7")):
        table.cell(place // 2, place % 2).text = text
    table.cell(1, 0).merge(table.cell(2, 0))
    slide.notes_slide.notes_text_frame.text = "Say it slowly."
    buffer = io.BytesIO()
    deck.save(buffer)
    return buffer.getvalue()


def xlsx() -> bytes:
    from openpyxl import Workbook

    book = Workbook()
    book.active.title = "Prices"
    rows = (
        ["Model", "Flow", "Price", "Tax", "From", "Sum"],
        ["P20", None, 520.5, 0.19, datetime(2024, 3, 1), "=C2*2"],
        [None, True, 9, 0.07, None, None],
        [],
        ["Dealers"],
        ["Name", "City"],
        ["Ann", "Bonn"],
    )
    for row in rows:
        book.active.append(row)
    book.active.merge_cells("A2:A3")
    for cell in book.active["D"][1:3]:
        cell.number_format = "0%"
    buffer = io.BytesIO()
    book.save(buffer)
    return buffer.getvalue()


def mail() -> bytes:
    message = EmailMessage()
    message["Subject"] = "Größe der Düse"
    message["From"] = "alice@example.com"
    message.set_content("Fünf Millimeter.")
    message.add_attachment(b"x", "application", "pdf", filename="plan.pdf")
    forwarded = EmailMessage()
    forwarded["Subject"] = "The lid"
    forwarded.set_content("Six bar – at most.", cte="quoted-printable")
    message.add_attachment(forwarded)
    return message.as_bytes()


OUTPUTS = [
    {"output_type": "stream", "name": "stdout", "text": ["6 bar\n"]},
    {"output_type": "stream", "name": "stderr", "text": "a warning"},
    {"output_type": "error", "ename": "E", "traceback": ["t"]},
    {"output_type": "display_data", "data": {"image/png": "iVB", "text/plain": "<Figure>"}},
    {"data": {"text/html": "<table><tr><th>a<tr><td>1</table>", "text/plain": "a 1"}},
]
NOTEBOOK = {
    "cells": [
        {"cell_type": "markdown", "source": ["# Pump curves\n", "text"]},
        {"cell_type": "code", "source": "# comment\nprint(1)", "outputs": OUTPUTS},
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

.. code-block:: sh
   :linenos:
   :caption: x

   # install

.. automodule:: pump
   :members:

.. list-table::

   * - Model
     - bar
   * - V-12
     - 6
"""
MDX = """\
import Tabs from '@theme/Tabs';
export const x = {
  y: 1,
};

# Same

<Tabs icon={<Icon name="x"/>}>
  <Tab label="Linux">Run `<Pump>`.</Tab>
</Tabs>
{/* unseen */}
```js
import x from 'y'
```

End <b>b</b>
"""
ADOC = """\
= Pumps
:toc:
:model: V-12

////
unseen
////
[WARNING]
Turn the {model} off, see link:http://x[the site] and <<a,there>>.footnote:[Or ask.]

image::a.png[Cross section]

[source,sh]

----
ls
----

[[a]]
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
            "# Valves\n\n## Valves\n\n- Close it\n- Open it\n\n| | Sales | Costs\n-|-|-\n"
            "East | 1.5 | 3\nWest | 2\n\nModel | bar\n-|-\nV-12 | 6\nV-12 | 7\n\n"
            "Say it slowly.",
        ),
        (
            "list.xlsx",
            xlsx(),
            "list",
            "## Prices\n\nModel | Flow | Price | Tax | From | Sum\n-|-|-|-|-|-\n"
            "P20 | | 520.5 | 19% | 2024-03-01\nP20 | TRUE | 9 | 7%\n\n"
            "Dealers\n\nName | City\n-|-\nAnn | Bonn",
        ),
        (
            "faq.csv",
            "name;answer\nvalve;\nlid;close it\n",
            "faq",
            "name | answer\n-|-\nvalve |\nlid | close it",
        ),
        ("a.csv", 'sep=;\na;b\n"1,5";"x\ny"\n2,5;"say ""so"""', "a",
         'a | b\n-|-\n1,5 | x y\n2,5 | say "so"'),
        ("a.csv", "question\nHow, when, and where?\nWhy?", "a",
         "question\nHow, when, and where?\nWhy?"),
        ("a.json", '[{"q": "How?", "n": null, "a": [1]}, {"q": "Why?"}]', "a",
         "q: How?\na: [1]\n\nq: Why?"),
        ("a.jsonl", '{"title": "Lid"}\n{"title": "Oil"}\n', "a", "title: Lid\n\ntitle: Oil"),
        ("faq.tsv", "a\tb\n\n1\t2", "faq", "a | b\n-|-\n1 | 2"),
        (
            "letter.odt",
            odt(
                '<text:p text:style-name="Title">Letter</text:p><text:h text:outline-level="1">'
                "Data</text:h><text:p>One<text:s/>two<text:note><text:note-citation>1"
                "</text:note-citation><text:note-body><text:p>foot</text:p></text:note-body>"
                "</text:note> three</text:p><text:list text:style-name='n'>"
                "<text:list-item><text:p>x"
                "</text:p></text:list-item></text:list><table:table><table:table-row>"
                "<table:table-cell><text:p>bar</text:p></table:table-cell><table:table-cell><text:p>"
                "6</text:p></table:table-cell></table:table-row></table:table>"
            ),
            "Letter",
            "# Letter\n\n## Data\n\nOne two[1] (foot) three\n\n1. x\n\nbar | 6\n-|-",
        ),
        ("book.epub", epub(), "The pump", "# The pump\n\nFirst.\n\n## Second\n\nbar | 6\n-|-"),
        (
            "note.rtf",
            r"{\rtf1\ansi{\info{\title Note}}Gr\'f6\'dfe\par \trowd\intbl bar\cell 6\cell\row two}",
            "Note",
            "Größe\nbar | 6\ntwo",
        ),
        (
            "a.ipynb",
            json.dumps(NOTEBOOK),
            "",
            "# Pump curves\ntext\n\n```python\n# comment\nprint(1)\n```\n\n```\n6 bar\n```\n\na\n1",
        ),
        (
            "a.rst",
            RST,
            "",
            "# Pumps\n\n## Cleaning\n\nClose the valve first.\n\n2.1\n\nNow with code.\n\nNote\n\n"
            "Mind the lid.\n\n```\n# install\n```\n\npump\n\nModel | bar\n-|-\nV-12 | 6",
        ),
        (
            "a.adoc",
            ADOC,
            "Pumps",
            "# Pumps\n\nWarning:\nTurn the V-12 off, see the site and there. (Or ask.)\n\n"
            "Cross section\n\n```sh\nls\n```\n\n## Cleaning\n- First\n   - Second\n\n"
            "```\n= no heading\n```\n\n"
            "Model | bar\n-|-\nV-12 | 6",
        ),
        ("a.markdown", "# Same", "", "# Same"),
        ("a.mdx", MDX, "", "# Same\n\nLinux\n\nRun `<Pump>`.\n\n"
         "```js\nimport x from 'y'\n```\n\nEnd <b>b</b>"),
        ("a.xhtml", "<html><head><title/></head><body><h1>V</h1></body></html>", "V", "# V"),
    ],
)  # fmt: skip
def test_a_format_is_read_with_its_title_and_tables(
    name: str, data: bytes | str, title: str, text: str
) -> None:
    reading = read(name, data)
    assert (reading.title, reading.text) == (title, text)


def test_a_message_is_read_with_its_subject_and_its_attachments_are_named() -> None:
    reading = read("a.eml", mail())
    assert reading.title == "Größe der Düse"
    assert reading.text == (
        "# Größe der Düse\n\nFrom: alice@example.com\n\nFünf Millimeter.\n\n## The lid\n\n"
        "Six bar – at most."
    )
    assert reading.warnings == ("attachments are not read: plan.pdf",)


def test_formulas_without_a_value_are_said() -> None:
    assert read("a.xlsx", xlsx()).warnings == (
        "formulas without a value: 1; open it in a spreadsheet and save it",
    )


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
