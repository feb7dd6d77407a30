"""What a publication will do, before it does it."""

from __future__ import annotations

from dataclasses import dataclass

from ragft_pipeline.publishing.content import Content, same_but_payload
from ragft_pipeline.publishing.manifest import State
from ragft_pipeline.publishing.target import Target

_POINTS_PER_SECOND = 500.0  # where no generation says how fast the store took it
_BYTES_PER_SECOND = 20e6
_SAMPLE = 200  # points whose sizes are measured


@dataclass(frozen=True)
class Plan:
    """A publication.

    Attributes:
        event: `nothing` (it is live), `label` (equal points of another bundle), `switch` (the
            generation is there, whole) or `sync`.
        write, update, delete: ids of points; of those to update the payload alone is written.
        kept: points that stay as they are.
        copied: points that the live generation has, and that are written beside it all the same.
        size: bytes to write, by a sample of the points.
        seconds: how long it may take, by the rate of the generation before.
    """

    event: str
    write: tuple[str, ...] = ()
    update: tuple[str, ...] = ()
    delete: tuple[str, ...] = ()
    kept: int = 0
    copied: int = 0
    size: int = 0
    seconds: float = 0.0

    def lines(self, collection: str) -> str:
        """Return the plan as a person reads it."""
        if self.event == "nothing":
            return f"{collection}: the champion is live, nothing to do"
        if self.event == "label":
            return f"{collection}: the same points by another bundle, only its name is written"
        if self.event == "switch":
            return f"{collection}: its generation is whole, only the switch is to do"
        copied = f", {self.copied} written beside the live ones" if self.copied else ""
        updated = f"{len(self.update)} to update but for their vectors, " if self.update else ""
        return (
            f"{collection}: {len(self.write)} rows to write ({self.size / 1e6:.1f} MB), {updated}"
            f"{len(self.delete)} to delete, {self.kept} kept{copied}; "
            f"about {max(1, round(self.seconds))} s"
        )


def plan(target: Target, content: Content, state: State) -> Plan:
    """Return what publishing a content will do; nothing is written."""
    live, previous = state.live, state.previous
    if live is not None and live.content == content.digest:
        return Plan("nothing" if live.bundle == content.about.bundle else "label")
    if previous is not None and previous.content == content.digest:
        return Plan("switch")
    origin = target.origin(content.manifest(state.next_number(content.family)), state)
    stored = target.stored(origin.manifest) if origin.manifest else {}
    write, update, delete = difference(stored, content)
    every = max(1, len(write) // _SAMPLE)
    sizes = [point.size for point in content.points(write[::every])]
    size = round(sum(sizes) / max(1, len(sizes)) * len(write))
    rate = next(
        (m.points_per_second for m in (live, previous) if m and m.points_per_second),
        _POINTS_PER_SECOND,
    )
    kept = len(content) - len(write) - len(update)
    copied = kept if origin.copied else 0
    whole = size * (len(write) + copied) / max(1, len(write))
    rows = len(write) + len(update) + copied + len(delete)
    seconds = max(rows / rate, whole / _BYTES_PER_SECOND)
    return Plan("sync", write, update, delete, kept, copied, size, seconds)


def difference(
    stored: dict[str, str], content: Content
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Return the ids of points to write, to update but for their vectors and terms, to delete.

    Args:
        stored: the digests of the points that are there, by their ids.
    """
    wanted = content.digests
    other = [id_ for id_ in content.ids if stored.get(id_) != wanted[id_]]
    update = [id_ for id_ in other if same_but_payload(stored.get(id_), wanted[id_])]
    write = [id_ for id_ in other if not same_but_payload(stored.get(id_), wanted[id_])]
    delete = sorted(id_ for id_ in stored if id_ not in wanted)
    return tuple(write), tuple(update), tuple(delete)
