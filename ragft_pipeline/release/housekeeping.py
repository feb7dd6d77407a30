"""What may go: all that is not served, that nothing kept needs and nobody used for a day."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from ragft_pipeline.serving.bundle import Bundle, BundleStore
from ragft_pipeline.serving.history import History
from ragft_pipeline.store import ArtifactStore
from ragft_pipeline.store.housekeeping import (
    Garbage,
    find_garbage,
    garbage_of,
    last_used,
    needed_artifacts,
    remove,
    unused_before,
)
from ragft_pipeline.store.withdrawal import find_unneeded, withdraw

ROLL_BACKS = 5  # different bundles that can be gone back to


def kept_bundles(store: ArtifactStore, kept_versions: Iterable[str]) -> list[Bundle]:
    """Return the bundles that a roll-back or a promotion by hand may ask for."""
    served = [entry.bundle for entry in reversed(History(store).entries())]
    wanted = list(dict.fromkeys(served))[: ROLL_BACKS + 1]
    for version in kept_versions:
        link = store.linked(version, "champion")
        wanted += [str(link.facts["candidate"]), str(link.facts["bundle"])] if link else []
    found = [BundleStore(store).peek(digest) for digest in dict.fromkeys(wanted)]
    return [bundle for bundle in found if bundle is not None]  # without those removed by hand


def unused_bundles(
    store: ArtifactStore, kept: Collection[Bundle], now: float | None = None
) -> list[Garbage]:
    """Return the bundles that are not kept and that nobody has used for a day."""
    names, limit = {bundle.digest for bundle in kept}, unused_before(now)
    folders = sorted(BundleStore(store).root.glob("*"))
    old = [path for path in folders if path.name not in names and last_used(path) < limit]
    return garbage_of(old, limit)


def clean_up(
    store: ArtifactStore, kept: Collection[str], delete: bool
) -> Iterator[tuple[int, str]]:
    """Yield the size (bytes) and the name of all that the kept versions do not need.

    Of a store on object storage this machine's copies come first, by their paths in its cache.

    Args:
        delete: removes it as well, once all was named.
    """
    bundles = kept_bundles(store, kept)
    measured = {action for bundle in bundles for action in bundle.measured.items()}
    garbage = find_garbage(store, kept, also_needed=measured) + unused_bundles(store, bundles)
    for item in garbage:
        yield item.size, str(item.path.relative_to(store.root))
    unneeded = []
    if publications := store.publications:
        needed = {f"bundles/{bundle.digest}" for bundle in bundles}
        artifacts = needed_artifacts(store, kept) | measured
        needed |= {f"artifacts/{asset}/{action}" for asset, action in artifacts}
        unneeded = find_unneeded(store, publications, needed)
        for thing in unneeded:
            yield thing.size, f"{store.url}/{thing.name}"
    if delete:
        remove(garbage)
        if publications := store.publications:
            withdraw(store, publications, unneeded)
