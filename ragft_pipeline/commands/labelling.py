"""The command that opens the page for judging."""

from __future__ import annotations

import argparse
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from ragft_pipeline.instance import BoundCorpus

_LOCAL = "127.0.0.1"


def add_label_command(commands: Any) -> None:
    """Add label to the subcommands of a parser."""
    label = commands.add_parser(
        "label", help="a page on which people judge which passages answer: gold questions"
    )
    label.add_argument(
        "questions", nargs="*", help="files of questions (.jsonl, .csv, .tsv, .parquet, or text)"
    )
    label.add_argument("--port", type=int, default=8001, help="0: a free one (default 8001)")
    label.add_argument("--out", help="file to write (default: the corpus's own queries.jsonl)")
    label.set_defaults(run=_label)


def _label(options: argparse.Namespace, corpus: BoundCorpus) -> int:
    from ragft_pipeline.commands.serving import listening
    from ragft_pipeline.corpus.gold_target import gold_target
    from ragft_pipeline.questions.log import SUFFIXES, Log, read_log
    from ragft_pipeline.serving.history import History
    from ragft_pipeline.settings.questions import files_of
    from ragft_pipeline.store import ArtifactStore

    settings = corpus.settings
    store = ArtifactStore(settings.store)
    gold = Path(options.out) if options.out else gold_target(settings.corpus)
    History(store).require_current()  # says so before anything heavy is imported
    log = Log()
    for name in options.questions:
        read_log(files_of(name, "label", SUFFIXES), None, log)
    for line in log.left_out[:5]:
        print(f"left out, {line}", file=sys.stderr)
    with listening(_LOCAL, options.port) as listener:
        from ragft_pipeline.labelling.service import create_label_app
        from ragft_pipeline.labelling.session import Session
        from ragft_pipeline.labelling.systems import Systems
        from ragft_pipeline.serving.connections import open_server

        systems = Systems(store, settings.compute)
        given = [one.question for one in log.questions.values()]
        session = Session(store, systems, gold, given, settings.split.near_duplicate)
        if session.left_out:
            print(f"{session.left_out} questions are left out: they train, or may", file=sys.stderr)
        address = f"http://{_LOCAL}:{listener.getsockname()[1]}"
        print(f"judge at {address}, into {gold}", flush=True)
        with suppress(KeyboardInterrupt):  # the way to end it
            open_server(create_label_app(session), settings.serve).run(sockets=[listener])
        print(f"{gold}: {session.write()} judged questions")
    return 0
