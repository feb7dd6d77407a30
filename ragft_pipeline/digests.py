"""Digests of values and of files."""

from __future__ import annotations

import hashlib
import json
from json.encoder import encode_basestring
from pathlib import Path
from typing import Any

_JSON = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def digest_of(*parts: Any) -> str:
    """Return the SHA-256 (hex) of JSON-serialisable values, told apart by position."""
    for part in parts:
        if type(part) is not str:
            data = _JSON.encode(parts)
            break
    else:  # as above, in half the time
        data = f"[{','.join(map(encode_basestring, parts))}]"
    return hashlib.sha256(data.encode("utf-8", "surrogatepass")).hexdigest()


def text_key(text: str) -> str:
    """Return the row key of a text, whichever table it is of: 32 hexadecimal digits."""
    return digest_of(text)[:32]


def file_sha256(path: Path) -> str:
    """Return the SHA-256 (hex) of a file's bytes."""
    with path.open("rb") as file:
        if hasattr(hashlib, "file_digest"):
            return hashlib.file_digest(file, "sha256").hexdigest()
        sha = hashlib.sha256()
        while block := file.read(1 << 20):
            sha.update(block)
        return sha.hexdigest()
