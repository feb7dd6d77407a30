"""The commands that bring questions in and take them out."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragft_pipeline.errors import RagftError
from ragft_pipeline.instance import BoundCorpus
from ragft_pipeline.settings import Settings

if TYPE_CHECKING:
    from ragft_pipeline.corpus.snapshots import Snapshot, SnapshotStore
    from ragft_pipeline.questions.formats import LabelledSet
    from ragft_pipeline.store import ArtifactStore

FORMATS = ("embedding-qa", "beir", "pairs", "triples", "squad", "ragas")
_NAMED = 20  # entries that are named when left out
_GOLD = "gold"


def add_question_commands(commands: Any) -> None:
    """Add import-qa and export-qa to the subcommands of a parser."""
    export = commands.add_parser(
        "export-qa", help="write a split's questions, or people's, in another tool's shape"
    )
    export.add_argument("split", choices=["train", "val", "test", _GOLD])
    export.add_argument("file", help="of beir: a folder")
    export.add_argument("--format", choices=FORMATS, default=FORMATS[0])
    export.add_argument(
        "--negatives", type=int, default=0,
        help="so many passages a train question that the teacher finds near and that do not answer",
    )  # fmt: skip
    export.add_argument("--version", help="corpus version (default: the current one)")
    export.set_defaults(run=_export_qa)

    bring = commands.add_parser(
        "import-qa", help="take questions with answers from another tool's file"
    )
    bring.add_argument("path", help="a file, or BEIR's folder or one of its qrels files")
    bring.add_argument("--format", choices=("auto", *FORMATS), default="auto")
    bring.add_argument(
        "--to", metavar="FOLDER",
        help="a new corpus of the set's texts (docs/ and queries.jsonl); else the questions are "
        "added to the file of people's questions, where their texts stand in your documents",
    )  # fmt: skip
    bring.set_defaults(run=_import_qa)

    take_back = commands.add_parser(
        "withdraw-question", help="leave a question of a log or a vote out of all that is made now"
    )
    take_back.add_argument("question")
    take_back.set_defaults(run=_withdraw)


def _export_qa(options: argparse.Namespace, corpus: BoundCorpus) -> int:
    from ragft_pipeline.corpus.snapshots import SnapshotStore
    from ragft_pipeline.questions.formats import write_labelled
    from ragft_pipeline.store import ArtifactStore

    settings = corpus.settings
    store = ArtifactStore(settings.store)
    snapshots = SnapshotStore(store)
    snapshot = snapshots.named(options.version)
    if options.split == _GOLD:
        found = _gold(store, snapshots, snapshot)
    else:
        found = _pairs(store, snapshot.version, options.split, options.negatives)
    write_labelled(found, Path(options.file), options.format)
    print(f"{options.file}: {len(found.questions)} questions of {snapshot.version}")
    return 0


def _pairs(store: ArtifactStore, version: str, split: str, negatives: int) -> LabelledSet:
    from ragft_pipeline.questions.exchange import labelled_pairs
    from ragft_pipeline.tuning.teacher_lists import read_scores

    if negatives and split != "train":
        raise RagftError("--negatives: the teacher knows the train questions only")
    teacher = read_scores(store.read(version, "teacher_scores")) if negatives else None
    pairs = store.read(version, f"{split}_qa_pairs").table()
    nodes = store.read(version, f"{split}_nodes").table()
    return labelled_pairs(pairs, nodes, teacher, negatives)


def _gold(store: ArtifactStore, snapshots: SnapshotStore, snapshot: Snapshot) -> LabelledSet:
    from ragft_pipeline import schemas
    from ragft_pipeline.corpus.gold import read_gold_questions
    from ragft_pipeline.questions.importing import labelled_gold

    documents = snapshot.table(schemas.DOCUMENTS)
    gold = read_gold_questions(snapshot.gold_text, documents, snapshots.text).table
    if not gold.num_rows:
        raise RagftError(f"{snapshot.version} has no questions of people")
    rows = gold.sort_by("question_id").to_pylist()
    return labelled_gold(rows, documents.sort_by("path").to_pylist(), snapshots.text)


def _import_qa(options: argparse.Namespace, corpus: BoundCorpus) -> int:
    from ragft_pipeline.questions.formats import read_labelled
    from ragft_pipeline.questions.importing import write_corpus

    settings = corpus.settings
    found = read_labelled(Path(options.path), options.format)
    left_out = list(found.left_out)
    if not (found.questions or (options.to and found.texts)):
        _say_left_out(left_out)
        raise RagftError(f"{options.path}: no question of it can be used")
    if options.to:
        write_corpus(found, Path(options.to))
        print(f"{options.to}: {len(found.texts)} documents, {len(found.questions)} questions")
    else:
        left_out += _into_documents(found, settings)
    _say_left_out(left_out)
    return 0


def _into_documents(found: LabelledSet, settings: Settings) -> list[str]:
    """Add a set's questions to the file of people's questions; return what found no place."""
    from ragft_pipeline import schemas
    from ragft_pipeline.corpus.gold_target import gold_target
    from ragft_pipeline.corpus.snapshots import SnapshotStore
    from ragft_pipeline.questions.importing import add_entries, place_in_documents
    from ragft_pipeline.store import ArtifactStore

    file = gold_target(settings.corpus)
    snapshots = SnapshotStore(ArtifactStore(settings.store))
    rows = snapshots.named(None).table(schemas.DOCUMENTS).to_pylist()
    texts = {row["file"] or row["path"]: row["file_key"] or row["doc_key"] for row in rows}
    placed = place_in_documents(found, {path: snapshots.text(texts[path]) for path in texts})
    added = add_entries(file, placed.entries)
    known = len(placed.entries) - added
    print(f"{file}: {added} questions added" + (f", {known} stood there" if known else ""))
    return placed.left_out


def _withdraw(options: argparse.Namespace, corpus: BoundCorpus) -> int:
    from ragft_pipeline.corpus.snapshots import SnapshotStore
    from ragft_pipeline.lineage.taint import question_keys, tainted_models
    from ragft_pipeline.questions.intake import withdraw
    from ragft_pipeline.store import ArtifactStore

    settings = corpus.settings
    store = ArtifactStore(settings.store)
    withdraw(store, options.question)
    models = tainted_models(SnapshotStore(store), question_keys(options.question))
    served = sum(model.served for model in models)
    print(
        f"withdrawn; it reached {len(models)} models, {served} of them in service (ragft taint "
        "--question names them): run `ragft run` for models without it, then `ragft gc --delete`. "
        "Delete it from your own log file as well"
    )
    return 0


def _say_left_out(lines: list[str]) -> None:
    if lines:
        print(f"{len(lines)} left out:")
    for line in lines[:_NAMED]:
        print(f"  {line}")
    if len(lines) > _NAMED:
        print(f"  and {len(lines) - _NAMED} more")
