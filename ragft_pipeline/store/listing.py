"""What a store holds, told without bringing it to this machine."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Iterator
from pathlib import Path

from ragft_pipeline.store.artifacts import ArtifactStore
from ragft_pipeline.store.publications import Manifest, Publications


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


def files_named(store: ArtifactStore, name: str) -> Iterator[tuple[str, str, str, Path]]:
    """Yield every artifact that has a file: asset, action, where it is kept, the file, fetched."""
    if store.publications is None:
        for file in sorted(store.root.glob(f"artifacts/*/*/{name}")):
            folder = store.root.joinpath(*file.relative_to(store.root).parts[:3])
            yield folder.parent.name, folder.name, str(file.parent), file
        return
    for title, manifest in published_artifacts(store, store.publications).items():
        _, asset, action = title.split("/")
        if name in manifest.files:
            file = store.publications.fetch_file(title, manifest, name)
            yield asset, action, f"{store.url}/{title}.json", file


def row_tables(store: ArtifactStore, family: str, name: str) -> Iterator[Path]:
    """Yield the tables of a name that this machine has not seen, newest first, each fetched.

    Args:
        family: a glob over asset names.
    """
    if store.publications is None:
        return
    found = published_artifacts(store, store.publications, family).items()
    for title, manifest in sorted(found, key=lambda item: -float(item[1].card.get("created", 0.0))):
        if name not in manifest.files or (store.root / title / name).is_file():
            continue
        if not store.publications.single(title, manifest, name).is_file():
            yield store.publications.fetch_file(title, manifest, name)


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
