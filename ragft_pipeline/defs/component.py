"""`ragft_pipeline.TunedRetriever`: a corpus as a Dagster component, configured in defs.yaml."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import dagster as dg
import yaml
from pydantic import Field

from ragft_pipeline.defs.corpus import Corpus
from ragft_pipeline.errors import RagftError, one_line
from ragft_pipeline.instance import HEAVY_POOL
from ragft_pipeline.settings import SETTINGS_FILE
from ragft_pipeline.starting import DOCUMENTS, write_project

_TYPE = "ragft_pipeline.TunedRetriever"
_DEFS_FILE = "defs.yaml"
_DEFS = """\
type: {type}

attributes:
  name: {name}  # of its versions, jobs and sensors: one of its own in a deployment
  # What else may stand here, with its default:
  # key_prefix: [{name}]   # before its assets' keys
  # settings: ragft.yaml   # by its path from this folder
  # store: null            # artifacts, a folder or URL of its own: "{{{{ env.SOME_STORE }}}}";
  #                        #   null: as ragft.yaml says
  # deps: []               # assets that the documents come from: [team/handbook_files]
  # owners: []             # [team:search]
  # automation: true       # follow the documents by sensors and conditions
  # pool: heavy            # Dagster's pool of heavy steps: limit it to 1 in dagster.yaml
"""


class _Scaffolder(dg.Scaffolder):
    """Writes a commented defs.yaml and a short ragft.yaml: `dg scaffold defs`."""

    def scaffold(self, request: dg.ScaffoldRequest) -> None:
        """Write both files."""
        folder = request.target_path
        text = _DEFS.format(type=_TYPE, name=folder.name)
        (folder / _DEFS_FILE).write_text(text, encoding="utf-8")
        write_project(folder, DOCUMENTS)


@dg.scaffold_with(_Scaffolder)
class TunedRetriever(dg.Component, dg.Model, dg.Resolvable):
    """The tuned retrieval of one corpus: its versions, models, evaluation and champion."""

    name: Annotated[str, Field(description="Names its versions, jobs and sensors.")]
    key_prefix: Annotated[
        list[str] | None, Field(description="Before its assets' keys; by default the name.")
    ] = None
    settings: Annotated[
        str, Field(description="Its ragft.yaml, by its path from defs.yaml's folder.")
    ] = SETTINGS_FILE
    store: Annotated[
        str | None, Field(description="Folder or URL of its artifacts, if not ragft.yaml's.")
    ] = None
    deps: Annotated[
        Sequence[str], Field(description="Keys of assets that the documents come from.")
    ] = ()
    owners: Annotated[Sequence[str], Field(description="Owners of its assets.")] = ()
    automation: Annotated[
        bool, Field(description="Whether sensors and conditions follow the documents.")
    ] = True
    pool: Annotated[str, Field(description="Dagster's pool of heavy steps.")] = HEAVY_POOL

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """Return the corpus's definitions."""
        return self.corpus(context.path).definitions()

    def corpus(self, folder: Path) -> Corpus:
        """Return the corpus of a component that stands in a folder."""
        return Corpus(
            self.name,
            str(folder / self.settings),
            self.store or "",
            key_prefix=[self.name] if self.key_prefix is None else self.key_prefix,
            deps=self.deps,
            owners=self.owners,
            automation=self.automation,
            pool=self.pool,
        )


def corpus_named(name: str, folder: Path) -> Corpus:
    """Return the corpus of a component below a folder by its name.

    Raises RagftError where none or several have it, or its attributes are wrong.
    """
    found = list(_attributes(folder))
    named = [(where, given) for where, given in found if given.get("name") == name]
    if len(named) > 1:
        raise RagftError(
            f"several corpora are named {name!r}: {', '.join(str(w) for w, _ in named)}"
        )
    if not named:
        known = ", ".join(sorted(str(given.get("name")) for _, given in found)) or "none"
        raise RagftError(
            f"no {_DEFS_FILE} below {folder} names a corpus {name!r}; there are: {known}"
        )
    ((where, given),) = named
    try:
        component = TunedRetriever.resolve_from_dict(given)
    except Exception as error:  # of Dagster's, whatever its kind: a person wrote the file
        raise RagftError(f"{where / _DEFS_FILE}: {one_line(error)}") from None
    return component.corpus(where)


def _attributes(folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield the folders of components below a folder, and what their defs.yaml says."""
    for file in sorted(folder.rglob(_DEFS_FILE)):
        if any(part.startswith(".") for part in file.relative_to(folder).parts):
            continue
        try:
            documents = list(yaml.safe_load_all(file.read_text(encoding="utf-8")))
        except (yaml.YAMLError, UnicodeDecodeError):  # some other component's; dg check names it
            continue
        for document in documents:
            if isinstance(document, dict) and document.get("type") == _TYPE:
                yield file.parent, document.get("attributes") or {}
