"""Notebooks: their text, their code and what it printed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from ragft_pipeline.corpus.readers.decoding import decode
from ragft_pipeline.corpus.readers.kinds import Reading, SkippedDocument
from ragft_pipeline.corpus.readers.markup import fenced, html_to_markdown
from ragft_pipeline.settings import CorpusSettings

_OUTPUTS = ("text/markdown", "text/html", "text/plain", "text")
_MAX_OUTPUT = 4000  # characters that a cell of a notebook printed


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
