"""Corpora and documents for tests: real bytes, made on the spot."""

from __future__ import annotations

import io
import random
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path

import pyarrow as pa

from ragft_pipeline.schemas import NODES
from ragft_pipeline.settings import Settings, parse_settings

_SYLLABLES = ("va", "lo", "kem", "tri", "bus", "nor", "fel", "dag", "mi", "zet", "qua", "pol")


def prose(seed: int | str, words: int = 60) -> str:
    """Return made-up prose; texts of different seeds share next to nothing."""
    draw = random.Random(str(seed))
    chosen = ["".join(draw.choices(_SYLLABLES, k=3)) for _ in range(words)]
    lines = [" ".join(chosen[i : i + 10]).capitalize() + "." for i in range(0, words, 10)]
    return " ".join(lines)


def write_corpus(folder: Path, documents: Mapping[str, str | bytes]) -> Path:
    """Write documents under `folder` by relative path."""
    for name, content in documents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def settings_for(source: Path | str, store: Path, extra: str = "") -> Settings:
    """Return settings for a corpus and a store; `extra` is YAML of other sections."""
    return parse_settings(f"store: {store}\ncorpus: {{source: '{source}'}}\n{extra}")


def pdf_bytes(text: str) -> bytes:
    """Return a real PDF with one page of text."""
    from reportlab.pdfgen.canvas import Canvas

    buffer = io.BytesIO()
    canvas = Canvas(buffer)
    for line, content in enumerate(text.split("\n")):
        canvas.drawString(72, 750 - 16 * line, content)
    canvas.showPage()
    canvas.save()
    return buffer.getvalue()


def encrypted_pdf_bytes(text: str, password: str) -> bytes:
    """Return a PDF that needs a password."""
    from pypdf import PdfReader, PdfWriter

    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(pdf_bytes(text))))
    writer.encrypt(password, algorithm="RC4-128")
    buffer = io.BytesIO()
    writer.write(buffer)
    return buffer.getvalue()


def docx_bytes(text: str) -> bytes:
    """Return a real Word document, one paragraph a line."""
    from docx import Document

    document = Document()
    for line in text.split("\n"):
        document.add_paragraph(line)
    buffer = io.BytesIO()
    document.save(buffer)
    return buffer.getvalue()


def nodes_table(texts: Sequence[str], **columns: Sequence[str]) -> pa.Table:
    """Return NODES a, b, c, … of one train document; `columns` are others' values, one a text."""
    number, ends = len(texts), accumulate(map(len, texts))
    rows = {
        "node_id": [chr(ord("a") + place) for place in range(number)],
        "doc_key": ["document"] * number,
        "cluster": ["cluster"] * number,
        "split": ["train"] * number,
        "title": [""] * number,
        "heading_path": [[]] * number,
        "text": list(texts),
        "end_char": list(ends),
        "tokens": [len(text.split()) for text in texts],
    }
    rows["start_char"] = [end - len(text) for end, text in zip(rows["end_char"], texts)]
    return pa.table({name: rows[name] for name in NODES.schema.names} | columns)
