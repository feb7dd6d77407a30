"""The kinds of files: which are read, by what, and what to do about the others."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


class SkippedDocument(Exception):
    """A document that cannot be used; its text is the reason, as the snapshot will state it."""


@dataclass(frozen=True)
class Reading:
    """What a reader made of a file: its text, its title where the format has one, its doubts.

    `metadata` is what it says about itself, above the text, in so many characters as `front` says.
    """

    text: str
    title: str = ""
    warnings: tuple[str, ...] = ()
    metadata: dict[str, Any] = field(default_factory=dict)
    front: int = 0


MARKDOWN = (".md", ".markdown", ".mdx")
HTML = (".html", ".htm", ".xhtml")
# kinds whose text comes out as Markdown, so that chunking can follow its headings
MARKDOWN_SUFFIXES = (
    *MARKDOWN, *HTML, ".docx", ".pptx", ".xlsx", ".csv", ".tsv", ".epub", ".odt", ".rst", ".adoc",
    ".asciidoc", ".ipynb", ".eml",
)  # fmt: skip
_DATA_SUFFIXES = (
    ".svg",
    ".drawio",
    ".json",
    ".jsonl",
    ".ndjson",
    ".xml",
    ".yaml",
    ".yml",
    ".toml",
    ".ini",
    ".log",
)
_SUBTITLES = (".vtt", ".srt")
READ_SUFFIXES = (*MARKDOWN_SUFFIXES, ".txt", ".text", ".pdf", ".rtf")

_IMAGES = (".png", ".jpg", ".jpeg", ".gif", ".webp", ".bmp", ".tif", ".tiff", ".ico",
           ".avif", ".heic")  # fmt: skip
_MEDIA = (".mp3", ".mp4", ".wav", ".ogg", ".m4a", ".mov", ".avi", ".mkv", ".webm", ".flac")
_ARCHIVES = (".zip", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar", ".tar", ".jar", ".whl")
_CODE = (".py", ".js", ".ts", ".jsx", ".tsx", ".css", ".scss", ".java", ".c", ".h", ".cpp", ".cs",
         ".go", ".rs", ".rb", ".php", ".sh", ".bat", ".ps1", ".sql", ".r", ".swift", ".kt", ".vue",
         ".lua", ".pl")  # fmt: skip
_NO_TEXT = {
    suffix: f"{what} ({suffix}): there is no text to read"
    for what, group in (("an image", _IMAGES), ("sound or film", _MEDIA), ("an archive", _ARCHIVES))
    for suffix in group
}
_AS_TEXT = {"data": (*_DATA_SUFFIXES, *_SUBTITLES), "source code": _CODE}
_SAVE_AS = {
    ".doc": "an old Word file: save it as .docx",
    ".dot": "an old Word file: save it as .docx",
    ".docm": "a Word file with macros: save it as .docx",
    ".ppt": "an old PowerPoint file: save it as .pptx",
    ".pptm": "a PowerPoint file with macros: save it as .pptx",
    ".xls": "an old Excel file: save it as .xlsx",
    ".xlsm": "an Excel file with macros: save it as .xlsx",
    ".xlsb": "a binary Excel file: save it as .xlsx",
    ".ods": "an OpenDocument spreadsheet: save it as .xlsx or .csv",
    ".odp": "an OpenDocument presentation: save it as .pptx",
    ".pages": "a Pages file: export it as .docx",
    ".key": "a Keynote file: export it as .pptx",
    ".numbers": "a Numbers file: export it as .xlsx",
    ".msg": "an Outlook message: save it as .eml",
    ".mbox": "a mailbox: export its messages as .eml",
    ".mobi": "an e-book for Kindle: convert it to .epub",
    ".azw3": "an e-book for Kindle: convert it to .epub",
    ".djvu": "a scan: convert it to a PDF with text",
    ".mht": "a web archive: save the page as .html",
    ".mhtml": "a web archive: save the page as .html",
    ".chm": "compiled help: decompile it to .html",
    ".ps": "PostScript: convert it to PDF",
    ".xps": "an XPS file: print it to PDF",
}


def reason_unread(suffix: str, read: tuple[str, ...]) -> str | None:
    """Return why files of a suffix (in lower case) are not read, None where they are.

    Args:
        read: corpus.suffixes; kinds that are no text are not read even where they stand in it.
    """
    never = _SAVE_AS.get(suffix) or _NO_TEXT.get(suffix)
    if never is not None or suffix in read:
        return never
    if suffix in READ_SUFFIXES:
        return f"{suffix} is not in corpus.suffixes"
    if suffix == "":
        return "a name without a suffix: rename it to .md or .txt where it is text"
    what = next((what for what, group in _AS_TEXT.items() if suffix in group), "no known kind")
    return f"{what} ({suffix}): add {suffix} to corpus.suffixes to read it as text"


def needs(package: str) -> SkippedDocument:
    """Return what to say of a known kind whose reader is not installed."""
    return SkippedDocument(
        f"its reader ({package}) is not installed: pip install 'ragft-pipeline[formats]'"
    )
