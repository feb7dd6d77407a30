"""LlamaIndex's filters ask the same of every store."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from llama_index.core.vector_stores import FilterOperator, MetadataFilter, MetadataFilters

from ragft_pipeline.corpus.document_metadata import to_json
from ragft_pipeline.errors import RagftError
from ragft_pipeline.publishing.publication import publish
from ragft_pipeline.publishing.target import Target
from ragft_pipeline.serving.filtering import FilterableNodes
from ragft_pipeline_tests.publishing.made import asker, content

NUMBER = 24
KEPT = ("path", "title", "heading", "metadata")
SAID: dict[int, dict[str, Any]] = {
    number: {
        "product": "P20" if number % 2 else "P10",
        "tags": ["a", "it's"] if number % 3 == 0 else "c",
        "year": 2000 + number,
        "draft": number % 6 == 0,
        "date": f"2024-01-{number + 1:02d}",
        "product-line": "x",
    }
    for number in range(12)  # the other twelve say nothing
}
COUNTS: list[tuple[str, str, Any, int]] = [
    ("product", "==", "P20", 6),
    ("product", "!=", "P20", 6),
    ("product", "in", ["P20", "P10", "P"], 12),
    ("product", "text_match", "P20", 6),
    ("product", "is_empty", None, 12),
    ("product-line", "==", "x", 12),
    ("tags", "contains", "it's", 4),
    ("tags", "==", "a", 4),
    ("tags", "any", ["a", "c"], 12),
    ("tags", "all", ["a", "it's"], 4),
    ("tags", "all", ["a", "c"], 0),
    ("tags", "nin", ["a"], 8),
    ("tags", "is_empty", None, 12),
    ("year", "==", 2005, 1),
    ("year", "==", 2005.0, 1),
    ("year", ">=", 2005, 7),
    ("year", "nin", [2005, 2006], 10),
    ("year", "==", "2005", 0),
    ("draft", "==", "true", 2),
    ("date", "<", "2024-01-04", 3),
    ("nothing", "==", "x", 0),
    ("nothing", "!=", "x", 0),
    ("nothing", "is_empty", None, 24),
    ("heading", "==", "Part 3", 1),
]


def test_every_operator_finds_the_same_in_every_store(target: Target) -> None:
    made = publish(target, content(NUMBER, said=SAID), asker("one", 16)).manifest
    asked = asker("one", 16)(["which?"])[0]

    def count(condition: str, *filters: MetadataFilter) -> int:
        chosen = MetadataFilters(filters=list(filters), condition=condition)  # type: ignore[arg-type]
        return len(target.search(made, asked, NUMBER, chosen))

    for key, operator, value, expected in COUNTS:
        one = MetadataFilter(key=key, operator=FilterOperator(operator), value=value)
        found = count("and", one), count("not", one)
        assert (key, operator, value, *found) == (key, operator, value, expected, 24 - expected)


def test_what_is_served_is_filtered_as_the_stores_are() -> None:
    rows = [
        {**passage.metadata, "metadata": to_json(SAID.get(number, {}))}
        for number, passage in enumerate(content(NUMBER, said=SAID).passages)
    ]
    nodes = FilterableNodes(pa.Table.from_pylist([{k: row[k] for k in KEPT} for row in rows]))
    for key, operator, value, expected in COUNTS:
        one = MetadataFilter(key=key, operator=FilterOperator(operator), value=value)
        for condition, wanted in (("and", expected), ("not", 24 - expected)):
            chosen = MetadataFilters(filters=[one], condition=condition)  # type: ignore[arg-type]
            assert (key, operator, nodes.matching(chosen).sum()) == (key, operator, wanted)


REFUSED: list[tuple[str, str, Any, str]] = [
    ("product'; --", "==", "x", "letters, digits, _ and -"),
    ("year", "text_match", 2000, "does not go with"),
    ("tags", ">", "a", "it holds lists|is no date"),
    ("product", "==", "x\x00", "neither text nor number"),
]


def test_a_filter_that_asks_nothing_gives_one_line(target: Target) -> None:
    made = content(NUMBER, said=SAID).manifest(1).at("nowhere")
    asked = asker("one", 16)(["which?"])[0]
    for key, operator, value, line in REFUSED:
        chosen = MetadataFilter(key=key, operator=FilterOperator(operator), value=value)
        with pytest.raises(RagftError, match=line):
            target.search(made, asked, 5, MetadataFilters(filters=[chosen]))
