"""Small real bundles, from texts: no pipeline has to run for them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from fastapi.testclient import TestClient

from ragft_pipeline import schemas
from ragft_pipeline.evaluation.retrievers import Models
from ragft_pipeline.retrieval.adapters import Adapter, linear_adapter
from ragft_pipeline.retrieval.encoder import Encoder
from ragft_pipeline.serving.bundle import Bundle, BundleStore
from ragft_pipeline.serving.configuration import Configuration
from ragft_pipeline.serving.history import History
from ragft_pipeline.serving.live import Champion
from ragft_pipeline.settings import ServeSettings, Settings
from ragft_pipeline.store import ArtifactStore, Workspace

Bundles = tuple[ArtifactStore, Bundle, Bundle]
ADDRESS = "http://127.0.0.1"
QUESTION = "how often is the strainer cleaned?"
UNTUNED, ADAPTED = Configuration("base", 0.5), Configuration("adapter", 0.5)
PUMP = (
    "The strainer of the pump is cleaned every Friday, after the pressure is let out.",
    "A pump that rattles has air in its housing: open the valve on its top.",
    "Spare seals for the pump lie in drawer 14 of the workshop.",
    "The pressure is read twice a day and written into the log.",
    "The log of the pump house is kept for ten years.",
    "Gloves are worn whenever the housing is open.",
)
BREAD = (
    "Rye dough rests for two hours before it is shaped into loaves.",
    "The oven is heated to 250 degrees and cooled to 200 after ten minutes.",
    "Sourdough is fed every evening with flour and warm water.",
    "A loaf is done when it sounds hollow.",
    "Rolls are brushed with milk and strewn with poppy seeds.",
    "Flour is stored dry, off the floor, and sieved before use.",
)


def make_bundle(
    store: ArtifactStore,
    name: str,
    texts: Sequence[str],
    configuration: Configuration = UNTUNED,
    models: Models | None = None,
    settings: Settings | None = None,
    said: str = "",
) -> Bundle:
    """Build a bundle over nodes `name-0`, `name-1`, … of a version of that name.

    `said` is what its document says about itself, as JSON.
    """
    rows = [
        {
            "node_id": f"{name}-{place}", "doc_key": name, "cluster": name, "split": "train",
            "title": name, "heading_path": [], "text": text, "start_char": place,
            "end_char": place + len(text), "tokens": len(text.split()),
        }
        for place, text in enumerate(texts)
    ]  # fmt: skip
    nodes = pa.Table.from_pylist(rows, schema=schemas.NODES.schema)
    with store.staging("test") as folder:
        work = Workspace(store, "test", folder)
        schemas.NODES.layout.write(nodes, folder / "nodes.parquet")
        return BundleStore(store).build(
            name, configuration, models or Models(), {}, folder / "nodes.parquet",
            {name: f"{name}.md"},
            settings or Settings(), work, metadata={name: said},
        )  # fmt: skip


def noisy_adapter(folder: Path, noise: float = 0.06) -> Models:
    """Make an adapter that turns questions and documents somewhat, each side by itself."""
    import torch

    settings, draw = Settings(), torch.Generator().manual_seed(13)
    base = Encoder.base(settings.embedder, settings.compute).weights.digest
    query, document = (
        linear_adapter(torch.eye(384) + noise * torch.randn(384, 384, generator=draw))
        for _ in range(2)
    )
    Adapter(base, query, document).save(folder / "adapter")
    return Models(adapter=folder / "adapter")


def serve(store: ArtifactStore, bundle: Bundle) -> None:
    """Make a bundle the champion."""
    history = History(store)
    history.append(history.current(), "forced", bundle.digest, bundle.version, "a test")


@contextmanager
def serving_process(store: ArtifactStore, log: Path) -> Iterator[str]:
    """Give the address of `ragft serve` over a store: a process of its own, on a free port."""
    program = "import sys; from ragft_pipeline.cli import main; sys.exit(main(sys.argv[1:]))"
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "RAGFT_STORE": str(store.root)}
    environment.pop("RAGFT_SETTINGS", None)
    with (
        log.open("wb") as errors,
        subprocess.Popen(
            [sys.executable, "-c", program, "serve", "--port", "0"],
            env=environment, stdout=subprocess.PIPE, stderr=errors, text=True,
        ) as process,
    ):  # fmt: skip
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("serving "), log.read_text(encoding="utf-8", errors="replace")
            yield line.split()[-1]
        finally:
            process.terminate()
            process.wait(60)


@pytest.fixture(scope="session")
def two_bundles(tmp_path_factory: pytest.TempPathFactory) -> Bundles:
    """A store with a bundle about pumps and one about bread; nothing is promoted in it."""
    store = ArtifactStore(tmp_path_factory.mktemp("bundles"))
    return store, make_bundle(store, "pump", PUMP), make_bundle(store, "bread", BREAD)


@pytest.fixture
def promoted(two_bundles: Bundles, tmp_path: Path) -> Bundles:
    """A copy of the two bundles; the one about pumps is served."""
    store = ArtifactStore(tmp_path / "store")
    shutil.copytree(two_bundles[0].root / "bundles", store.root / "bundles")
    pump, bread = (BundleStore(store).load(bundle.digest) for bundle in two_bundles[1:])
    serve(store, pump)
    return store, pump, bread


@contextmanager
def service(
    store: ArtifactStore, champion: Champion | None = None, token: str = "", **limits: Any
) -> Iterator[TestClient]:
    """Give a client of the service, in this process; it follows the pointer."""
    from ragft_pipeline.serving.service import create_app

    app = create_app(champion or Champion(store), ServeSettings(**limits), token)
    with TestClient(app, base_url=ADDRESS) as client:
        yield client


@pytest.fixture
def client(promoted: Bundles) -> Iterator[TestClient]:
    with service(promoted[0], max_question_chars=200) as client:
        yield client
