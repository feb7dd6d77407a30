"""The `ragft` command."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from ragft_pipeline.commands.labelling import add_label_command
from ragft_pipeline.commands.publishing import add_publishing_commands
from ragft_pipeline.commands.questions import add_question_commands
from ragft_pipeline.commands.release import add_release_commands
from ragft_pipeline.commands.versions import add_version_commands
from ragft_pipeline.errors import RagftError, one_line, redacted
from ragft_pipeline.instance import BoundCorpus


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; print a user's mistake, or the system's refusal, as one line; return 1."""
    os.environ.setdefault("TQDM_DISABLE", "1")
    logging.basicConfig(level=logging.WARNING, format="%(message)s")  # before a library does
    parser = build_parser()
    options = parser.parse_args(arguments)
    try:
        return int(options.run(options, _corpus(options)))
    except RagftError as error:
        print(f"ragft: {error}", file=sys.stderr)
        return 1
    except OSError as error:  # an unwritable store, a missing folder, a full disk
        file = error.filename
        named = f"{redacted(os.fsdecode(file))}: " if isinstance(file, str | bytes) else ""
        print(f"ragft: {named}{error.strerror or one_line(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("ragft: stopped; what was finished is kept", file=sys.stderr)
        return 130


def build_parser() -> argparse.ArgumentParser:
    """Return the argument parser of the command and its subcommands."""
    parser = argparse.ArgumentParser(
        prog="ragft", description="Tune the retrieval parts of a RAG system, incrementally."
    )
    parser.add_argument("--settings", help="settings file (default: ragft.yaml)")
    parser.add_argument(
        "--store", help="folder or URL for artifacts (default: `store` of the settings)"
    )
    parser.add_argument(
        "--corpus-name", help="a corpus of the Dagster project here, by its component's name"
    )
    commands = parser.add_subparsers(required=True, metavar="command")

    add_version_commands(commands)
    add_question_commands(commands)
    add_label_command(commands)
    add_release_commands(commands)
    add_publishing_commands(commands)

    return parser


def _corpus(options: argparse.Namespace) -> BoundCorpus:
    if not options.corpus_name:
        return BoundCorpus.here(options.settings or "", options.store or "")
    if options.settings or options.store:
        raise RagftError("--corpus-name: its component says which settings and store it has")
    from ragft_pipeline.defs.component import corpus_named

    return corpus_named(options.corpus_name, Path.cwd())


if __name__ == "__main__":
    sys.exit(main())
