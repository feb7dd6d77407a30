"""Housekeeping on object storage: publications that nothing kept needs, and objects of none.

A publication goes by its manifest; what it named goes where no other manifest names it. What was
used, or written, in the last day stays: somebody may be about to rely on it. Frozen documents,
versions and the history stay for ever.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from ragft_pipeline.store.artifacts import ArtifactStore
from ragft_pipeline.store.housekeeping import unused_before
from ragft_pipeline.store.listing import published, published_artifacts
from ragft_pipeline.store.publications import Manifest, Publications, object_name
from ragft_pipeline.store.remote import Listed


@dataclass(frozen=True)
class Unneeded:
    """A publication, or all objects of none (named `objects`), and the bytes that would go."""

    name: str
    size: int


def find_unneeded(
    store: ArtifactStore,
    publications: Publications,
    needed: Collection[str],
    now: float | None = None,
) -> list[Unneeded]:
    """Return the artifacts and bundles that are not needed and that nobody used for a day.

    Args:
        needed: names such as `artifacts/<asset>/<action>` and `bundles/<digest>`.
    """
    limit = unused_before(now)
    objects = publications.remote.listed("objects")
    manifests = _manifests(store, publications)
    used = _last_used(publications)
    going = [
        name
        for name in sorted(manifests)
        if name not in needed and not name.startswith("freezes/") and used.get(name, limit) < limit
    ]
    staying = _named(m for n, m in manifests.items() if n not in going)
    found, counted = [], set(staying)
    for name in going:
        alone = manifests[name].objects - counted
        counted |= alone
        found.append(Unneeded(name, sum(_size(objects, sha) for sha in alone)))
    loose = _loose(objects, counted, limit)
    if loose:
        found.append(Unneeded("objects", sum(objects[name].size for name in loose)))
    return found


def withdraw(
    store: ArtifactStore,
    publications: Publications,
    unneeded: Collection[Unneeded],
    now: float | None = None,
) -> None:
    """Remove publications, but for those used meanwhile, and then the objects that none names."""
    limit = unused_before(now)
    remote = publications.remote
    going = [item.name for item in unneeded if item.name != "objects"]
    for name in going:
        stamps = [remote.exists(f"{name}.{end}") for end in ("used", "json")]
        if all(stamp is None or stamp.modified < limit for stamp in stamps):
            remote.delete(f"{name}.json")
            remote.delete(f"{name}.used")
    # Objects are listed before the manifests are read, so that one that was written for a
    # publication since is not among them.
    objects = remote.listed("objects")
    loose = _loose(objects, _named(_manifests(store, publications).values()), limit)
    remote.each(lambda name: _delete_if_old(publications, f"objects/{name}", limit), loose)


def _delete_if_old(publications: Publications, name: str, limit: float) -> None:
    entry = publications.remote.exists(name)
    if entry is not None and entry.modified < limit:  # else it was uploaded anew
        publications.remote.delete(name)


def _manifests(store: ArtifactStore, publications: Publications) -> dict[str, Manifest]:
    """Return every manifest there is, those of corpus versions too."""
    return {
        **published_artifacts(store, publications),
        **published(store, publications, "bundles"),
        **published(store, publications, "freezes"),
    }


def _last_used(publications: Publications) -> dict[str, float]:
    used: dict[str, float] = {}
    for kind in ("artifacts", "bundles"):
        for name, entry in publications.remote.listed(kind).items():
            title = f"{kind}/{name.rpartition('.')[0]}"
            used[title] = max(entry.modified, used.get(title, 0.0))
    return used


def _loose(objects: Mapping[str, Listed], named: Collection[str], limit: float) -> list[str]:
    return [
        name
        for name, entry in objects.items()
        if name.rpartition("/")[2] not in named and entry.modified < limit
    ]


def _named(manifests: Iterable[Manifest]) -> set[str]:
    return {sha for manifest in manifests for sha in manifest.objects}


def _size(objects: Mapping[str, Listed], sha: str) -> int:
    entry = objects.get(object_name(sha).removeprefix("objects/"))
    return entry.size if entry else 0
