"""One corpus: its settings, its store, and the names that it goes by in Dagster."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from typing_extensions import Self

from ragft_pipeline.errors import RagftError
from ragft_pipeline.settings import SETTINGS_FILE, Settings, load_settings

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
HEAVY_POOL = "heavy"


@dataclass(frozen=True)
class BoundCorpus:
    """A corpus and all that is tuned on it: what definitions, commands and steps are bound to.

    Attributes:
        name: of its partition set, jobs, sensors and schedule; one of its own in a deployment.
        settings_file: its ragft.yaml, read anew at each use, so that an edit counts at the next
            run; `""`: the defaults.
        store: folder or URL of its artifacts, instead of the file's `store`; no two share one.
        key_prefix: stands before its assets' keys.
        deps: keys of assets, `team/handbook`, that the documents come from.
        owners: of its assets, as Dagster writes them.
        automation: whether it follows its documents by sensors and conditions.
        pool: Dagster's pool of heavy steps; machines that share Dagster's storage name one each.

    Raises RagftError for a name that Dagster does not take and a file that does not exist.
    """

    name: str = "corpus"
    settings_file: str = SETTINGS_FILE
    store: str = ""
    key_prefix: Sequence[str] = ()
    deps: Sequence[str] = ()
    owners: Sequence[str] = ()
    automation: bool = True
    pool: str = field(default=HEAVY_POOL, kw_only=True)

    def __post_init__(self) -> None:
        for part in (self.name, *self.key_prefix):
            if not _NAME.fullmatch(part):
                raise RagftError(
                    f"corpus {part!r}: a name is letters, digits and underscores, a letter first"
                )
        for name in ("key_prefix", "deps", "owners"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if self.settings_file:
            file = Path(self.settings_file).absolute()
            if not file.is_file():
                raise RagftError(f"settings file {file} does not exist")
            object.__setattr__(self, "settings_file", str(file))
        if self.store and "://" not in self.store:
            object.__setattr__(self, "store", str(Path(self.store).expanduser().absolute()))

    @classmethod
    def here(cls, settings_file: str = "", store: str = "") -> Self:
        """Return the corpus of a terminal or a code location of its own.

        Of ragft.yaml in the working directory, or the defaults where there is none; what is not
        given comes from $RAGFT_SETTINGS, $RAGFT_STORE and $RAGFT_HEAVY_POOL.
        """
        named = settings_file or os.environ.get("RAGFT_SETTINGS", "")
        if not named and Path(SETTINGS_FILE).is_file():
            named = SETTINGS_FILE
        pool = os.environ.get("RAGFT_HEAVY_POOL") or HEAVY_POOL
        return cls(settings_file=named, store=store or os.environ.get("RAGFT_STORE", ""), pool=pool)

    @property
    def settings(self) -> Settings:
        """The settings as they are now."""
        return load_settings(self.settings_file or None, self.store)

    def named(self, what: str) -> str:
        """Return the name of one of its jobs, sensors or sets."""
        return f"{self.name}_{what}"

    def to_json(self) -> str:
        """Return what a step's process on another machine makes it of."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the corpus that `to_json` wrote."""
        return cls(**json.loads(text))
