"""Which document a person means by a path, however it is written."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from urllib.parse import unquote


class DocumentNames:
    """The paths of a corpus, found by the names that people give them."""

    def __init__(self, paths: Iterable[str]) -> None:
        self._exact = dict.fromkeys(paths)
        self._plain: dict[str, list[str]] = {}
        self._ends: dict[str, list[str]] = {}
        for path in self._exact:
            plain = _plain(path)
            self._plain.setdefault(plain, []).append(path)
            parts = plain.split("/")
            for at in range(1, len(parts)):
                self._ends.setdefault("/".join(parts[at:]), []).append(path)

    def find(self, name: str) -> list[str]:
        """Return the documents that a name may mean: one where it is clear, none, or several.

        In this order: the path itself; the path in another spelling (`./`, backslashes, NFD,
        case, percent signs); one that lies below folders which the corpus does not have, such as
        `docs/` or `/srv/handbook/`; the end of one path.
        """
        if name in self._exact:
            return [name]
        for plain in dict.fromkeys((_plain(name), _plain(unquote(name)))):
            parts = plain.split("/")
            for at in range(len(parts)):
                if found := self._plain.get("/".join(parts[at:])):
                    return found
            if found := self._ends.get(plain):
                return found
        return []


def _plain(path: str) -> str:
    parts = unicodedata.normalize("NFC", path).casefold().replace("\\", "/").split("/")
    return "/".join(part for part in parts if part not in ("", "."))
