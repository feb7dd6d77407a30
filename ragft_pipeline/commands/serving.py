"""The commands that answer: serve over HTTP, and ask."""

from __future__ import annotations

import argparse
import os
import socket
import sys
from contextlib import suppress
from typing import Any

from ragft_pipeline.errors import RagftError
from ragft_pipeline.instance import BoundCorpus
from ragft_pipeline.settings import ServeSettings

_LOCAL = "127.0.0.1"


def add_serve_command(commands: Any) -> None:
    """Add serve to the subcommands of a parser."""
    serve = commands.add_parser("serve", help="answer over HTTP with what is served, and a page")
    serve.add_argument("--port", type=int, help="default: serve.port; 0: a free one")
    serve.add_argument("--host", default=_LOCAL, help=f"address to listen on (default {_LOCAL})")
    serve.set_defaults(run=_serve)


def add_ask_command(commands: Any) -> None:
    """Add ask to the subcommands of a parser."""
    ask = commands.add_parser("ask", help="answer a question from the documents, with citations")
    ask.add_argument("question")
    ask.add_argument("--model", choices=("base", "tuned"), help="default: what llm_eval recommends")
    ask.set_defaults(run=_ask)


def _ask(options: argparse.Namespace, corpus: BoundCorpus) -> int:
    from ragft_pipeline.recipes import ANSWERING_IS_HERE
    from ragft_pipeline.serving.history import History
    from ragft_pipeline.store import ArtifactStore

    settings = corpus.settings
    if not ANSWERING_IS_HERE:
        raise RagftError("ragft ask takes: pip install 'ragft-pipeline[answering]'")
    History(ArtifactStore(settings.store)).require_current()
    from ragft_pipeline.serving.llamaindex_answering import answering_engine

    answer = answering_engine(settings.store, settings, options.model).query(options.question)
    print(f"{answer}\n")
    cited = (answer.metadata or {})["cited"]
    for number, found in enumerate(answer.source_nodes, start=1):
        about = found.node.metadata
        mark = "*" if found.node.node_id in cited else " "
        print(f"{mark}[{number}] {about['path']}  {about['heading']}")
    return 0


def _serve(options: argparse.Namespace, corpus: BoundCorpus) -> int:
    from ragft_pipeline.serving.history import History
    from ragft_pipeline.store import ArtifactStore

    settings = corpus.settings
    token = _token(settings.serve)
    store = ArtifactStore(settings.store)
    History(store).require_current()  # says so before anything heavy is imported
    port = settings.serve.port if options.port is None else options.port
    with listening(options.host, port) as listener:
        from ragft_pipeline.questions.votes import Votes
        from ragft_pipeline.serving.connections import open_server
        from ragft_pipeline.serving.guarded import LOOPBACK
        from ragft_pipeline.serving.live import Champion
        from ragft_pipeline.serving.service import create_app

        champion = Champion(store, settings.compute)
        hosts = LOOPBACK if options.host in LOOPBACK else ("*",)
        votes = Votes(store, int(settings.serve.max_votes_mb * 1e6))
        app = create_app(champion, settings.serve, token, hosts, votes)
        host = f"[{options.host}]" if ":" in options.host else options.host
        named = f"{champion.entry.bundle[:12]} of {champion.entry.version}"
        print(f"serving {named} at http://{host}:{listener.getsockname()[1]}", flush=True)
        if hosts == ("*",) and not token:
            print("anyone who reaches this port can search: see serve.token_env", file=sys.stderr)
        with suppress(KeyboardInterrupt):  # the way to end it
            open_server(app, settings.serve).run(sockets=[listener])
    return 0


def _token(settings: ServeSettings) -> str:
    """Return the token in force; never without one where the settings ask for it."""
    if not settings.token_env:
        return ""
    token = os.environ.get(settings.token_env, "").strip()
    if not token:
        raise RagftError(f"serve.token_env: the environment variable {settings.token_env} is empty")
    return token


def listening(host: str, port: int) -> socket.socket:
    """Return a socket that listens; RagftError where it cannot."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=256)
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or error
        raise RagftError(f"cannot listen on {host}, port {port}: {why}") from None
