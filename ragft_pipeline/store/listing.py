"""What a store holds, told without bringing it to this machine."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Iterator
from pathlib import Path

from ragft_pipeline.store.artifacts import ArtifactStore
from ragft_pipeline.store.publications import Manifest, Publications
from ragft_pipeline.store.segments import digest_in, segments_below

_LOOKED_AT = 8


def published(store: ArtifactStore, publications: Publications, kind: str) -> dict[str, Manifest]:
    """Return the manifests that lie in a folder of object storage, by name: bundles, say."""
    found = store.records.read_all(kind)
    if kind == "freezes":  # those that go back to an earlier version hold no files
        found = {name: data for name, data in found.items() if "files" in json.loads(data)}
    names = {f"{kind}/{name.removesuffix('.json')}": data for name, data in found.items()}
    return {n: Manifest.parse(d, f"{store.url}/{n}.json") for n, d in names.items()}


def published_artifacts(
    store: ArtifactStore, publications: Publications, family: str = "*"
) -> dict[str, Manifest]:
    """Return the manifests of the artifacts of all assets that a glob names, by name."""
    assets = {family}
    if any(sign in family for sign in "*?["):
        listed = publications.remote.listed("artifacts")
        assets = set(fnmatch.filter({name.partition("/")[0] for name in listed}, family))
    found: dict[str, Manifest] = {}
    for asset in sorted(assets):
        found |= published(store, publications, f"artifacts/{asset}")
    return found


def files_named(store: ArtifactStore, name: str) -> Iterator[tuple[str, str, Path]]:
    """Yield every file of a name in an artifact or a bundle, wherever it lies in it.

    That is: the publication (`artifacts/<asset>/<action>`, `bundles/<digest>`), the file's name in
    it, and the file, fetched.
    """
    if store.publications is None:
        for pattern, depth in (("artifacts/*/*", 3), ("bundles/*", 2)):
            for file in sorted(store.root.glob(f"{pattern}/**/{name}")):
                parts = file.relative_to(store.root).parts
                if not parts[depth - 1].startswith("."):  # being removed
                    yield "/".join(parts[:depth]), "/".join(parts[depth:]), file
        return
    found = published_artifacts(store, store.publications)
    found |= published(store, store.publications, "bundles")
    for title, manifest in found.items():
        for own in sorted(manifest.files):
            if own.rpartition("/")[2] == name:
                yield title, own, store.publications.fetch_file(title, manifest, own)


def row_tables(store: ArtifactStore, family: str, title: str) -> Iterator[Path]:
    """Yield the segments of a row table that this machine has not, newest first, each fetched.

    Of artifacts that have such, the newest eight hold nearly all that is wanted.

    Args:
        family: a glob over asset names.
        title: how the segments' names begin.
    """
    if store.publications is None:
        return
    here = segments_below(store.root)
    found = published_artifacts(store, store.publications, family).items()
    newest = sorted(found, key=lambda item: -float(item[1].card.get("created", 0.0)))
    looked_at = 0
    for name, manifest in newest:
        new = [f for f in manifest.files if f.startswith(title) and digest_in(f) not in here]
        new = [f for f in new if not (store.root / name / f).is_file()]  # of before segments
        for file in new:
            if not store.publications.single(name, manifest, file).is_file():
                yield store.publications.fetch_file(name, manifest, file)
        looked_at += bool(new)
        if looked_at == _LOOKED_AT:
            return


def linked_versions(store: ArtifactStore) -> dict[str, float]:
    """Return the versions that use anything, and when each was last given something (epoch)."""
    if store.publications is None:
        folders = (store.root / "versions").glob("*")
        return {folder.name: folder.stat().st_mtime for folder in folders}
    last: dict[str, float] = {}
    for name, entry in store.publications.remote.listed("versions").items():
        version = name.partition("/")[0]
        last[version] = max(entry.modified, last.get(version, 0.0))
    return last
