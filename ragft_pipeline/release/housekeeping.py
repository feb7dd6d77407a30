"""Which bundles are needed: those that were served last, and the kept versions' candidates."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from ragft_pipeline.errors import RagftError
from ragft_pipeline.serving.bundle import Bundle, BundleStore
from ragft_pipeline.serving.history import History
from ragft_pipeline.store import ArtifactStore
from ragft_pipeline.store.housekeeping import Garbage, last_used, size_of, unused_before

ROLL_BACKS = 5  # different bundles that can be gone back to


def kept_bundles(store: ArtifactStore, kept_versions: Iterable[str]) -> list[Bundle]:
    """Return the bundles that a roll-back or a promotion by hand may ask for."""
    served = [entry.bundle for entry in reversed(History(store).entries())]
    wanted = list(dict.fromkeys(served))[: ROLL_BACKS + 1]
    for version in kept_versions:
        link = store.linked(version, "champion")
        wanted += [str(link.facts["candidate"]), str(link.facts["bundle"])] if link else []
    found = []
    for digest in dict.fromkeys(wanted):
        try:
            found.append(BundleStore(store).load(digest))
        except RagftError:  # removed by hand
            continue
    return found


def unused_bundles(
    store: ArtifactStore, kept: Collection[Bundle], now: float | None = None
) -> list[Garbage]:
    """Return the bundles that are not kept and that nobody has used for a day."""
    names, limit = {bundle.digest for bundle in kept}, unused_before(now)
    folders = sorted(BundleStore(store).root.glob("*"))
    old = [path for path in folders if path.name not in names and last_used(path) < limit]
    return [Garbage(path, size_of(path), limit) for path in old]
