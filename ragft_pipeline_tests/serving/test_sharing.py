"""A refreshed bundle shares what stands with the last one, on the disk, in the store, in memory."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from llama_index.core.vector_stores import MetadataFilter, MetadataFilters

from ragft_pipeline import schemas
from ragft_pipeline.digests import digest_of
from ragft_pipeline.evaluation.retrievers import Models
from ragft_pipeline.retrieval.encoder import Encoder
from ragft_pipeline.retrieval.evidence import FIRST_STAGE, LATE_INTERACTION
from ragft_pipeline.retrieval.ranker import Ranker
from ragft_pipeline.retrieval.text_vectors import vectors_table
from ragft_pipeline.retrieval.token_rows import cached_tokens
from ragft_pipeline.serving import index
from ragft_pipeline.serving.bundle import Bundle, BundleStore
from ragft_pipeline.serving.configuration import Configuration
from ragft_pipeline.serving.index import BundleIndex
from ragft_pipeline.serving.searcher import Hit, Searcher
from ragft_pipeline.settings import Settings
from ragft_pipeline.store import ArtifactStore, Workspace
from ragft_pipeline_tests.s3_server import Team
from ragft_pipeline_tests.serving.conftest import BREAD, PUMP, noisy_adapter

QUESTIONS = ("how often is the strainer cleaned?", "where does the dough of house 7 rest?")
SETTINGS = Settings.model_validate({"passages": {"context": "on"}})
RANKED = Configuration(
    "adapter", 0.5, "ranker", Ranker.prior((*FIRST_STAGE, LATE_INTERACTION)).weights
)
HOUSES = {f"house-{n:02}": [f"{PUMP[n % 6]} (house {n})", BREAD[n % 5]] for n in range(40)}
EDITED = {**HOUSES, "house-07": ["The dough of house 7 rests in the cellar.", BREAD[2]]}


def nodes_of(houses: dict[str, list[str]]) -> pa.Table:
    rows = [
        {
            "node_id": digest_of(text)[:32], "doc_key": name, "cluster": name, "split": "train",
            "title": name, "heading_path": ["Care"], "text": text, "start_char": 100 * place,
            "end_char": 100 * place + len(text), "tokens": len(text.split()),
        }
        for name, texts in sorted(houses.items())
        for place, text in enumerate(texts)
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, schema=schemas.NODES.schema)


def build(store: ArtifactStore, houses: dict[str, list[str]], models: Models) -> Bundle:
    layout = replace(schemas.NODES.layout, rows=6)
    with store.staging("test") as folder:
        layout.write(nodes_of(houses), folder / "nodes.parquet")
        return BundleStore(store).build(
            "v", RANKED, models, {}, folder / "nodes.parquet",
            {name: f"{name}.md" for name in houses}, SETTINGS, Workspace(store, "test", folder),
        )  # fmt: skip


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    folder = tmp_path_factory.mktemp("models")
    (folder / "late").mkdir()
    return replace(noisy_adapter(folder), late_interaction=folder / "late")


@pytest.fixture(scope="module")
def both(models: Models, tmp_path_factory: pytest.TempPathFactory) -> tuple[Bundle, Bundle]:
    store = ArtifactStore(tmp_path_factory.mktemp("shared"))
    return build(store, HOUSES, models), build(store, EDITED, models)


def files_of(bundle: Bundle) -> dict[str, Path]:
    return {name: bundle.folder / name for name in bundle.manifest["files"]}


def inodes(bundle: Bundle, part: str) -> set[int]:
    return {file.stat().st_ino for file in (bundle.folder / part).iterdir()}


def found(searcher: Searcher) -> list[list[Hit]]:
    return [searcher.search(question, 20) for question in QUESTIONS]


def test_a_refreshed_bundle_has_the_files_of_what_stands(both: tuple[Bundle, Bundle]) -> None:
    old, new = both
    assert set(new.manifest["parts"]) == {
        "vectors", "base_vectors", "read_vectors", "tokens", "terms",
    }  # fmt: skip
    for part in ("nodes.parquet", *new.manifest["parts"]):
        if part != "nodes.parquet":  # these are shared with the asset's table
            assert 1 <= len(inodes(new, part) - inodes(old, part)) <= 3, part
        assert len(inodes(new, part)) > 6
    new.verify()


def test_a_bundle_is_the_same_however_it_came_about(
    both: tuple[Bundle, Bundle], models: Models, tmp_path: Path
) -> None:
    alone = build(ArtifactStore(tmp_path), EDITED, models)
    for part in ("nodes.parquet", "terms"):
        files = ({file.name for file in (one.folder / part).iterdir()} for one in (both[1], alone))
        assert len({frozenset(names) for names in files}) == 1
    ours, theirs = (BundleIndex(one, SETTINGS) for one in (both[1], alone))
    assert ours.node_ids == theirs.node_ids
    for name in ("", "base_vectors", "read_vectors"):
        np.testing.assert_allclose(ours.vectors(name)[:], theirs.vectors(name)[:], atol=1e-5)


def test_a_searcher_that_follows_reads_what_is_new_and_finds_the_same(
    both: tuple[Bundle, Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = both
    before = Searcher(old)
    whole = found(before)
    read: list[str] = []
    read_table = pq.read_table

    def reading(file: Path) -> pa.Table:
        read.append(file.name)
        return read_table(file)

    monkeypatch.setattr(index.pq, "read_table", reading)
    following = Searcher(new, before=before)
    segments = len(list((new.folder / "nodes.parquet").iterdir()))
    assert len([name for name in read if name[:6].isdigit()]) <= 3 < segments
    assert following.models is before.models
    assert found(following) == found(Searcher(new))
    assert found(following)[1][0].text == EDITED["house-07"][0]
    assert found(before) == whole


def as_format_2(bundle: Bundle, folder: Path, store: ArtifactStore) -> Bundle:
    """Write a bundle as releases before segments did, and before metadata was kept."""
    from ragft_pipeline.serving.router_files import copy_folder

    folder.mkdir()
    copy_folder(bundle.folder / "models", folder / "models")
    stored = BundleIndex(bundle, SETTINGS)
    pq.write_table(bundle.nodes().drop_columns(["metadata"]), folder / "nodes.parquet")
    for name in ("vectors", "base_vectors", "read_vectors"):
        table = vectors_table(stored.node_ids, stored.node_ids, stored.vectors(name)[:])
        pq.write_table(table, folder / f"{name}.parquet")
    base = Encoder.base(SETTINGS.embedder, SETTINGS.compute)
    with store.staging("test") as work:
        tokens = cached_tokens(Workspace(store, "test", work), base, list(stored.read), 4)
        tokens.save(folder / "tokens")
    manifest = {name: value for name, value in bundle.manifest.items() if name != "parts"}
    manifest |= {f"{kind}_vectors": f"{kind}_vectors.parquet" for kind in ("base", "read")}
    (folder / "bundle.json").write_text(json.dumps({**manifest, "format": 2}), encoding="utf-8")
    return Bundle.load(folder)


def test_a_bundle_of_before_segments_is_searched(
    both: tuple[Bundle, Bundle], tmp_path: Path
) -> None:
    old = as_format_2(both[1], tmp_path / "old", ArtifactStore(both[1].folder.parents[1]))
    searcher = Searcher(old)
    new = Searcher(both[1])
    for ours, theirs in zip(found(searcher), found(new)):
        assert [hit.node_id for hit in ours] == [hit.node_id for hit in theirs]
        assert [hit.path for hit in ours] == [hit.path for hit in theirs]
        np.testing.assert_allclose(
            [hit.score for hit in ours], [hit.score for hit in theirs], atol=1e-4
        )
    assert found(Searcher(both[1], before=searcher)) == found(new)
    keys = {"house-03", "house-07"}
    within = [one.search_within(QUESTIONS[1], keys) for one in (searcher, new)]
    assert [hit.node_id for hit in within[0]] == [hit.node_id for hit in within[1]]
    assert {hit.path for hit in within[1]} == {"house-03.md", "house-07.md"}
    chosen = MetadataFilters(filters=[MetadataFilter(key="path", value="house-03.md")])
    assert {hit.path for hit in searcher.search(QUESTIONS[1], 5, chosen)} == {"house-03.md"}
    assert {str(hit.metadata) for hit in within[0]} == {"{}"}


def test_terms_of_another_cut_are_made_anew(
    both: tuple[Bundle, Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = found(Searcher(both[1]))
    monkeypatch.setattr(index, "terms_made_of", lambda passages: "another version")
    assert found(Searcher(both[1])) == whole


def test_a_refreshed_bundle_moves_what_is_new(team: Team, models: Models) -> None:
    here, there = team.machine("a"), team.machine("b")
    first = build(here, HOUSES, models)
    BundleStore(there).load(first.digest)
    known = {file.stat().st_ino for file in here.root.rglob("*") if file.is_file()}
    team.server.moved = 0
    second = build(here, EDITED, models)
    written = sum(
        file.stat().st_size
        for file in (here.root / "bundles" / second.digest).rglob("*")
        if file.is_file() and file.stat().st_ino not in known
    )
    assert team.server.moved <= 2 * written
    team.server.moved = 0
    BundleStore(there).load(second.digest).verify()
    assert team.server.moved <= 2 * written
