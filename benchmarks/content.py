"""What a corpus version's content asks for: the units of work of each data asset, from texts alone.

Counted without the row caches and their keys: a unit is the text (and whatever else is read) that
a document is cut from, a question is written from, or a vector is computed from.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa

from benchmarks.question_server import questions_about
from ragft_pipeline.corpus.readers import normalise
from ragft_pipeline.corpus.splitting import Splitter
from ragft_pipeline.digests import digest_of
from ragft_pipeline.questions import pairs
from ragft_pipeline.questions.drafts import Draft, SourceNode
from ragft_pipeline.questions.extractive import extract_questions
from ragft_pipeline.questions.filters import Candidate, filter_candidates
from ragft_pipeline.questions.llm import build_prompt, parse_questions
from ragft_pipeline.retrieval.encoder import Encoder
from ragft_pipeline.retrieval.lexical import TermStatistics
from ragft_pipeline.settings import ExtractiveGenerator, LLMGenerator, QuestionSettings
from ragft_pipeline.store import ArtifactStore
from ragft_pipeline_tests.questions.openai_server import OpenAIServer

SPLITS = ("train", "val", "test")
Unit = tuple[object, ...]


@contextmanager
def recording(server: OpenAIServer) -> Iterator[Callable[[], Counter[Unit]]]:
    """Record the units really worked on; what it gives returns those since it was last called."""
    seen: Counter[Unit] = Counter()
    cut, encode, extract = Splitter.cut, Encoder.encode, pairs.extract_questions
    counted: dict[int, tuple[TermStatistics, str]] = {}

    def recorded_cut(self: Splitter, text: str, markdown: bool) -> Any:
        seen["cut", text] += 1
        return cut(self, text, markdown)

    def recorded_encode(self: Encoder, texts: Sequence[str], kind: Any, *rest: Any) -> Any:
        seen.update((kind, text) for text in texts)
        return encode(self, texts, kind, *rest)

    def recorded_extract(node: SourceNode, settings: Any, statistics: TermStatistics) -> Any:
        if id(statistics) not in counted:
            counted[id(statistics)] = statistics, statistics_identity(statistics)
        seen["draft", node, counted[id(statistics)][1]] += 1
        return extract(node, settings, statistics)

    def take() -> Counter[Unit]:
        taken = seen + Counter(("ask", request.prompt) for request in server.requests)
        seen.clear()
        server.requests.clear()
        return taken

    with (
        patch.object(Splitter, "cut", recorded_cut),
        patch.object(Encoder, "encode", recorded_encode),
        patch.object(pairs, "extract_questions", recorded_extract),
    ):
        yield take


def units_by_asset(
    folder: Path, store: ArtifactStore, version: str, questions: QuestionSettings
) -> dict[str, set[Unit]]:
    """Return the units of each asset: ("cut" | "draft" | "ask" | "document" | "query", content…).

    Raises AssertionError where a node of the version is not a passage of its document in `folder`.
    """
    files = sorted(folder.iterdir())
    texts = {path.name: normalise(path.read_text(encoding="utf-8")) for path in files}
    nodes = store.read(version, "chunked_nodes").table()
    check_nodes(nodes, store.read(version, "corpus_snapshot").table(), texts)
    statistics = TermStatistics.from_table(store.read(version, "corpus_statistics").table())
    units: dict[str, set[Unit]] = {"chunked_nodes": {("cut", text) for text in texts.values()}}
    for split in SPLITS:
        table = store.read(version, f"{split}_nodes").table()
        units[f"{split}_qa_pairs"] = question_units(table, statistics, questions)
    units["node_embeddings"] = {("document", text) for text in nodes.column("text").to_pylist()}
    return units


def statistics_identity(statistics: TermStatistics) -> str:
    """Return a digest of what was counted."""
    return digest_of(sorted(statistics.document_frequency.items()), statistics.nodes)


def check_nodes(nodes: pa.Table, documents: pa.Table, texts: dict[str, str]) -> None:
    """Assert that each node is what stands in its document's file at its place."""
    paths = dict(zip(documents.column("doc_key").to_pylist(), documents.column("path").to_pylist()))
    for row in nodes.to_pylist():
        passage = texts[paths[row["doc_key"]]][row["start_char"] : row["end_char"]]
        assert passage == row["text"], f"{row['node_id']} is no passage of its document"


def question_units(
    nodes: pa.Table, statistics: TermStatistics, settings: QuestionSettings
) -> set[Unit]:
    """Return a split's units: drafts and prompts of its nodes, texts and questions to search."""
    sources = pairs.source_nodes(nodes, nodes.column("node_id").to_pylist())
    texts = {source.node_id: source.text for source in sources}
    counted = statistics_identity(statistics)
    units: set[Unit] = {("document", source.text) for source in sources}
    candidates: list[Candidate] = []
    for generator in settings.generators:
        for source in sources:
            drafts: Sequence[Draft]
            if isinstance(generator, ExtractiveGenerator):
                units.add(("draft", source, counted))
                drafts = extract_questions(source, generator, statistics)
            elif isinstance(generator, LLMGenerator):
                prompt = build_prompt(source, generator.questions_per_node)
                units.add(("ask", prompt))
                asked = parse_questions(questions_about(prompt), generator.questions_per_node)
                drafts = [Draft(question, "llm", 0, len(source.text)) for question in asked]
            candidates += [Candidate("", source.node_id, generator.kind, draft) for draft in drafts]

    def search(kept: Sequence[Candidate]) -> np.ndarray:
        units.update(("query", candidate.draft.question) for candidate in kept)
        return np.zeros(len(kept), dtype=np.int64)

    filter_candidates(candidates, texts, settings, search)
    return units
