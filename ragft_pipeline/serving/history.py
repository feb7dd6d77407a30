"""Which bundle is served: an append-only history whose last entry is the pointer.

Every change is one document, `champion/000017.json`, that appears whole under a number nobody else
has (`Records.create`). So the pointer and its history cannot disagree, two processes cannot both
take a number, and a kill at any moment leaves the last entry in force.
"""

from __future__ import annotations

import getpass
import json
import time
from dataclasses import asdict, dataclass, field
from typing import Literal

from ragft_pipeline.errors import RagftError
from ragft_pipeline.store import ArtifactStore

Event = Literal["promoted", "refreshed", "kept", "forced", "rolled back"]
_FOLDER = "champion"


@dataclass(frozen=True)
class Entry:
    """One decision about what is served.

    Attributes:
        number: its place in the history, from 1.
        event: `promoted` (passed the gate), `refreshed` (the same models over new documents),
            `kept` (the gate refused a candidate; what was served goes on), `forced` or
            `rolled back` by a person.
        bundle: digest of the bundle that is served from here on.
        version: the corpus version that the decision was made for.
        origin: number of the entry that first put this bundle in its place; a roll-back goes to
            what stood before that.
        why: one line for people.
        who: the user or the pipeline.
        when: seconds since the epoch.
        candidate: what was judged, where something was.
        metrics: figures of the decision, flat.
    """

    number: int
    event: Event
    bundle: str
    version: str
    origin: int
    why: str
    who: str
    when: float
    candidate: str = ""
    metrics: dict[str, float] = field(default_factory=dict)


class History:
    """The decisions under one store, oldest first."""

    def __init__(self, store: ArtifactStore) -> None:
        self._records = store.records

    @property
    def poll_seconds(self) -> float:
        """How long a look for a new entry holds; 0 where looking costs nothing."""
        return self._records.poll_seconds

    def entries(self) -> list[Entry]:
        """Return every entry."""
        return [_entry(data) for _, data in sorted(self._records.read_all(_FOLDER).items())]

    def current(self) -> Entry | None:
        """Return the entry in force, or None before the first promotion."""
        names = self._records.names(_FOLDER)
        data = self._records.read(f"{_FOLDER}/{names[-1]}") if names else None
        return _entry(data) if data is not None else None

    def require_current(self) -> Entry:
        """Return the entry in force; RagftError where nothing was promoted yet."""
        entry = self.current()
        if entry is None:
            raise RagftError("nothing is promoted yet: run `ragft run`, then `ragft champion`")
        return entry

    def append(
        self,
        after: Entry | None,
        event: Event,
        bundle: str,
        version: str,
        why: str,
        *,
        who: str = "pipeline",
        candidate: str = "",
        metrics: dict[str, float] | None = None,
        origin: int | None = None,
    ) -> Entry:
        """Append a decision made on the state `after`.

        Args:
            origin: of a roll-back, the target's; else found from what changes.

        Raises RagftError where another decision was made meanwhile: look again, and decide anew.
        """
        number = after.number + 1 if after else 1
        if origin is None:
            origin = after.origin if after is not None and after.bundle == bundle else number
        entry = Entry(
            number, event, bundle, version, origin, why, who, time.time(), candidate,
            metrics or {},
        )  # fmt: skip
        data = json.dumps(asdict(entry), indent=1, sort_keys=True).encode()
        if not self._records.create(f"{_FOLDER}/{number:06d}.json", data):
            raise RagftError("the champion was changed meanwhile: look again")
        return entry

    def judgements(self) -> int:
        """Return how many candidates were judged against the models in force.

        A promotion and a forced change begin a new count; a refresh does not, and a roll-back goes
        on with that of what it went back to, with what was judged since.
        """
        entries, count = self.entries(), 0
        place = len(entries) - 1
        while place >= 0 and entries[place].event not in ("promoted", "forced"):
            if entries[place].event == "rolled back":
                target = entries[place].origin - 1
                since = entries[target + 1 : place]
                count += sum(entry.event in ("promoted", "kept") for entry in since)
                place = target
            else:
                count += entries[place].event == "kept"
                place -= 1
        return count

    def rolled_back(self) -> str | None:
        """Return the bundle that a person took back last; None where more was promoted since."""
        entries = self.entries()
        for before, entry in zip(entries[-2::-1], entries[:0:-1]):
            if entry.event == "rolled back":
                return before.bundle
            if entry.event in ("promoted", "forced"):
                break
        return None

    def before(self) -> Entry:
        """Return the entry that stood before the bundle in force; RagftError where none did."""
        now = self.require_current()
        if now.origin < 2:
            raise RagftError(f"nothing was served before bundle {now.bundle[:12]}")
        return self.entries()[now.origin - 2]

    def roll_back(self, why: str) -> Entry:
        """Serve what stood before the bundle in force, and return the new entry.

        Raises RagftError where nothing stood before.
        """
        now, target = self.require_current(), self.before()
        return self.append(
            now, "rolled back", target.bundle, target.version, why,
            who=current_user(), origin=target.origin,
        )  # fmt: skip


def current_user() -> str:
    """Return the name of the person at the terminal."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def _entry(data: bytes) -> Entry:
    try:
        return Entry(**json.loads(data))
    except (ValueError, TypeError):
        raise RagftError("an entry of the champion's history is damaged") from None
