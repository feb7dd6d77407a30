"""Formats that are text themselves: CSV, reStructuredText, notebooks, mail, RTF."""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterator
from email import message_from_bytes, policy
from email.message import EmailMessage, MIMEPart
from itertools import islice
from typing import Any

from ragft_pipeline.corpus.readers.decoding import declared_in, decode
from ragft_pipeline.corpus.readers.html_tree import xhtml_as_html
from ragft_pipeline.corpus.readers.kinds import Reading, SkippedDocument, needs
from ragft_pipeline.corpus.readers.markup import fenced, html_to_markdown
from ragft_pipeline.corpus.readers.mdx import mdx_to_markdown
from ragft_pipeline.corpus.readers.tables import table_markdown
from ragft_pipeline.settings import CorpusSettings

_SEPARATOR = re.compile(r"\A\ufeff?sep=.\r?\n")
_OUTPUTS = ("text/markdown", "text/html", "text/plain", "text")
_RTF_ROW = re.compile(r"^[^|\n]*\|.*\|$", re.MULTILINE)
_DIRECTIVE = re.compile(r"^[ \t]*\.\.[ \t]+([\w:+.-]+)::", re.MULTILINE)
_ROLE = re.compile(r"(?<!\w):([\w:+.-]+):`")
_EMAIL_HEADERS = ("From", "To", "Cc", "Date")
_MAX_FORWARDED = 4  # messages inside one another
_MAX_OUTPUT = 4000  # characters that a cell of a notebook printed


def read_plain(data: bytes, settings: CorpusSettings) -> Reading:
    """Return text as it is."""
    return decode(data, settings.encodings, declared_in(data) if data[:5] == b"<?xml" else None)


def read_mdx(data: bytes, settings: CorpusSettings) -> Reading:
    """Return MDX as the Markdown that it shows."""
    decoded = decode(data, settings.encodings)
    return Reading(mdx_to_markdown(decoded.text), warnings=decoded.warnings)


def read_json(data: bytes, settings: CorpusSettings) -> Reading:
    """Return records, of a JSON array or a JSON line each, as lines `key: value`."""
    decoded = decode(data, settings.encodings)
    try:
        found = json.loads(decoded.text)
    except (ValueError, RecursionError):
        found = None
    if found is None:
        try:
            found = [json.loads(line) for line in decoded.text.split("\n") if line.strip()]
        except (ValueError, RecursionError):
            return decoded
    if isinstance(found, dict):  # records under the one key that has any
        lists = [value for value in found.values() if isinstance(value, list)]
        found = lists[0] if len(lists) == len(found) == 1 else [found]
    records = found if isinstance(found, list) else [found]
    return Reading("\n\n".join(map(_record, records)), warnings=decoded.warnings)


def _record(record: Any) -> str:
    if not isinstance(record, dict):
        return _json_value(record)
    lines = [(key, _json_value(value)) for key, value in record.items()]
    return "\n".join(f"{key}: {value}" for key, value in lines if value)


def _json_value(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


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
    text = _SEPARATOR.sub("", decoded.text, count=1)  # Excel's own hint
    try:
        evenness = {mark: _evenness(text, mark) for mark in ",;\t|"}
        mark = max(evenness, key=lambda one: evenness[one]) if any(evenness.values()) else "\x1f"
        rows = list(_rows(text, mark))
    except csv.Error as error:
        raise SkippedDocument(f"cannot be read as a table ({error})") from None
    return Reading(table_markdown(rows), warnings=decoded.warnings)


def _rows(text: str, mark: str) -> Iterator[list[str]]:
    return csv.reader(io.StringIO(text, newline=""), delimiter=mark, skipinitialspace=True)


def _evenness(text: str, mark: str) -> float:
    """Return the share of the first rows that a delimiter cuts into equally many cells."""
    widths = Counter(len(row) for row in islice(_rows(text[:50_000], mark), 100) if row)
    width, count = max(widths.items(), key=lambda item: item[1], default=(1, 0))
    return 0.0 if width < 2 else (count + width / 1000) / widths.total()


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

    class AnyOption(dict[str, Any]):
        """Takes the options of other tools as well: docutils drops a directive with such a one."""

        def __missing__(self, name: str) -> Any:
            return str

    class Content(Directive):
        """A directive of another tool: its argument and its content are text."""

        has_content = True
        optional_arguments = 1
        final_argument_whitespace = True
        option_spec = AnyOption(name=str)  # an empty one is none

        def run(self) -> list[Any]:
            container = nodes.container()
            if self.arguments and self.name not in ("toctree", "only", "highlight", "index"):
                container += nodes.paragraph("", self.arguments[0])
            if self.name != "toctree":
                self.state.nested_parse(self.content, self.content_offset, container)
            return [container]

    class Code(Content):
        """Code, which nothing numbers or colours."""

        def run(self) -> list[Any]:
            text = "\n".join(self.content)
            return [nodes.literal_block(text, text)] if text else []

    def role(name: str, raw: str, text: str, line: int, inliner: Any, *rest: Any) -> Any:
        shown = re.sub(r"\s*<[^<>]*>$", "", text).lstrip("~!")
        return [nodes.inline(raw, shown)], []

    for name in ("code", "code-block", "sourcecode"):
        directives.register_directive(name, Code)
    for name in set(_DIRECTIVE.findall(text)):
        known = directives.directive(name, en, document)[0]
        if known is None:
            directives.register_directive(name, Content)
        elif not isinstance(known.option_spec, AnyOption | None):
            known.option_spec = AnyOption(known.option_spec)
    for name in set(_ROLE.findall(text)):
        if roles.role(name, en, 0, document.reporter)[0] is None:
            roles.register_local_role(name, role)


def read_notebook(data: bytes, settings: CorpusSettings) -> Reading:
    """Return a notebook's text and code, with the text and tables that the code printed."""
    try:
        notebook = json.loads(decode(data, settings.encodings).text)
        cells = notebook.get("cells")
        if cells is None:
            cells = [one for sheet in notebook["worksheets"] for one in sheet["cells"]]
        about = notebook.get("metadata", {})
        language = about.get("language_info", {}).get("name") or about.get("kernelspec", {}).get(
            "language", ""
        )
        parts = [part for cell in cells for part in (_cell_text(cell, language), *_printed(cell))]
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
    return fenced(text, language)


def _printed(cell: dict[str, Any]) -> Iterator[str]:
    """Yield what a cell printed that is words: no pictures, errors and names of objects."""
    for output in cell.get("outputs", ()):
        shown = output.get("data", output if output.get("name") != "stderr" else {})
        kind = next((kind for kind in _OUTPUTS if kind in shown), None)
        source = shown[kind] if kind else ""
        text = ("".join(source) if isinstance(source, list) else str(source)).strip()
        if len(text) > 20 * _MAX_OUTPUT or (text.startswith("<") and kind != "text/html"):
            continue
        if kind == "text/html":
            yield html_to_markdown(f"<body>{text}").text[:_MAX_OUTPUT]
        elif text:
            text = text[:_MAX_OUTPUT]
            yield text if kind == "text/markdown" else fenced(text)


def read_mail(data: bytes, settings: CorpusSettings) -> Reading:
    """Return a message: subject, sender, receiver, date and body; attachments are named."""
    message = message_from_bytes(data, policy=policy.default)
    assert isinstance(message, EmailMessage)
    return _message(message, settings)


def _message(message: EmailMessage, settings: CorpusSettings, depth: int = 0) -> Reading:
    forwarded = []
    try:
        subject = " ".join(str(message.get("Subject", "")).split())
        lines = [f"{name}: {message[name]}" for name in _EMAIL_HEADERS if message.get(name)]
        body = message.get_body(preferencelist=("plain", "html"))
        text, warnings = _body(body, settings) if body is not None else ("", ())
        attached = []
        for part in message.iter_attachments():
            inner = part.get_content() if part.get_content_type() == "message/rfc822" else None
            if isinstance(inner, EmailMessage) and depth < _MAX_FORWARDED:
                forwarded.append(_message(inner, settings, depth + 1))
            else:
                attached.append(part.get_filename() or "without a name")
    except (LookupError, ValueError, AttributeError, KeyError, TypeError, AssertionError) as error:
        raise SkippedDocument(f"not a message ({type(error).__name__})") from None
    if not subject and not lines:
        raise SkippedDocument("not a message (no Subject, From, To or Date)")
    if attached:
        warnings = (*warnings, f"attachments are not read: {', '.join(attached)[:200]}")
    head = [f"{'#' * (depth + 1)} {subject}"] if subject else []
    parts = [*head, "\n".join(lines), text, *(one.text for one in forwarded)]
    warnings += tuple(doubt for one in forwarded for doubt in one.warnings)
    return Reading("\n\n".join(parts), subject, warnings)


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
    text = _RTF_ROW.sub(lambda row: " | ".join(map(str.strip, row[0].split("|")[:-1])), text)
    return Reading(text, title[1].decode("cp1252", "replace").strip() if title else "")
