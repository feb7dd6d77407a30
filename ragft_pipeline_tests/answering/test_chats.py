from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ragft_pipeline.answering.chats import CHATS_FILE, mixed_chats
from ragft_pipeline.answering.prompts import read_answer
from ragft_pipeline.answering.support import known_pairs, passages_shown, supported_shares
from ragft_pipeline.corpus.snapshots import SnapshotStore
from ragft_pipeline.errors import RagftError
from ragft_pipeline.lineage.steps import materialize
from ragft_pipeline.recipes import RECIPES
from ragft_pipeline.settings import Mix, Settings
from ragft_pipeline.store import Artifact, ArtifactStore
from ragft_pipeline_tests.changing_corpus import first_docs, handbook
from ragft_pipeline_tests.corpora import settings_for, write_corpus
from ragft_pipeline_tests.questions.openai_server import OpenAIServer, fail, say, serving
from ragft_pipeline_tests.short_model import short_embedder

NEEDED = (
    "corpus_snapshot", "chunked_nodes", "train_nodes", "val_nodes", "test_nodes",
    "corpus_statistics", "train_qa_pairs", "val_qa_pairs", "test_qa_pairs", "train_chats",
    "val_chats", "test_chats",
)  # fmt: skip
EXTRACTIVE = "questions: {generators: [{kind: extractive}], round_trip_top_k: 0}\n"
DECLINE = "The passages do not say."


class Corpus:
    """A small corpus, and its chats at every state."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.extra = f"{EXTRACTIVE}statistics: {{refresh_share: 0.9}}\n"
        self.extra += f"embedder: {{model: {short_embedder()}}}\n"
        self.docs = {name: doc.text for name, doc in first_docs().items()}

    @property
    def settings(self) -> Settings:
        return settings_for(self.folder / "docs", self.folder / "store", self.extra)

    def chats(self) -> dict[str, Artifact]:
        write_corpus(self.folder / "docs", self.docs)
        settings = self.settings
        store = ArtifactStore(settings.store)
        version = SnapshotStore(store).freeze(settings).version
        made = {
            r.name: materialize(r, settings, version).artifact for r in RECIPES if r.name in NEEDED
        }
        return {name: artifact for name, artifact in made.items() if name.endswith("_chats")}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    corpus = Corpus(tmp_path_factory.mktemp("chats"))
    corpus.chats()
    return corpus


@pytest.fixture
def corpus(made: Corpus, tmp_path: Path) -> Corpus:
    """A copy of one whose chats have been made, free to change."""
    shutil.copytree(made.folder, tmp_path / "corpus")
    return Corpus(tmp_path / "corpus")


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    with serving() as found:
        yield found


def test_a_chat_shows_its_source_and_quotes_it(corpus: Corpus) -> None:
    rows = corpus.chats()["train_chats"].table().to_pylist()
    assert rows
    for row in rows:
        passages, question = passages_shown(row)
        answer = read_answer(row["messages"][-1]["content"], DECLINE)
        assert question
        if row["source"]:
            assert row["passages"][row["source"] - 1] == row["node_id"]
            assert answer.cited == (row["source"],)
            plain = " ".join(passages[row["source"] - 1].split())
            assert answer.text.rstrip(".") in plain
        else:
            assert answer.declined
            assert row["node_id"] not in row["passages"]


def test_no_distractor_holds_the_answer(corpus: Corpus) -> None:
    for row in corpus.chats()["train_chats"].table().to_pylist():
        passages, _ = passages_shown(row)
        answer = read_answer(row["messages"][-1]["content"], DECLINE).text
        others = [text for n, text in enumerate(passages, start=1) if n != row["source"]]
        assert not any(answer in " ".join(text.split()) for text in others)


def test_a_claim_is_not_asked_for_in_its_own_sentence(corpus: Corpus) -> None:
    for row in corpus.chats()["train_chats"].table().to_pylist():
        if row["kind"] == "claim" and row["source"]:
            _, question = passages_shown(row)
            assert len(question.split()) <= 6
            assert question not in row["messages"][-1]["content"]


def test_train_chats_show_train_documents_alone(corpus: Corpus) -> None:
    made = corpus.chats()
    store = ArtifactStore(corpus.settings.store)
    version = SnapshotStore(store).versions()[-1]
    train = set(store.read(version, "train_nodes").table().column("node_id").to_pylist())
    shown = {n for row in made["train_chats"].table().to_pylist() for n in row["passages"]}
    assert shown <= train


def test_a_new_document_makes_its_own_chats_and_no_others(corpus: Corpus) -> None:
    before = corpus.chats()
    page = handbook()[9]
    corpus.docs["new.md"] = page.text
    after = corpus.chats()
    new_rows = computed = 0
    for name in before:
        old = {row["chat_id"]: row for row in before[name].table().to_pylist()}
        now = {row["chat_id"]: row for row in after[name].table().to_pylist()}
        assert old.items() <= now.items()
        added = [row for chat_id, row in now.items() if chat_id not in old]
        assert len({row["doc_key"] for row in added}) <= 1
        new_rows += len(added)
        computed += len(_distractor_rows(after[name]) - _distractor_rows(before[name]))
    assert new_rows == computed > 0


def _distractor_rows(artifact: Artifact) -> set[object]:
    import pyarrow.parquet as pq

    segments = artifact.path.glob("distractors-*.parquet")
    return {key for file in segments for key in pq.read_table(file)["row_key"].to_pylist()}


def test_chats_are_written_as_services_take_them(corpus: Corpus) -> None:
    made = corpus.chats()["train_chats"]
    lines = (made.path / CHATS_FILE).read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["messages"] for line in lines] == [
        row["messages"] for row in made.table().sort_by("chat_id").to_pylist()
    ]


def test_a_teacher_answers_each_question_once(corpus: Corpus, server: OpenAIServer) -> None:
    server.default = say("Close the valve first.")
    corpus.extra += f"chats: {{missing: 0, teacher: {{model: big, base_url: '{server.url}'}}}}\n"
    rows = corpus.chats()["train_chats"].table().to_pylist()
    answers = {row["messages"][-1]["content"] for row in rows}
    assert answers <= {f"Close the valve first. [{n}]" for n in (1, 2, 3)}
    asked = len(server.requests)
    corpus.docs["area0/page0.md"] += "\n\nThe pump room is locked after nine in the evening."
    corpus.chats()
    about = [request.prompt for request in server.requests[asked:]]
    assert about
    assert all("locked after nine" in prompt or "# " in prompt for prompt in about)
    assert len(about) < asked


def test_a_teacher_that_fails_keeps_what_it_answered(corpus: Corpus, server: OpenAIServer) -> None:
    server.default = say("Close the valve first.")
    first = first_docs()["area0/page0.md"].sentences[0][:30]
    server.plan(first, [fail(500)] * 1000)
    pace = f"model: big, base_url: '{server.url}', max_retries: 0"
    corpus.extra += f"chats: {{teacher: {{{pace}}}}}\n"
    with pytest.raises(RagftError, match="got no answer; what was answered is kept"):
        corpus.chats()
    asked = len(server.requests)
    server.script.clear()
    corpus.chats()
    splits = [request.prompt for request in server.requests[:asked]]
    again = [request.prompt for request in server.requests[asked:]]
    assert not {prompt for prompt in again if first not in prompt} & set(splits)


def test_a_users_chats_are_mixed_in_and_followed(corpus: Corpus, tmp_path: Path) -> None:
    file = tmp_path / "style.jsonl"
    chat = [
        {"role": "user", "content": "count pumps"},
        {"role": "assistant", "content": "SELECT 1"},
    ]
    file.write_text(json.dumps({"messages": chat}) + "\n", encoding="utf-8")
    corpus.extra += f"chats: {{mixes: [{{path: '{file}'}}]}}\n"
    made = corpus.chats()
    mixed = [row for row in made["train_chats"].table().to_pylist() if row["kind"] == "mixed"]
    assert [row["messages"] for row in mixed] == [chat]
    assert "mixed" not in made["val_chats"].table().column("kind").to_pylist()
    before = corpus.settings.chats.digest()
    file.write_text(json.dumps({"messages": chat[:1] + chat}) + "\n", encoding="utf-8")
    assert corpus.settings.chats.digest() != before


@pytest.mark.parametrize(
    "line", ["{", '{"messages": []}', '{"messages": [{"role": "user", "content": "x"}]}', "[1]"]
)
def test_a_line_that_is_no_chat_is_named(tmp_path: Path, line: str) -> None:
    file = tmp_path / "style.jsonl"
    file.write_text(f"\n{line}\n", encoding="utf-8")
    with pytest.raises(RagftError, match=r"style\.jsonl line 2 is no chat"):
        mixed_chats(Mix(path=str(file)))


def test_support_is_asked_only_of_what_is_no_quotation(corpus: Corpus) -> None:
    true, false = known_pairs(corpus.chats()["train_chats"].table(), DECLINE)
    asked: list[tuple[str, str]] = []

    class Judge:
        def supported(self, pairs, work):  # type: ignore[no-untyped-def]
            asked.extend(pairs)
            return np.array([text == "yes" for _, text in pairs])

    claims = [[(sentence, [text])] for sentence, text in true[:2]]
    claims += [[("It is warm.", ["yes"]), ("It is cold.", ["no"])], [("Nobody cites.", [])], []]
    shares = supported_shares(claims, Judge(), None)  # type: ignore[arg-type]
    assert shares == [1.0, 1.0, 0.5, 0.0, 0.0]
    assert asked == [("It is warm.", "yes"), ("It is cold.", "no")]
    assert len(true) == len(false)
