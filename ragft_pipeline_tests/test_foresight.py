"""What a run will come to is said before it costs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from ragft_pipeline.corpus.snapshots import Snapshot, SnapshotStore
from ragft_pipeline.errors import RagftError
from ragft_pipeline.lineage.foresight import foresight, require_measurable
from ragft_pipeline.models.weights import Weights, require_embedder, resolve_weights
from ragft_pipeline.retrieval.encoder import Encoder, prompt_of
from ragft_pipeline.settings import ComputeSettings, EmbedderSettings, Settings
from ragft_pipeline.store import ArtifactStore
from ragft_pipeline_tests.corpora import prose, settings_for, write_corpus

BASE = resolve_weights("embedded:all-minilm-l6-v2")


def freeze(folder: Path, documents: dict[str, str], extra: str = "") -> tuple[Snapshot, Settings]:
    settings = settings_for(write_corpus(folder / "corpus", documents), folder / "store", extra)
    return SnapshotStore(ArtifactStore(folder / "store")).freeze(settings), settings


def said(folder: Path, documents: dict[str, str], extra: str = "") -> str:
    return "\n".join(foresight(*freeze(folder, documents, extra)))


@pytest.mark.parametrize(
    ("documents", "named"),
    [
        ({"note.md": "One note."}, "1 document (note.md): no val and no test"),
        ({"a.md": "One.", "b.md": "Two."}, "2 documents (a.md, b.md): no val and no test"),
        (
            {f"{n}.md": "The same words." for n in range(5)},
            "5 documents in 1 group(s) of near-duplicates (0.md, 1.md, 2.md, …): no val and no",
        ),
    ],
)
def test_a_corpus_that_nothing_can_be_held_out_of_is_an_error_before_training(
    tmp_path: Path, documents: dict[str, str], named: str
) -> None:
    snapshot, settings = freeze(tmp_path, documents)
    with pytest.raises(RagftError) as caught:
        require_measurable(snapshot)
    assert named in str(caught.value)
    assert ("split.near_duplicate" in str(caught.value)) == (len(documents) == 5)
    assert "\n" not in str(caught.value)
    lines = foresight(snapshot, settings)
    assert [line for line in lines if line.startswith(("no val", "no test"))] == lines[:2]


def test_questions_alone_can_measure(tmp_path: Path) -> None:
    gold = '{"question": "What?", "doc": "a.md"}'
    snapshot, settings = freeze(tmp_path, {"docs/a.md": "One note.", "queries.jsonl": gold})
    require_measurable(snapshot)
    assert "1 of people's questions name no answer" in "\n".join(foresight(snapshot, settings))


def test_what_was_held_out_leaves_nothing_to_train_on(tmp_path: Path) -> None:
    documents = {f"{n}.md": prose(n) for n in range(9)}
    snapshot, settings = freeze(tmp_path, documents)
    held_out = [row["path"] for row in rows(snapshot) if row["split"] == "test"]
    for path in documents.keys() - set(held_out):
        (tmp_path / "corpus" / path).unlink()
    later = SnapshotStore(ArtifactStore(tmp_path / "store")).freeze(settings)
    with pytest.raises(RagftError, match="nothing to train on"):
        require_measurable(later)


def rows(snapshot: Snapshot) -> list[dict[str, str]]:
    from ragft_pipeline import schemas

    return list(snapshot.table(schemas.DOCUMENTS).to_pylist())


def test_too_little_to_prove_anything_is_said(tmp_path: Path) -> None:
    lines = said(tmp_path, {f"{n}.md": prose(n) for n in range(8)})
    assert "2 test documents: no gain on them can be proven with fewer than 5" in lines
    assert "none of people's questions, and from 20 (evaluation.min_gold) on they decide" in lines


def test_a_corpus_with_enough_of_everything_says_nothing(tmp_path: Path) -> None:
    documents = {f"docs/{n}.md": prose(n) for n in range(30)}
    gold = [
        {"question": f"What of {n}?", "doc": f"{n % 30}.md", "answer_text": prose(n % 30)[:30]}
        for n in range(90)
    ]
    documents["queries.jsonl"] = "\n".join(map(json.dumps, gold))
    assert said(tmp_path, documents) == ""


def model(folder: Path, *left_out: str, **configs: object) -> Path:
    """Write a model's folder: the base embedder's files, but for its weights."""
    target = folder / "model"
    ignore = shutil.ignore_patterns("model.safetensors", *left_out)
    shutil.copytree(BASE.folder, target, ignore=ignore)
    for name, content in configs.items():
        (target / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    return target


NO_ST = ("modules.json", "config_sentence_transformers.json", "1_Pooling")


@pytest.mark.parametrize(
    ("left_out", "configs", "why"),
    [
        (NO_ST, {"config": {"architectures": ["BertForSequenceClassification"]}}, "cross-encoder"),
        (NO_ST, {"config": {"architectures": ["GPT2LMHeadModel"]}}, "is a language model"),
        (NO_ST, {"config": {"architectures": ["LlamaForCausalLM"]}}, "is a language model"),
        ((), {"config_sentence_transformers": {"model_type": "CrossEncoder"}}, "a CrossEncoder"),
        (("tokenizer*", "vocab.txt"), {}, "has no tokenizer"),
    ],
)
def test_a_folder_that_is_no_embedder_is_refused_in_a_line(
    tmp_path: Path, left_out: tuple[str, ...], configs: dict[str, object], why: str
) -> None:
    folder = model(tmp_path, *left_out, **configs)
    with pytest.raises(RagftError, match=why) as caught:
        require_embedder(Weights(str(folder), folder, "digest"))
    assert "embedder.model" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "configs",
    [
        {"config": {"architectures": ["BertForMaskedLM"]}},
        {"config": {"architectures": ["Qwen3ForCausalLM"]}},  # pooled by its modules.json
        {"config_sentence_transformers": {"model_type": "SentenceTransformer"}},
        {"config_sentence_transformers": [], "config": {}},
    ],
)
def test_other_folders_are_taken(tmp_path: Path, configs: dict[str, object]) -> None:
    folder = model(tmp_path, **configs)
    weights = Weights(str(folder), folder, "digest")
    assert require_embedder(weights) is weights


def test_the_models_own_prompts_are_used_where_the_settings_say_nothing(tmp_path: Path) -> None:
    prompts = {"query": "query: ", "passage": "passage: ", "document": 5}
    folder = model(tmp_path, config_sentence_transformers={"prompts": prompts})
    weights, compute = Weights(str(folder), folder, "digest"), ComputeSettings()

    def used(**given: str) -> tuple[str, str]:
        settings = EmbedderSettings(**given)
        return prompt_of(weights, settings, "query"), prompt_of(weights, settings, "document")

    assert used() == ("query: ", "passage: ")
    assert used(query_prompt="", document_prompt="text: ") == ("", "text: ")
    encoder = Encoder(weights, EmbedderSettings(), compute)
    empty = Encoder(weights, EmbedderSettings(query_prompt=""), compute)
    assert encoder.identity("query") != empty.identity("query")
    extra = f"embedder: {{model: '{folder}', query_prompt: ''}}"
    lines = said(tmp_path, {f"{n}.md": prose(n) for n in range(3)}, extra)
    assert "embedder.query_prompt is empty" in lines
    assert "document_prompt" not in lines


@pytest.mark.parametrize(
    ("extra", "limit"),
    [
        ("chunking: {size: 300}", 256),
        ("chunking: {size: 300}\nembedder: {max_tokens: 512}", 256),
        ("chunking: {size: 256}", None),
    ],
)
def test_chunks_above_what_the_embedder_reads_are_said(
    tmp_path: Path, extra: str, limit: int | None
) -> None:
    lines = said(tmp_path, {f"{n}.md": prose(n) for n in range(3)}, extra)
    assert (f"set chunking.size to {limit} at most" in lines) == (limit is not None)
