"""DOCX to Markdown, by mammoth's HTML: headings, lists, tables, footnotes, text boxes."""

from __future__ import annotations

import io
import zipfile
from xml.etree import ElementTree

from ragft_pipeline.corpus.readers.archives import member, open_archive, xml_of
from ragft_pipeline.corpus.readers.kinds import Reading, SkippedDocument
from ragft_pipeline.corpus.readers.markup import html_to_markdown
from ragft_pipeline.settings import CorpusSettings

_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_M = "{http://schemas.openxmlformats.org/officeDocument/2006/math}"
_MC = "{http://schemas.openxmlformats.org/markup-compatibility/2006}"
_V = "{urn:schemas-microsoft-com:vml}"
_DC_TITLE = "{http://purl.org/dc/elements/1.1/}title"
_TITLE_STYLE = "p[style-name='Title'] => h1:fresh"
_STYLES = "p[style-name^='toc '] => !\np[style-name^='TOC'] => !\np[style-name='Subtitle'] => p"
_BETWEEN = {f"{_M}den": "/", f"{_M}sup": "^", f"{_M}sub": "_"}
_NAMELESS = ("word document", "document", "untitled", "microsoft word")


def read_docx(data: bytes, settings: CorpusSettings) -> Reading:
    """Return a Word document's text; its title is the paragraph in the style Title."""
    import mammoth

    archive = open_archive(data, ".docx", settings)
    ready, has_title = _prepared(archive)
    levels = range(1, 6)
    styles = [_STYLES, _TITLE_STYLE]
    if has_title:  # the headings stand below it
        styles += [f"p[style-name='Heading {n}'] => h{n + 1}:fresh" for n in levels]
        styles += [f"p[style-name='heading {n}'] => h{n + 1}:fresh" for n in levels]
    result = mammoth.convert_to_html(
        io.BytesIO(ready),
        style_map="\n".join(styles),
        convert_image=mammoth.images.img_element(lambda image: {}),
    )
    reading = html_to_markdown(f"<body>{result.value}")
    if has_title:
        first = next((line for line in reading.text.split("\n") if line.startswith("# ")), "")
        return Reading(reading.text, first.removeprefix("# "))
    return Reading(reading.text, "" if "\n# " in f"\n{reading.text}" else core_title(archive))


def core_title(archive: zipfile.ZipFile) -> str:
    """Return the title among an Office file's properties, where a person gave one."""
    if "docProps/core.xml" not in archive.namelist():
        return ""
    title = (xml_of(archive, "docProps/core.xml").findtext(_DC_TITLE) or "").strip()
    return "" if title.lower() in _NAMELESS or title.lower().startswith("powerpoint") else title


def _prepared(archive: zipfile.ZipFile) -> tuple[bytes, bool]:
    """Return the document as mammoth reads it fully, and whether it has a title paragraph.

    Hidden runs go, equations become text, and text boxes stand once, where mammoth looks for them.
    """
    names = archive.namelist()
    main = _main_part(archive)
    if main not in names:
        raise SkippedDocument("cannot be read: not a Word document (it has no main part)")
    titles = _title_styles(archive) if "word/styles.xml" in names else {"Title"}
    has_title = False
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as copy:
        for name in names:
            if name.startswith(("word/media/", "word/fonts/")) or name.endswith("/"):
                continue
            content = member(archive, name)
            if name in (main, "word/footnotes.xml", "word/endnotes.xml"):
                root = xml_of(archive, name)
                _settle(root)
                has_title |= any(
                    style.get(f"{_W}val") in titles for style in root.iter(f"{_W}pStyle")
                )
                content = ElementTree.tostring(root, encoding="utf-8")
            copy.writestr(name, content)
    return buffer.getvalue(), has_title


def _main_part(archive: zipfile.ZipFile) -> str:
    """Return the name of the document's main part; Word itself sometimes calls it document2.xml."""
    if "_rels/.rels" in archive.namelist():
        for relation in xml_of(archive, "_rels/.rels"):
            if relation.get("Type", "").endswith("/officeDocument"):
                return relation.get("Target", "").lstrip("/")
    return "word/document.xml"


def _title_styles(archive: zipfile.ZipFile) -> set[str]:
    found = set()
    for style in xml_of(archive, "word/styles.xml").iter(f"{_W}style"):
        name = style.find(f"{_W}name")
        if name is not None and name.get(f"{_W}val") == "Title":
            found.add(style.get(f"{_W}styleId", ""))
    return found


def _settle(root: ElementTree.Element) -> None:
    for parent in list(root.iter()):
        for place, child in reversed(list(enumerate(parent))):
            if child.tag == f"{_W}r" and _is_hidden(child):
                parent.remove(child)
            elif child.tag == f"{_M}oMath":
                parent[place] = _run(_equation(child))
            elif child.tag == f"{_MC}AlternateContent":
                _keep_one(child)
            elif child.tag == f"{_W}drawing":
                box = child.find(f".//{_W}txbxContent")
                if box is not None:
                    parent[place] = _picture(box)


def _is_hidden(run: ElementTree.Element) -> bool:
    mark = run.find(f"{_W}rPr/{_W}vanish")
    return mark is not None and mark.get(f"{_W}val", "1") not in ("0", "false", "off")


def _equation(math: ElementTree.Element) -> str:
    parts: list[str] = []
    for element in math.iter():
        if element.tag in _BETWEEN:
            parts.append(_BETWEEN[element.tag])
        elif element.tag == f"{_M}t":
            parts.append(element.text or "")
    return "".join(parts)


def _run(text: str) -> ElementTree.Element:
    run = ElementTree.Element(f"{_W}r")
    ElementTree.SubElement(run, f"{_W}t").text = text
    return run


def _keep_one(alternatives: ElementTree.Element) -> None:
    """Leave of alternatives the one with the text box, as the fallback, which mammoth reads."""
    box = alternatives.find(f".//{_W}txbxContent")
    if box is not None:
        for child in list(alternatives):
            alternatives.remove(child)
        ElementTree.SubElement(alternatives, f"{_MC}Fallback").append(_picture(box))


def _picture(box: ElementTree.Element) -> ElementTree.Element:
    picture = ElementTree.Element(f"{_W}pict")
    ElementTree.SubElement(ElementTree.SubElement(picture, f"{_V}shape"), f"{_V}textbox").append(
        box
    )
    return picture
