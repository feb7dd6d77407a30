"""Documents that are ZIP archives of XML; what unpacks to too much, or defines entities, is not
opened."""

from __future__ import annotations

import io
import zipfile
from xml.etree import ElementTree

from ragft_pipeline.corpus.readers.kinds import SkippedDocument
from ragft_pipeline.settings import CorpusSettings

_MAX_UNZIPPED = 5  # times corpus.max_file_mb
_MAX_MEMBERS = 20_000
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_ENTITY = tuple("<!ENTITY".encode(name) for name in ("ascii", "utf-16-le", "utf-16-be"))


def open_archive(data: bytes, kind: str, settings: CorpusSettings) -> zipfile.ZipFile:
    """Open a document's archive. Raises SkippedDocument where it is none, or a bomb.

    Args:
        kind: what it should be, as the reason will name it.
    """
    if data.startswith(_OLE):
        raise SkippedDocument(
            f"not a {kind} file: encrypted, or of an old Office; save it as {kind} without password"
        )
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError):
        raise SkippedDocument(f"not a {kind} file") from None
    members = archive.infolist()
    unzipped = sum(entry.file_size for entry in members)
    if unzipped > _MAX_UNZIPPED * settings.max_file_mb * 1e6:
        raise SkippedDocument(f"unpacks to {unzipped / 1e6:.0f} MB")
    if len(members) > _MAX_MEMBERS:
        raise SkippedDocument(f"unpacks to {len(members)} files")
    for entry in members:
        if entry.filename.lower().endswith((".xml", ".rels", ".opf", ".ncx")):
            _refuse_entities(member(archive, entry.filename))
    return archive


def member(archive: zipfile.ZipFile, name: str) -> bytes:
    """Return a member's bytes. Raises SkippedDocument where there is none, or it is damaged."""
    try:
        return archive.read(name)
    except KeyError:
        raise SkippedDocument(f"a damaged archive: {name} is missing") from None
    except Exception as error:  # zipfile and zlib raise many kinds
        raise SkippedDocument(f"a damaged archive ({type(error).__name__})") from None


def xml_of(archive: zipfile.ZipFile, name: str) -> ElementTree.Element:
    """Return a member's XML. Raises SkippedDocument where it is none."""
    try:
        return ElementTree.fromstring(member(archive, name))
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise SkippedDocument(f"{name} in it is not XML ({type(error).__name__})") from None


def _refuse_entities(data: bytes) -> None:
    if any(mark in data for mark in _ENTITY):
        raise SkippedDocument("its XML defines entities")
