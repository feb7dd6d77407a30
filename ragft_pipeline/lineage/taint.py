"""Which models a document, or a question of a log, reached: each lists what trained it."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from ragft_pipeline import schemas
from ragft_pipeline.corpus.snapshots import SnapshotStore
from ragft_pipeline.errors import RagftError
from ragft_pipeline.questions.log import question_id
from ragft_pipeline.serving.history import History
from ragft_pipeline.store import Link
from ragft_pipeline.store.files import write_json
from ragft_pipeline.store.listing import files_named

TRAINED_ON_FILE = "trained_on.json"
_ASKED = "asked:"


@dataclass(frozen=True)
class TaintedModel:
    """A model that a document helped to train, where it is, and the versions that use it.

    A model of a bundle, which stays when its artifact goes, is of the asset `bundle`; `served` says
    whether that bundle is the one in service.
    """

    asset: str
    place: str
    versions: list[str]
    served: bool = False


def record_documents(
    model: Path,
    *nodes: pa.Table,
    chosen_with: Path | None = None,
    questions: Collection[str] = (),
) -> None:
    """Write the digests (doc_key) of the documents behind NODES tables into a model folder.

    Args:
        chosen_with: the folder of a model whose own documents and questions count too.
        questions: ids of what people asked that trained it as well.
    """
    keys = {key for table in nodes for key in table.column("doc_key").to_pylist()}
    keys |= {f"{_ASKED}{name}" for name in questions}
    if chosen_with is not None and (chosen_with / TRAINED_ON_FILE).is_file():
        keys |= set(json.loads((chosen_with / TRAINED_ON_FILE).read_text(encoding="utf-8")))
    write_json(model / TRAINED_ON_FILE, sorted(keys))


def document_keys(snapshots: SnapshotStore, document: str) -> set[str]:
    """Return every text that ever stood at a path, or the one whose digest was given.

    Raises RagftError where no version has such a document.
    """
    keys = {
        row["doc_key"]
        for version in snapshots.versions()
        for row in snapshots.load(version).table(schemas.DOCUMENTS).to_pylist()
        if document in (row["path"], row["doc_key"], row["file"], row["file_key"])
    }
    if not keys:
        raise RagftError(f"no version has a document {document!r}; give its path or its digest")
    return keys


def question_keys(question: str) -> set[str]:
    """Return what stands in the lists of the models that a question of a log trained."""
    return {f"{_ASKED}{question_id(question)}"}


def tainted_models(snapshots: SnapshotStore, keys: Iterable[str]) -> list[TaintedModel]:
    """Return the models that any of the keys helped to train or to choose, bundles' among them."""
    wanted, store, found = set(keys), snapshots.store, []
    users: dict[str, list[str]] = {}
    for version in snapshots.versions():
        for name in _used(store.links(version).values()):
            users.setdefault(name, []).append(version)
    now = History(store).current()
    for name, file, path in files_named(store, TRAINED_ON_FILE):
        if wanted & set(json.loads(path.read_text(encoding="utf-8"))):
            kind, _, rest = name.partition("/")
            asset = rest.partition("/")[0] if kind == "artifacts" else "bundle"
            place = f"{store.url}/{name}/{file.removesuffix(f'/{TRAINED_ON_FILE}')}"
            served = now is not None and name == f"bundles/{now.bundle}"
            found.append(TaintedModel(asset, place, users.get(name, []), served))
    return found


def _used(links: Collection[Link]) -> set[str]:
    """Return the artifacts that some links name, and the bundles of those of `champion`."""
    names = {f"artifacts/{link.asset}/{link.action}" for link in links}
    made = [link.facts for link in links if link.asset == "champion"]
    return names | {f"bundles/{facts[name]}" for facts in made for name in ("bundle", "candidate")}
