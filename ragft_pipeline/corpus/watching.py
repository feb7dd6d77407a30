"""Seeing that a corpus folder changed, cheaply and only once it has come to rest."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from ragft_pipeline.corpus.listing import list_documents
from ragft_pipeline.corpus.readers import READER_VERSION
from ragft_pipeline.corpus.sources import Source
from ragft_pipeline.digests import digest_of
from ragft_pipeline.settings import CorpusSettings

_STAMPS = (
    "size", "mtime", "LastModified", "last_modified", "updated", "ETag", "etag", "md5Hash",
    "mode", "uid", "gid",
)  # fmt: skip


@dataclass(frozen=True)
class Watch:
    """What the sensor remembers between ticks: the last listing, since when, and the one frozen."""

    listing: str = ""
    since: float = 0.0
    frozen: str = ""

    @classmethod
    def from_cursor(cls, cursor: str | None) -> Watch:
        """Read a sensor's cursor; a cursor of another shape starts afresh."""
        try:
            return cls(**json.loads(cursor or "{}"))
        except (ValueError, TypeError):
            return cls()

    def to_cursor(self) -> str:
        """Return the cursor to store."""
        return json.dumps(asdict(self))

    def see(self, listing: str, now: float, debounce: float) -> tuple[Watch, bool]:
        """Take a listing made at `now` (seconds).

        Returns the new state, and whether to freeze: the listing is not the frozen one and has not
        changed for `debounce` seconds, so that a copy in progress is not frozen half-way.
        """
        since = self.since if listing == self.listing else now
        state = Watch(listing, since, self.frozen)
        return state, listing != self.frozen and now - since >= debounce

    def froze(self) -> Watch:
        """Return the state after the current listing was frozen."""
        return Watch(self.listing, self.since, self.listing)


def listing_digest(source: Source, settings: CorpusSettings) -> str:
    """Return a digest of paths, sizes, time stamps and rights, and of how documents are read.

    It is a reason to look, not proof of a change, so all settings of the corpus are in it. Whether
    the content changed is decided by freezing, which returns an old version where it did not.
    """
    seen = []
    paths = [f"{source.root}/{one.path}" for one in list_documents(source, settings)]
    for path in [*paths, *([source.gold] if source.gold else [])]:
        try:
            facts = source.fs.info(path)
        except OSError:
            continue
        seen.append([path, [str(facts.get(name)) for name in _STAMPS]])
    return digest_of(seen, settings.digest(), READER_VERSION)
