"""The commands of `ragft` that bring what is served elsewhere."""

from __future__ import annotations

import argparse
from typing import Any

from ragft_pipeline.errors import RagftError
from ragft_pipeline.instance import BoundCorpus


def add_publishing_commands(commands: Any) -> None:
    """Add the subcommands publish, verify and push."""
    publish = commands.add_parser(
        "publish", help="make what is served live in the databases of `targets`"
    )
    publish.add_argument("--dry-run", action="store_true", help="the plan alone: rows, bytes")
    publish.set_defaults(run=_publish)

    verify = commands.add_parser(
        "verify", help="does an embedding endpoint give the vectors of what is served?"
    )
    verify.add_argument("url", help="OpenAI-compatible, TEI, Ollama or llama.cpp's server")
    verify.add_argument("--api", choices=("openai", "tei", "ollama"), help="default: tries them")
    verify.add_argument("--model", default="", help="the model's name there")
    verify.add_argument("--key-env", default="", help="environment variable with its key")
    verify.add_argument(
        "--side", choices=("query", "document"), default="query", help="what it embeds"
    )
    verify.add_argument(
        "--prompt", action="store_true", help="put the prompt before each text, as a client would"
    )
    verify.set_defaults(run=_verify)

    push = commands.add_parser("push", help="upload the served embedder to a hub, private")
    push.add_argument("repository", help="owner/name")
    push.add_argument("--public", action="store_true", help="for everybody to see")
    push.add_argument("--endpoint", default="", help="of the hub (default: $HF_ENDPOINT)")
    push.add_argument("--key-env", default="HF_TOKEN", help="environment variable with its token")
    push.set_defaults(run=_push)


def _publish(options: argparse.Namespace, corpus: BoundCorpus) -> int:
    from ragft_pipeline.publishing.champion import plan_champion, publish_champion
    from ragft_pipeline.store import ArtifactStore

    settings = corpus.settings
    if not settings.targets:
        raise RagftError("nothing to publish to: name a database in `targets` (docs/publishing.md)")
    store = ArtifactStore(settings.store)
    if options.dry_run:
        for name, plan in plan_champion(settings, store).items():
            print(plan.lines(name))
        return 0
    for name, done in publish_champion(settings, store, print).items():
        print(f"{name}: {done.manifest.name} is live, {done.seconds:.1f} s")
        if done.agreement:
            print(f"   of the served system's best ten it finds: {done.facts['agreement']}")
    return 0


def follow(corpus: BoundCorpus) -> None:
    """Publish what a promotion or a roll-back by hand has put in force."""
    settings = corpus.settings
    if settings.targets:
        from ragft_pipeline.publishing.champion import publish_champion
        from ragft_pipeline.store import ArtifactStore

        publish_champion(settings, ArtifactStore(settings.store), print)


def _verify(options: argparse.Namespace, corpus: BoundCorpus) -> int:
    from ragft_pipeline.publishing.champion import served_bundle
    from ragft_pipeline.publishing.endpoints import Endpoint
    from ragft_pipeline.publishing.verifying import verify
    from ragft_pipeline.store import ArtifactStore

    settings = corpus.settings
    bundle = served_bundle(ArtifactStore(settings.store))
    endpoint = Endpoint.at(options.url, options.api, options.model, options.key_env)
    found = verify(bundle, endpoint, settings.compute, options.side, options.prompt)
    print(found.line)
    return 0 if found.passed else 1


def _push(options: argparse.Namespace, corpus: BoundCorpus) -> int:
    from ragft_pipeline.publishing.champion import served_bundle
    from ragft_pipeline.publishing.pushing import push
    from ragft_pipeline.store import ArtifactStore

    settings = corpus.settings
    bundle = served_bundle(ArtifactStore(settings.store))
    address = push(
        bundle, options.repository, settings.compute, options.endpoint, options.key_env,
        private=not options.public,
    )  # fmt: skip
    print(f"{address}: {'private' if not options.public else 'public'}, read back and compared")
    return 0
