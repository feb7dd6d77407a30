"""What Dagster shows already: a run that would find everything as it stands need not start it.

The last whole run that went well is written down beside Dagster's own files, so that another store,
another machine's Dagster, or one whose files are gone, is told again.
"""

from __future__ import annotations

import os
from pathlib import Path

from ragft_pipeline.corpus.snapshots import SnapshotStore
from ragft_pipeline.digests import digest_of
from ragft_pipeline.instance import BoundCorpus
from ragft_pipeline.settings import Settings
from ragft_pipeline.store import ArtifactStore
from ragft_pipeline.versions.staleness import out_of_date, states


def home_folder(settings: Settings) -> Path:
    """Return Dagster's home: $DAGSTER_HOME, else `dagster_home` in the store.

    Of a store on object storage, in this machine's cache of it.
    """
    home = os.environ.get("DAGSTER_HOME")
    return Path(home) if home else ArtifactStore(settings.store).root / "dagster_home"


def note_shown(corpus: BoundCorpus, version: str) -> None:
    """Write down that a run has shown all that a version has."""
    snapshots = SnapshotStore(ArtifactStore(corpus.settings.store))
    _file(corpus).write_text(_digest(snapshots, version), "utf-8")


def is_shown(corpus: BoundCorpus, version: str) -> bool:
    """Whether every asset of a version is up to date, and the last whole run showed just that."""
    path, settings = _file(corpus), corpus.settings
    snapshots = SnapshotStore(ArtifactStore(settings.store))
    if not path.is_file() or path.read_text("utf-8") != _digest(snapshots, version):
        return False
    return not out_of_date(states(version, snapshots, settings))


def _file(corpus: BoundCorpus) -> Path:
    return home_folder(corpus.settings) / f"last_whole_run_{corpus.name}.txt"


def _digest(snapshots: SnapshotStore, version: str) -> str:
    """Return a digest of what a version has, and of which versions there are."""
    links = snapshots.store.links(version)
    has = {name: [link.action, link.data_version] for name, link in sorted(links.items())}
    return digest_of(version, snapshots.versions(), has)
