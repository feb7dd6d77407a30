from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from ragft_pipeline.errors import RagftError
from ragft_pipeline.questions.drafts import SourceNode
from ragft_pipeline.questions.exchange import imported_drafts, labelled_pairs
from ragft_pipeline.questions.formats import read_labelled
from ragft_pipeline.questions.formats.embedding_qa import read_embedding_qa, write_embedding_qa

TEXTS = {"n1": "The pump starts\nat 6 bar.", "n2": "锅炉每年检修一次。", "n3": "Unasked."}
NODES = [SourceNode(node_id, text, "", "", False) for node_id, text in TEXTS.items()]
TABLE = pa.table({"node_id": list(TEXTS), "text": list(TEXTS.values())})
PAIRS = pa.table(
    {
        "question_id": ["q1", "q2", "q3"],
        "question": ["When does it start?", "多久检修？", "At what pressure?"],
        "node_id": ["n1", "n2", "n1"],
    }
)


def write(path: Path, **fields: Any) -> Path:
    whole = {"queries": {"q": "Why?"}, "corpus": {"t": "x"}, "relevant_docs": {"q": ["t"]}}
    path.write_text(json.dumps(whole | fields), encoding="utf-8")
    return path


def questions(path: Path, nodes: list[SourceNode] = NODES) -> dict[str, list[str]]:
    return {
        node_id: [draft.question for draft in drafts]
        for node_id, drafts in imported_drafts(read_labelled(path), nodes).items()
    }


def test_an_export_has_the_fields_of_the_data_set(tmp_path: Path) -> None:
    # the class itself is in llama-index-finetuning, which asks for an older adapter package
    file = tmp_path / "set.json"
    write_embedding_qa(labelled_pairs(PAIRS, TABLE), file)
    assert json.loads(file.read_text(encoding="utf-8")) == {
        "queries": {"q1": "When does it start?", "q2": "多久检修？", "q3": "At what pressure?"},
        "corpus": {name: TEXTS[name] for name in ("n1", "n2")},
        "relevant_docs": {"q1": ["n1"], "q2": ["n2"], "q3": ["n1"]},
        "mode": "text",
    }


def test_what_was_exported_is_imported_again(tmp_path: Path) -> None:
    file = tmp_path / "set.json"
    write_embedding_qa(labelled_pairs(PAIRS, TABLE), file)
    assert questions(file) == {
        "n1": ["When does it start?", "At what pressure?"],
        "n2": ["多久检修？"],
    }
    drafts = imported_drafts(read_labelled(file), NODES)["n1"]
    assert {(d.kind, d.start, d.end) for d in drafts} == {("imported", 0, len(TEXTS["n1"]))}


def test_a_set_under_other_ids_and_without_a_mode_is_imported(tmp_path: Path) -> None:
    fields = {
        "queries": {"a": "多久?"},
        "corpus": {"b": TEXTS["n2"]},
        "relevant_docs": {"a": ["b"]},
    }
    assert questions(write(tmp_path / "set.json", **fields)) == {"n2": ["多久?"]}


@pytest.mark.parametrize(
    "text", ["The pump starts at 6 bar.", "pump  starts\n", "A. The pump starts at 6 bar. Z"]
)
def test_a_text_cut_otherwise_finds_its_node(tmp_path: Path, text: str) -> None:
    assert questions(write(tmp_path / "set.json", corpus={"t": text})) == {"n1": ["Why?"]}


def test_a_text_of_several_nodes_gives_each_question_to_the_nearest(tmp_path: Path) -> None:
    texts = {"b": "The pump starts at 6 bar.", "a": "The boiler rests on Sundays.", "c": "  "}
    nodes = [SourceNode(node_id, text, "", "", False) for node_id, text in texts.items()]
    asked = {
        "1": "At what pressure in bar starts the pump?",
        "2": "When does the boiler rest?",
        "3": "Who knows?",  # no term of either: the first id
    }
    file = write(
        tmp_path / "set.json",
        queries=asked,
        corpus={"t": f"{texts['b']}\n{texts['a']}"},
        relevant_docs={key: ["t"] for key in asked},
    )
    expected = {"a": [asked["2"], asked["3"]], "b": [asked["1"]]}
    assert questions(file, nodes) == questions(file, nodes[::-1]) == expected


def test_the_node_that_is_the_text_goes_before_one_that_contains_it(tmp_path: Path) -> None:
    longer = SourceNode("a", f"Why? {TEXTS['n1']} Why not?", "", "", False)
    file = write(tmp_path / "set.json", corpus={"t": TEXTS["n1"]})
    assert questions(file, [longer, *NODES]) == {"n1": ["Why?"]}


@pytest.mark.parametrize("text", ["Stands in another split.", "", "  "])
def test_a_text_in_no_node_is_left(tmp_path: Path, text: str) -> None:
    assert questions(write(tmp_path / "set.json", corpus={"t": text})) == {}


def test_a_question_is_asked_of_all_its_relevant_texts(tmp_path: Path) -> None:
    file = write(
        tmp_path / "set.json",
        corpus={"a": TEXTS["n1"], "b": TEXTS["n2"], "c": TEXTS["n3"]},
        relevant_docs={"q": ["a", "b", "gone", "b"]},
    )
    assert questions(file) == {"n1": ["Why?"], "n2": ["Why?"]}
    pairs = pa.table({"question_id": ["1", "2"], "question": ["Why?"] * 2, "node_id": ["n1", "n2"]})
    write_embedding_qa(labelled_pairs(pairs, TABLE), tmp_path / "again.json")
    again = json.loads((tmp_path / "again.json").read_text(encoding="utf-8"))
    assert (again["queries"], again["relevant_docs"]) == ({"1": "Why?"}, {"1": ["n1", "n2"]})


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"relevant_docs": {"q": ["t"], "gone": ["t"]}}, "gone: is no question"),
        ({"queries": {"q": "Why?", "bad": 5}, "relevant_docs": {"q": ["t"], "bad": ["t"]}}, "bad:"),
        ({"queries": {"q": "Why?", "bad": "What?"}}, "bad: has no relevant text"),
        ({"relevant_docs": {"q": ["t"], "bad": []}, "queries": {"q": "Why?", "bad": "?"}}, "bad:"),
        ({"relevant_docs": {"q": ["t"], "bad": 5}, "queries": {"q": "Why?", "bad": "?"}}, "bad:"),
        (
            {"relevant_docs": {"q": ["t"], "bad": ["no"]}, "queries": {"q": "Why?", "bad": "?"}},
            "bad: none of its relevant texts",
        ),
    ],
)
def test_a_bad_entry_is_left_out_and_the_rest_is_read(
    tmp_path: Path, fields: dict[str, Any], why: str
) -> None:
    file = write(tmp_path / "set.json", **({"corpus": {"t": TEXTS["n1"], "x": 5}} | fields))
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    found = read_embedding_qa(file)
    assert questions(file) == {"n1": ["Why?"]}
    assert (len(found.questions), len(found.left_out)) == (1, 1)
    assert found.left_out[0].startswith(why)


@pytest.mark.parametrize("fields", [{"relevant_docs": ["q"]}, {"corpus": None}])
def test_a_set_that_does_not_hold_together_is_an_error(
    tmp_path: Path, fields: dict[str, Any]
) -> None:
    with pytest.raises(RagftError, match="is not an EmbeddingQAFinetuneDataset JSON") as caught:
        questions(write(tmp_path / "set.json", **fields))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b"\xff\xfe", b"null"])
def test_another_file_is_an_error(tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "set.json"
    file.write_bytes(data)
    with pytest.raises(RagftError, match=r"set\.json"):
        questions(file)
