"""The commands of `ragft` that are about what is served."""

from __future__ import annotations

import argparse
import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragft_pipeline.commands.publishing import follow
from ragft_pipeline.commands.serving import add_ask_command, add_serve_command
from ragft_pipeline.corpus.document_metadata import to_json
from ragft_pipeline.instance import BoundCorpus

if TYPE_CHECKING:
    from ragft_pipeline.serving.searcher import Hit, Searcher


def add_release_commands(commands: Any) -> None:
    """Add the subcommands champion, promote, rollback, history, search, ask, export and serve."""
    champion = commands.add_parser("champion", help="what is served, and why")
    champion.set_defaults(run=_champion)

    promote = commands.add_parser("promote", help="serve a version's candidate")
    promote.add_argument("version")
    promote.add_argument("--force", action="store_true", help="although the gate refused it")
    promote.add_argument("--why", default="", help="the reason, for the history")
    promote.set_defaults(run=_promote)

    rollback = commands.add_parser("rollback", help="serve again what was served before")
    rollback.add_argument("--why", default="", help="the reason, for the history")
    rollback.set_defaults(run=_rollback)

    history = commands.add_parser("history", help="every decision about what is served")
    history.set_defaults(run=_history)

    search = commands.add_parser("search", help="search with what is served")
    search.add_argument("question")
    search.add_argument("--top", type=int, default=5, help="passages to show (default 5)")
    search.add_argument(
        "--route", action="store_true", help="search only the documents that the router picks"
    )
    search.set_defaults(run=_search)

    export = commands.add_parser("export", help="write what is served as plain files")
    export.add_argument("folder", help="a new folder")
    export.add_argument("--onnx", action="store_true", help="also as ONNX graphs, 8-bit too")
    export.set_defaults(run=_export)

    add_serve_command(commands)
    add_ask_command(commands)


def _champion(options: argparse.Namespace, corpus: BoundCorpus) -> int:
    from ragft_pipeline.serving.bundle import BundleStore, describe
    from ragft_pipeline.serving.history import History
    from ragft_pipeline.store import ArtifactStore

    settings = corpus.settings
    store = ArtifactStore(settings.store)
    entry = History(store).require_current()
    bundle = BundleStore(store).load(entry.bundle)
    for name, value in describe(bundle).items():
        print(f"{name:16} {value}")
    print(f"{entry.event:16} {_day(entry.when)} by {entry.who}: {entry.why}")
    print(f"{'folder':16} {bundle.folder}")
    return 0


def _promote(options: argparse.Namespace, corpus: BoundCorpus) -> int:
    from ragft_pipeline.release.promotion import promote
    from ragft_pipeline.store import ArtifactStore

    settings = corpus.settings
    store = ArtifactStore(settings.store)
    entry = promote(store, options.version, options.force, options.why, settings)
    print(f"serving {entry.bundle} of {entry.version}")
    follow(corpus)
    return 0


def _rollback(options: argparse.Namespace, corpus: BoundCorpus) -> int:
    from ragft_pipeline.release.promotion import roll_back
    from ragft_pipeline.store import ArtifactStore

    settings = corpus.settings
    entry = roll_back(ArtifactStore(settings.store), options.why, settings)
    print(f"serving {entry.bundle} of {entry.version} again")
    follow(corpus)
    return 0


def _history(options: argparse.Namespace, corpus: BoundCorpus) -> int:
    from ragft_pipeline.serving.history import History
    from ragft_pipeline.store import ArtifactStore

    settings = corpus.settings
    for entry in History(ArtifactStore(settings.store)).entries():
        print(
            f"{entry.number:4}  {_day(entry.when)}  {entry.event:11}  {entry.bundle[:12]}  "
            f"{entry.version}  {entry.who}: {entry.why}"
        )
    return 0


def _search(options: argparse.Namespace, corpus: BoundCorpus) -> int:
    from ragft_pipeline.serving.live import Champion
    from ragft_pipeline.store import ArtifactStore

    settings = corpus.settings
    searcher = Champion(ArtifactStore(settings.store), settings.compute).searcher
    hits = (
        _routed(searcher, options.question, options.top)
        if options.route
        else searcher.search(options.question, options.top)
    )
    for place, hit in enumerate(hits, start=1):
        parts = ", ".join(f"{name} {value:.3f}" for name, value in hit.parts.items())
        heading = " > ".join(part for part in (hit.title, hit.heading) if part)
        print(f"\n{place}. {hit.score:.3f}  {hit.path}  {heading}\n   ({parts})")
        if hit.metadata:
            print(f"   {to_json(hit.metadata)}")
        print(textwrap.fill(hit.text, 100, initial_indent="   ", subsequent_indent="   "))
    return 0


def _routed(searcher: Searcher, question: str, top: int) -> list[Hit]:
    """Say where the router sends a question, and search there."""
    route, documents = searcher.route(question)
    kinds = ", ".join(f"{kind} {share:.2f}" for kind, share in route.kinds.items())
    if route.abstained:
        print(f"route: everything, for the first {route.picked} documents are not sure enough")
    else:
        print(f"route: {len(documents)} of {len(searcher.tool_router)} documents")
    index = searcher.tool_router.index
    for tool, confidence in route.tools[: route.picked]:
        print(f"   {confidence:.2f}  {searcher.path_of(index.doc_keys[tool])}")
    print(f"   kinds of index: {kinds}")
    return searcher.search_within(question, documents, top)


def _export(options: argparse.Namespace, corpus: BoundCorpus) -> int:
    from ragft_pipeline.serving.bundle import BundleStore
    from ragft_pipeline.serving.export import export_bundle
    from ragft_pipeline.serving.history import History
    from ragft_pipeline.store import ArtifactStore

    settings = corpus.settings
    store = ArtifactStore(settings.store)
    bundle = BundleStore(store).load(History(store).require_current().bundle)
    files = export_bundle(bundle, Path(options.folder), settings.compute, options.onnx)
    print(f"{options.folder}: {files} files, their checksums in SHA256SUMS")
    return 0


def _day(when: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(when))
