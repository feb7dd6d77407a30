from __future__ import annotations

import io
import zipfile
from typing import Any

import pytest
from docx import Document
from docx.oxml import parse_xml

from ragft_pipeline.corpus.readers import Reading, read_document
from ragft_pipeline.settings import CorpusSettings

_W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
_MATH = 'xmlns:m="http://schemas.openxmlformats.org/officeDocument/2006/math"'
_BOX = f"""<w:p {_W} xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006"
 xmlns:wps="http://schemas.microsoft.com/office/word/2010/wordprocessingShape"
 xmlns:v="urn:schemas-microsoft-com:vml"><w:r><mc:AlternateContent><mc:Choice Requires="wps">
 <w:drawing><wps:txbx><w:txbxContent><w:p><w:r><w:t>Never run it dry.</w:t></w:r></w:p>
 </w:txbxContent></wps:txbx></w:drawing></mc:Choice><mc:Fallback><w:pict><v:textbox>
 <w:txbxContent><w:p><w:r><w:t>Never run it dry.</w:t></w:r></w:p></w:txbxContent></v:textbox>
 </w:pict></mc:Fallback></mc:AlternateContent></w:r></w:p>"""


@pytest.fixture
def word() -> Any:
    document = Document()
    document.sections[0].header.paragraphs[0].text = "ACME internal - do not copy"
    document.sections[0].footer.paragraphs[0].text = "Page footer"
    return document


def read(document: Any) -> Reading:
    buffer = io.BytesIO()
    document.save(buffer)
    return read_document("a.docx", buffer.getvalue(), CorpusSettings())


def test_the_title_style_is_the_title_and_headers_are_no_text(word: Any) -> None:
    word.add_heading("Winter storage", 0)
    word.add_heading("Draining", 1)
    word.add_paragraph("Open the plug.")
    word.add_heading("Tools", 2)
    word.add_paragraph("A key", style="List Bullet")
    word.add_paragraph("First", style="List Number")
    assert read(word) == Reading(
        "# Winter storage\n\n## Draining\n\nOpen the plug.\n\n### Tools\n\n- A key\n\n1. First",
        "Winter storage",
    )


def test_without_a_title_style_headings_and_properties_say_it(word: Any) -> None:
    word.core_properties.title = "From the properties"
    word.add_paragraph("Open the plug.")
    assert read(word).title == "From the properties"
    word.add_heading("Draining", 1)
    assert read(word) == Reading("Open the plug.\n\n# Draining", "")


def test_an_empty_cell_keeps_its_place(word: Any) -> None:
    table = word.add_table(rows=2, cols=3)
    for place, text in enumerate(("Model", "Flow", "Price", "P30", "", "710 EUR")):
        table.cell(place // 3, place % 3).text = text
    assert read(word).text == "Model | Flow | Price\n-|-|-\nP30 | | 710 EUR"


def test_what_a_reader_sees_is_read_once(word: Any) -> None:
    paragraph = word.add_paragraph("Shown")
    paragraph.add_run(" hidden").font.hidden = True
    paragraph._p.append(
        parse_xml(f"<w:r {_W}><w:t> non</w:t><w:noBreakHyphen/><w:t>breaking</w:t></w:r>")
    )
    paragraph._p.append(
        parse_xml(
            f"<w:del {_W} w:id='1' w:author='a'><w:r><w:delText>six</w:delText></w:r></w:del>"
        )
    )
    paragraph._p.append(
        parse_xml(
            f"<m:oMath {_MATH}><m:r><m:t> x=</m:t></m:r><m:f><m:num><m:r><m:t>a</m:t></m:r></m:num>"
            "<m:den><m:r><m:t>b</m:t></m:r></m:den></m:f></m:oMath>"
        )
    )
    word.element.body.insert(1, parse_xml(_BOX))
    assert read(word).text == "Shown non-breaking x=a/b\n\nNever run it dry."


def test_the_main_part_may_have_another_name(word: Any) -> None:
    word.add_paragraph("Open the plug.")
    buffer, renamed = io.BytesIO(), io.BytesIO()
    word.save(buffer)
    with zipfile.ZipFile(buffer) as archive, zipfile.ZipFile(renamed, "w") as copy:
        for name in archive.namelist():
            data = archive.read(name).replace(b"word/document.xml", b"word/document2.xml")
            copy.writestr(name.replace("word/document.xml", "word/document2.xml")
                          .replace("document.xml.rels", "document2.xml.rels"), data)  # fmt: skip
    reading = read_document("a.docx", renamed.getvalue(), CorpusSettings())
    assert reading.text == "Open the plug."
