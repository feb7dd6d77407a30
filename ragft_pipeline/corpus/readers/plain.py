"""Formats that are text themselves: CSV, reStructuredText, notebooks, mail, RTF."""

from __future__ import annotations

import csv
import io
import json
import re
from email import message_from_bytes, policy
from email.message import EmailMessage, MIMEPart
from typing import Any

from ragft_pipeline.corpus.readers.decoding import declared_in, decode
from ragft_pipeline.corpus.readers.html_tree import xhtml_as_html
from ragft_pipeline.corpus.readers.kinds import Reading, SkippedDocument, needs
from ragft_pipeline.corpus.readers.markup import html_to_markdown
from ragft_pipeline.corpus.readers.tables import table_markdown
from ragft_pipeline.settings import CorpusSettings

_DIRECTIVE = re.compile(r"^[ \t]*\.\.[ \t]+([\w:+.-]+)::", re.MULTILINE)
_ROLE = re.compile(r"(?<!\w):([\w:+.-]+):`")
_EMAIL_HEADERS = ("From", "To", "Date")


def read_plain(data: bytes, settings: CorpusSettings) -> Reading:
    """Return text as it is."""
    return decode(data, settings.encodings, declared_in(data) if data[:5] == b"<?xml" else None)


def read_xhtml(data: bytes, settings: CorpusSettings) -> Reading:
    """Return an XHTML page's main text, decoded as it declares."""
    return read_html(data, settings, xhtml=True)


def read_html(data: bytes, settings: CorpusSettings, xhtml: bool = False) -> Reading:
    """Return a page's main text, decoded as it declares."""
    decoded = decode(data, settings.encodings, declared_in(data))
    markup = decoded.text
    if xhtml or markup.lstrip()[:5] == "<?xml":
        markup = xhtml_as_html(markup)
    page = html_to_markdown(markup)
    return Reading(page.text, page.title, decoded.warnings)


def read_csv(data: bytes, settings: CorpusSettings) -> Reading:
    """Return a table of comma, semicolon or tab separated values."""
    decoded = decode(data, settings.encodings)
    sample = decoded.text[:20_000]
    counts = {mark: sample.count(mark) for mark in (",", ";", "\t", "|")}
    mark = max(counts, key=lambda one: counts[one])
    try:
        rows = list(csv.reader(io.StringIO(decoded.text), delimiter=mark))
    except csv.Error as error:
        raise SkippedDocument(f"cannot be read as a table ({error})") from None
    return Reading(table_markdown(rows), warnings=decoded.warnings)


def read_rst(data: bytes, settings: CorpusSettings) -> Reading:
    """Return reStructuredText by docutils; Sphinx's directives and roles count by their content."""
    decoded = decode(data, settings.encodings)
    try:
        from docutils.core import publish_parts
    except ImportError:
        raise needs("docutils") from None
    _know(decoded.text)
    options = {
        "file_insertion_enabled": False, "raw_enabled": False, "_disable_config": True,
        "halt_level": 5, "report_level": 5, "embed_stylesheet": False, "doctitle_xform": False,
        "initial_header_level": 1,
        "syntax_highlight": "none", "math_output": "LaTeX", "line_length_limit": 1_000_000,
        "input_encoding": "unicode", "toc_backlinks": False, "sectnum_xform": False,
    }  # fmt: skip
    parts = publish_parts(decoded.text, writer="html5", settings_overrides=options)
    markup = re.sub(r"<(/?)aside", r"<\1div", parts["html_body"])  # admonitions are text
    return Reading(html_to_markdown(f"<body>{markup}").text, warnings=decoded.warnings)


def _know(text: str) -> None:
    """Let docutils take the directives and roles that it does not know for their content."""
    from docutils import nodes
    from docutils.parsers.rst import Directive, directives, roles
    from docutils.parsers.rst.languages import en
    from docutils.utils import new_document

    document = new_document("")

    class Content(Directive):
        """A directive of another tool: its argument and its content are text."""

        has_content = True
        optional_arguments = 1
        final_argument_whitespace = True
        option_spec = None

        def run(self) -> list[Any]:
            container = nodes.container()
            if self.arguments and self.name not in ("toctree", "only", "highlight", "index"):
                container += nodes.paragraph("", self.arguments[0])
            if self.name != "toctree":
                self.state.nested_parse(self.content, self.content_offset, container)
            return [container]

    def role(name: str, raw: str, text: str, line: int, inliner: Any, *rest: Any) -> Any:
        shown = re.sub(r"\s*<[^<>]*>$", "", text).lstrip("~!")
        return [nodes.inline(raw, shown)], []

    for name in set(_DIRECTIVE.findall(text)):
        if directives.directive(name, en, document)[0] is None:
            directives.register_directive(name, Content)
    for name in set(_ROLE.findall(text)):
        if roles.role(name, en, 0, document.reporter)[0] is None:
            roles.register_local_role(name, role)


def read_notebook(data: bytes, settings: CorpusSettings) -> Reading:
    """Return a notebook's text and code, without what the code printed."""
    try:
        notebook = json.loads(decode(data, settings.encodings).text)
        cells = notebook.get("cells")
        if cells is None:
            cells = [one for sheet in notebook["worksheets"] for one in sheet["cells"]]
        language = notebook.get("metadata", {}).get("language_info", {}).get("name", "")
        parts = [_cell_text(cell, str(language)) for cell in cells]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise SkippedDocument("not a notebook (no cells)") from None
    return Reading("\n\n".join(part for part in parts if part))


def _cell_text(cell: dict[str, Any], language: str) -> str:
    source = cell.get("source", cell.get("input", ""))
    text = ("".join(source) if isinstance(source, list) else str(source)).strip("\n")
    if cell["cell_type"] == "heading":
        return f"{'#' * int(cell.get('level', 1))} {text}"
    if cell["cell_type"] != "code" or not text:
        return text
    fence = "`" * (max((len(run) for run in re.findall(r"`{3,}", text)), default=2) + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def read_mail(data: bytes, settings: CorpusSettings) -> Reading:
    """Return a message: subject, sender, receiver, date and body; attachments are named."""
    message = message_from_bytes(data, policy=policy.default)
    assert isinstance(message, EmailMessage)
    try:
        subject = " ".join(str(message.get("Subject", "")).split())
        lines = [f"{name}: {message[name]}" for name in _EMAIL_HEADERS if message.get(name)]
        body = message.get_body(preferencelist=("plain", "html"))
        text, warnings = _body(body, settings) if body is not None else ("", ())
        attached = [part.get_filename() or "without a name" for part in message.iter_attachments()]
    except (LookupError, ValueError, AttributeError, KeyError, TypeError, AssertionError) as error:
        raise SkippedDocument(f"not a message ({type(error).__name__})") from None
    if not subject and not lines:
        raise SkippedDocument("not a message (no Subject, From, To or Date)")
    if attached:
        warnings = (*warnings, f"attachments are not read: {', '.join(attached)[:200]}")
    head = [f"# {subject}"] if subject else []
    return Reading("\n\n".join([*head, "\n".join(lines), text]), subject, warnings)


def _body(part: MIMEPart, settings: CorpusSettings) -> tuple[str, tuple[str, ...]]:
    data = part.get_payload(decode=True)
    if not isinstance(data, bytes):
        return "", ()
    declared = part.get_content_charset()
    if part.get_content_subtype() == "html":
        decoded = decode(data, settings.encodings, declared or declared_in(data))
        return html_to_markdown(decoded.text).text, decoded.warnings
    decoded = decode(data, settings.encodings, declared)
    return decoded.text, decoded.warnings


def read_rtf(data: bytes, settings: CorpusSettings) -> Reading:
    """Return the text of an RTF file."""
    if not data.lstrip().startswith(b"{\\rtf"):
        raise SkippedDocument("not an RTF file")
    try:
        from striprtf.striprtf import rtf_to_text
    except ImportError:
        raise needs("striprtf") from None
    title = re.search(rb"\\title[ ]?([^{}\\]{1,200})", data)
    text = rtf_to_text(data.decode("cp1252", "replace"), errors="replace")
    return Reading(text, title[1].decode("cp1252", "replace").strip() if title else "")
