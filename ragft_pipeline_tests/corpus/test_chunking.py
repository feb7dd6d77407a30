from __future__ import annotations

import base64
import random
import re
import unicodedata
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from ragft_pipeline.corpus.chunking import (
    FrozenDocument,
    chunk_documents,
    load_tokenizer,
    node_id_of,
)
from ragft_pipeline.corpus.splitting import CHARACTERS_A_TOKEN, Splitter
from ragft_pipeline.models.weights import Weights, resolve_weights
from ragft_pipeline.settings import ChunkingSettings
from ragft_pipeline.store import ArtifactStore, Workspace
from ragft_pipeline_tests.corpora import prose

SMALL = ChunkingSettings(size=64, overlap=8)
CHINESE = "锅炉每年检修一次，由值班工程师负责。" * 40
MARKDOWN = "\n\n".join(
    ["# Manual", "Short intro.", "## Pumps", prose("pumps", 80), "## Valves", prose("valves", 80),
     "### Small", "One line.", "```", "# not a heading", "```", "## Pumps", prose("more", 30)]
)  # fmt: skip
LONG_LINE = " ".join(prose(n, 30).replace(".", "") for n in range(8))
HARD = {
    "prose": "\n\n".join(prose(n, 90) for n in range(4)),
    "markdown": MARKDOWN,
    "chinese": CHINESE,
    "mixed": f"# 锅炉\n\n{CHINESE[:200]}\n\n## Boiler\n\n{prose('boiler', 120)}",
    "repeated": "The same sentence stands here. " * 60,
    "repeated sections": "# A\n\nThe same text.\n\n" * 30,
    "one long line": LONG_LINE,
    "one long word": "x" * 3000,
    "table": "\n".join(f"| {n} | bar | {n * 7} | V-{n} |" for n in range(120)),
    "tabs and blanks": "a\tb   c\n\n" * 100 + "  \u00a0 end",
    "headings only": "\n\n".join(f"{'#' * (1 + n % 6)} Heading {n}" for n in range(60)),
    "emoji": "Boiler 🔥 is hot, see é and \u200bzero width. " * 30,
    "one word": "Hello",
    "base64": base64.b64encode(random.Random(1).randbytes(15_000)).decode(),
    "hexdump": "\n".join(f"{n:08x} {'4f 6e ' * 8} |OnOnOnOn|" for n in range(60)),
    "thai": "ก่อนทำความสะอาดตะแกรงให้ปิดสวิตช์ไฟของปั๊มก่อน" * 60,
    "hindi": "छलनी साफ करने से पहले पंप का बिजली स्विच बंद करें। " * 40,
    "marks": "e" + "\u0301" * 4000,
    "blanks in code": "```\n" + f"x = 1{' ' * 200}# y\n" * 30 + "```",
}


@pytest.fixture(scope="module")
def weights() -> Weights:
    return resolve_weights("embedded:all-minilm-l6-v2")


@pytest.fixture(scope="module")
def tokenize(weights: Weights) -> Callable[[str], list[int]]:
    return load_tokenizer(weights)


@pytest.fixture(scope="module")
def splitter(tokenize: Callable[[str], list[int]]) -> Splitter:
    return Splitter(SMALL, tokenize)


def uncovered(text: str, nodes: list[dict[str, Any]]) -> str:
    """Return the characters, but white space, that stand in no node."""
    inside = bytearray(len(text))
    for node in nodes:
        inside[node["start"] : node["end"]] = b"\x01" * (node["end"] - node["start"])
    return "".join(c for c, found in zip(text, inside) if not found and not c.isspace())


@pytest.mark.parametrize("markdown", [True, False])
@pytest.mark.parametrize("name", HARD)
def test_spans_are_the_text_and_cover_the_document(
    splitter: Splitter, name: str, markdown: bool
) -> None:
    text = HARD[name]
    nodes = splitter.cut(text, markdown)
    assert [node["text"] for node in nodes] == [text[n["start"] : n["end"]] for n in nodes]
    assert uncovered(text, nodes) == ""
    starts = [node["start"] for node in nodes]
    assert starts == sorted(starts)
    assert all(node["text"].strip() for node in nodes)


@pytest.mark.parametrize("name", HARD)
def test_nodes_are_no_longer_than_the_size_in_tokens(
    splitter: Splitter, tokenize: Callable[[str], list[int]], name: str
) -> None:
    for node in splitter.cut(HARD[name], True):
        assert node["tokens"] == len(tokenize(node["text"]))
        assert node["tokens"] <= SMALL.size


@pytest.mark.parametrize("name", HARD)
def test_nodes_are_bounded_in_characters(splitter: Splitter, name: str) -> None:
    longest = SMALL.size * CHARACTERS_A_TOKEN
    assert all(len(node["text"]) <= longest for node in splitter.cut(HARD[name], True))


def test_thai_is_cut_between_letters_with_their_marks(splitter: Splitter) -> None:
    for node in splitter.cut(HARD["thai"], False):
        assert not unicodedata.category(node["text"][0]).startswith("M")


def test_random_markdown_is_covered(splitter: Splitter) -> None:
    pieces = [
        *("# A", "## A b", "- item", "* x", "```", "> quote", "| a | b |", "text. More text!"),
        *("锅炉。", "#no heading", "\t# indented", "    code", "1. one", "---", "", " ", "A"),
    ]
    draw = random.Random(7)
    for _ in range(60):
        text = "\n".join(draw.choices(pieces, k=draw.randrange(1, 120))).strip() or "x"
        assert uncovered(text, splitter.cut(text, True)) == ""


def test_markdown_is_cut_along_headings(splitter: Splitter) -> None:
    nodes = splitter.cut(MARKDOWN, True)
    paths = list(dict.fromkeys(tuple(node["heading_path"]) for node in nodes))
    assert paths[:3] == [("Manual",), ("Manual", "Pumps"), ("Manual", "Valves")]
    for node in nodes:
        cut_inside = re.search(r"(?m)^## (Pumps|Valves)", node["text"][1:])
        assert cut_inside is None or node["tokens"] <= SMALL.size


def test_a_small_section_joins_its_neighbour(splitter: Splitter) -> None:
    text = "# Manual\n\nIntro.\n\n## Pumps\n\nOne line.\n\n## Valves\n\nOne more."
    assert [node["text"] for node in splitter.cut(text, True)] == [text]


def test_headings_do_not_cut_where_markdown_is_off(tokenize: Callable[[str], list[int]]) -> None:
    plain = Splitter(ChunkingSettings(size=64, overlap=8, markdown=False), tokenize)
    assert all(node["heading_path"] == [] for node in plain.cut(MARKDOWN, True))


@pytest.mark.parametrize("along_headings", [True, False])
def test_front_matter_is_in_no_node(
    tokenize: Callable[[str], list[int]], along_headings: bool
) -> None:
    splitter = Splitter(ChunkingSettings(size=64, overlap=8, markdown=along_headings), tokenize)
    text = f"---\ntitle: Pumps\nauthor: Jane\n---\n\n{prose('pumps', 90)}"
    nodes = splitter.cut(text, True)
    assert uncovered(text, nodes) == "---title:Pumpsauthor:Jane---"
    assert "author" in splitter.cut(text, False)[0]["text"]


def test_a_document_of_front_matter_alone_has_a_node(splitter: Splitter) -> None:
    text = "---\ntitle: Pumps\n---"
    assert [node["text"] for node in splitter.cut(text, True)] == [text]


def test_neighbours_overlap_within_a_section(splitter: Splitter) -> None:
    nodes = splitter.cut("\n".join(f"Pump {n} is loud today." for n in range(90)), False)
    assert all(left["end"] > right["start"] for left, right in pairwise(nodes))


def test_node_ids_are_hashes_of_their_text() -> None:
    assert node_id_of("a") == node_id_of("a") != node_id_of("b")
    assert len(node_id_of("a")) == 32


def chunk(
    store: ArtifactStore,
    weights: Weights,
    action: str,
    documents: dict[str, tuple[str, str]],
    guarded: Sequence[FrozenDocument] = (),
) -> tuple[pa.Table, dict[str, int]]:
    """Chunk documents given by key as (split, text)."""

    def text_of(text: str) -> Callable[[], str]:
        return lambda: text

    frozen = [
        FrozenDocument(key, True, key, key, split, text_of(text))
        for key, (split, text) in documents.items()
    ]
    with store.staging("chunked_nodes") as folder:
        work = Workspace(store, "chunked_nodes", folder)
        table = chunk_documents(frozen, guarded, SMALL, weights, work).read_all()
        store.publish("chunked_nodes", action, folder, data_version=action, facts={}, inputs={})
        work.published()
    return table, work.counts


def ids(table: pa.Table, split: str) -> set[str]:
    return {row["node_id"] for row in table.to_pylist() if row["split"] == split}


def test_only_changed_documents_are_cut_again(tmp_path: Path, weights: Weights) -> None:
    store = ArtifactStore(tmp_path)
    documents = {f"k{n}": ("train", prose(n, 120)) for n in range(5)}
    first, counts = chunk(store, weights, "a1", documents)
    assert counts == {"rows_reused": 0, "rows_computed": 5}
    again, counts = chunk(store, weights, "a2", documents | {"k9": ("test", prose("new", 120))})
    assert counts == {"rows_reused": 5, "rows_computed": 1}
    assert ids(again, "train") == ids(first, "train")


def test_node_ids_are_equal_in_another_store(tmp_path: Path, weights: Weights) -> None:
    documents = {"k1": ("train", MARKDOWN), "k2": ("test", CHINESE)}
    tables = [
        chunk(ArtifactStore(tmp_path / name), weights, "a1", documents)[0] for name in ("a", "b")
    ]
    assert tables[0].equals(tables[1])


def test_a_test_edit_leaves_the_train_nodes(tmp_path: Path, weights: Weights) -> None:
    store = ArtifactStore(tmp_path)
    documents = {f"k{n}": ("train", prose(n, 120)) for n in range(3)}
    before, _ = chunk(store, weights, "a1", documents | {"t": ("test", prose("t", 120))})
    after, _ = chunk(store, weights, "a2", documents | {"t2": ("test", prose("t2", 120))})
    assert ids(after, "train") == ids(before, "train")
    assert ids(after, "test") != ids(before, "test")


def test_the_title_is_in_no_heading_path(tmp_path: Path, weights: Weights) -> None:
    titled = FrozenDocument("k", True, "Manual", "k", "train", partial(str, MARKDOWN))
    work = Workspace(ArtifactStore(tmp_path), "chunked_nodes", tmp_path)
    table = chunk_documents([titled], [], SMALL, weights, work).read_all()
    paths = list(dict.fromkeys(map(tuple, table.column("heading_path").to_pylist())))
    assert paths == [(), ("Pumps",), ("Valves",), ("Valves", "Small")]


def test_a_node_shared_by_splits_goes_to_the_most_protected(
    tmp_path: Path, weights: Weights
) -> None:
    boilerplate = "# Safety\n\n" + prose("safety", 14)
    documents = {
        split: (split, f"# Own {split}\n\n{prose(split, 18)}\n\n{boilerplate}")
        for split in ("train", "val", "test")
    }
    table, _ = chunk(ArtifactStore(tmp_path), weights, "a1", documents)
    shared = [row for row in table.to_pylist() if row["text"] == boilerplate]
    assert [row["doc_key"] for row in shared] == ["train", "val", "test"]
    assert {row["split"] for row in shared} == {"test"}
    assert not ids(table, "train") & (ids(table, "val") | ids(table, "test"))


def test_a_text_of_a_deleted_test_document_does_not_come_to_train(
    tmp_path: Path, weights: Weights
) -> None:
    boilerplate = "# Safety\n\n" + prose("safety", 14)
    text = f"# Own\n\n{prose('own', 18)}\n\n{boilerplate}"
    gone = FrozenDocument("gone", True, "", "c", "test", lambda: boilerplate)
    table, _ = chunk(ArtifactStore(tmp_path), weights, "a1", {"kept": ("train", text)}, [gone])
    splits = {row["text"]: row["split"] for row in table.to_pylist()}
    assert splits[boilerplate] == "test"
    assert "train" in splits.values()
    assert {row["doc_key"] for row in table.to_pylist()} == {"kept"}
