from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ragft_pipeline import schemas
from ragft_pipeline.corpus.markdown import title_of
from ragft_pipeline.corpus.snapshots import Snapshot, SnapshotStore
from ragft_pipeline.errors import RagftError
from ragft_pipeline.settings import Settings
from ragft_pipeline.store import ArtifactStore
from ragft_pipeline_tests.corpora import encrypted_pdf_bytes, prose, settings_for, write_corpus


class Corpus:
    """A corpus folder and the store it is frozen into."""

    def __init__(self, root: Path, extra: str = "") -> None:
        self.folder = root / "corpus"
        self.settings: Settings = settings_for(self.folder, root / "store", extra)
        self.snapshots = SnapshotStore(ArtifactStore(root / "store"))
        write_corpus(self.folder, {f"{n}.md": f"# Page {n}\n\n{prose(n)}" for n in range(8)})

    def freeze(self) -> Snapshot:
        return self.snapshots.freeze(self.settings)

    def write(self, name: str, content: str | bytes) -> None:
        write_corpus(self.folder, {name: content})

    def read(self, name: str) -> str:
        return (self.folder / name).read_text()


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return Corpus(tmp_path)


def places(snapshot: Snapshot) -> dict[str, tuple[str, str]]:
    rows = snapshot.table(schemas.DOCUMENTS).to_pylist()
    return {row["path"]: (row["doc_key"], row["split"]) for row in rows}


def test_the_same_content_is_the_same_version(corpus: Corpus) -> None:
    first = corpus.freeze()
    assert corpus.freeze().version == first.version
    assert corpus.snapshots.versions() == [first.version]


def test_the_same_content_is_the_same_version_in_another_store(tmp_path: Path) -> None:
    first, second = Corpus(tmp_path / "a").freeze(), Corpus(tmp_path / "b").freeze()
    assert first.version == second.version
    assert first.data_version == second.data_version


def test_an_edit_is_a_new_version_that_names_its_parent(corpus: Corpus) -> None:
    first = corpus.freeze()
    corpus.write("3.md", prose("other"))
    second = corpus.freeze()
    assert (first.version[:5], second.version[:5]) == ("v0001", "v0002")
    assert second.facts["parent"] == first.version
    assert second.data_version != first.data_version
    before, after = places(first), places(second)
    assert {path for path in after if after[path][0] != before[path][0]} == {"3.md"}
    assert {path: split for path, (_, split) in after.items()} == {
        path: split for path, (_, split) in before.items()
    }


def test_a_store_of_an_older_release_goes_on(corpus: Corpus) -> None:
    """Texts and documents once said whether people's questions about them choose or report."""
    first = corpus.freeze()
    for table in (schemas.LEDGER, schemas.DOCUMENTS):
        file = first.folder / f"{table.name}.parquet"
        held = pq.read_table(file)
        older = held.append_column("gold_part", pa.array(["dev"] * held.num_rows))
        pq.write_table(older, file)
    corpus.write("3.md", prose("other"))
    after = places(corpus.freeze())
    assert {path: split for path, (_, split) in after.items()} == {
        path: split for path, (_, split) in places(first).items()
    }


def test_a_white_space_edit_is_no_new_version(corpus: Corpus) -> None:
    first = corpus.freeze()
    corpus.write("3.md", "\ufeff" + corpus.read("3.md").replace("\n", "  \r\n") + "\n\n\n")
    assert corpus.freeze().version == first.version


def test_a_rename_keeps_text_and_split(corpus: Corpus) -> None:
    first = corpus.freeze()
    (corpus.folder / "3.md").rename(corpus.folder / "three.md")
    second = corpus.freeze()
    assert second.version != first.version
    before, after = places(first), places(second)
    assert after.pop("three.md") == before.pop("3.md")
    assert after == before


def test_what_a_document_says_about_itself_is_no_part_of_its_text(corpus: Corpus) -> None:
    """An edit of front matter is another version, of the same texts, titles and splits."""
    text = corpus.read("3.md")
    corpus.write("3.md", f"---\nproduct: P20\nreviewed: 2024-05-01\n---\n\n{text}")
    first = corpus.freeze()
    corpus.write("3.md", f"---\nproduct: P30\ntags: [pump, 5]\n---\n{text}")
    second = corpus.freeze()

    said = {}
    for snapshot in (first, second):
        rows = snapshot.table(schemas.DOCUMENTS).to_pylist()
        said[snapshot.version] = {
            r["path"]: json.loads(r["metadata"]) for r in rows if r["metadata"]
        }
    assert list(said.values()) == [
        {"3.md": {"product": "P20", "reviewed": "2024-05-01"}},
        {"3.md": {"product": "P30", "tags": ["pump", 5]}},
    ]
    assert places(first) == places(second)
    assert "product" not in corpus.snapshots.text(places(second)["3.md"][0])
    corpus.write("3.md", text)
    assert places(corpus.freeze()) == places(first)
    corpus.write("3.md", f"---\nproduct: P30 # as before\ntags: [pump, 5]\n---\n{text}")
    assert corpus.freeze().version == second.version


def test_a_revert_returns_the_earlier_version(corpus: Corpus) -> None:
    first, text = corpus.freeze(), corpus.read("3.md")
    corpus.write("3.md", prose("other"))
    second = corpus.freeze()
    corpus.write("3.md", text)
    assert corpus.freeze().version == first.version
    corpus.write("3.md", prose("third"))
    assert corpus.freeze().facts["parent"] == second.version


def test_an_edited_copy_keeps_the_split_of_its_original(corpus: Corpus) -> None:
    for number in range(8):
        corpus.write(f"copy/{number}.md", corpus.read(f"{number}.md"))
    before = places(corpus.freeze())
    for number in range(8):
        corpus.write(f"copy/{number}.md", prose(f"rewritten {number}"))
    after = places(corpus.freeze())
    assert {p: s for p, (_, s) in after.items()} == {p: s for p, (_, s) in before.items()}


def test_a_frozen_version_outlives_its_files(corpus: Corpus) -> None:
    first = corpus.freeze()
    texts = {path: corpus.snapshots.text(key) for path, (key, _) in places(first).items()}
    shutil.rmtree(corpus.folder)
    again = corpus.snapshots.load(first.version)
    assert {p: corpus.snapshots.text(key) for p, (key, _) in places(again).items()} == texts


def test_skipped_documents_are_named_with_reasons(corpus: Corpus) -> None:
    corpus.write("empty.md", "")
    corpus.write("noise.txt", b"\x00\x01\x02\x03")
    corpus.write("locked.pdf", encrypted_pdf_bytes("secret", "pass"))
    corpus.write("huge.md", "x" * 20_000_001)
    (corpus.folder / "out.md").symlink_to("/etc/hostname")
    Path(os.fsdecode(os.fsencode(corpus.folder) + b"/caf\xe9.md")).write_text("x")
    lines: list[str] = []
    snapshot = corpus.snapshots.freeze(corpus.settings, lines.append)
    reasons = {row["path"]: row["reason"] for row in snapshot.table(schemas.SKIPPED).to_pylist()}
    assert sorted(reasons) == [
        "caf\\udce9.md", "empty.md", "huge.md", "locked.pdf", "noise.txt", "out.md",
    ]  # fmt: skip
    assert snapshot.facts["skipped"] == 6
    assert snapshot.facts["documents"] == 8
    assert all(f"skipped {path}: {reason}" in lines for path, reason in reasons.items())


def test_what_is_not_read_is_counted_by_reason(corpus: Corpus) -> None:
    corpus.write("latin.txt", "Die Größe der Düse beträgt fünf Millimeter.".encode("latin-1"))
    for name in ("a.png", "b.png", "old.doc", ".git/c.md"):
        corpus.write(name, "x")
    lines: list[str] = []
    first = corpus.snapshots.freeze(corpus.settings, lines.append)
    assert first.facts["skipped"] == 3
    assert first.facts["excluded"] == first.facts["warnings"] == 1
    assert first.left_out == {
        "skipped": "an image (.png) ×2, an old Word file ×1",
        "excluded": "hidden ×1",
        "warnings": "its encoding is not declared ×1",
    }
    row = first.table(schemas.WARNINGS).to_pylist()[0]
    assert row["path"] == "latin.txt"
    assert f"warning: latin.txt: {row['warning']}" in lines
    corpus.write("new.md", prose("new"))
    second = corpus.freeze()  # the old texts are not read again, their warnings stay
    assert second.version != first.version
    assert second.table(schemas.WARNINGS).to_pylist() == [row]


def test_a_store_inside_the_corpus_brings_no_old_texts_back(corpus: Corpus) -> None:
    settings = settings_for(corpus.folder, corpus.folder / "mystore")
    snapshots = SnapshotStore(ArtifactStore(settings.store))
    first = snapshots.freeze(settings)
    corpus.write("0.md", prose("edited"))
    assert snapshots.freeze(settings).facts["documents"] == first.facts["documents"]


def test_a_document_that_becomes_readable_is_a_new_version(corpus: Corpus) -> None:
    corpus.write("latin.txt", "Öldruck prüfen".encode("latin-1"))
    first = corpus.freeze()
    corpus.settings = settings_for(corpus.folder, corpus.snapshots.store.root)
    encodings = corpus.settings.corpus.model_copy(update={"encodings": ("utf-8", "latin-1")})
    corpus.settings = corpus.settings.model_copy(update={"corpus": encodings})
    second = corpus.freeze()
    assert second.version != first.version
    assert corpus.snapshots.text(places(second)["latin.txt"][0]) == "Öldruck prüfen"


def test_a_corrected_encoding_is_read_again(corpus: Corpus) -> None:
    corpus.write("chinese.txt", "锅炉检修".encode("gb18030"))
    for encoding in ("latin-1", "gb18030"):
        section = corpus.settings.corpus.model_copy(update={"encodings": ("utf-8", encoding)})
        corpus.settings = corpus.settings.model_copy(update={"corpus": section})
        snapshot = corpus.freeze()
    assert corpus.snapshots.text(places(snapshot)["chinese.txt"][0]) == "锅炉检修"


def test_known_files_are_not_read_again(corpus: Corpus, tmp_path: Path) -> None:
    corpus.freeze()
    blob = next((tmp_path / "store" / "blobs").rglob("*.txt"))
    stamp = blob.stat().st_mtime_ns
    corpus.write("new.md", prose("new"))
    corpus.freeze()
    assert blob.stat().st_mtime_ns == stamp


@pytest.mark.parametrize("documents", [{}, {"image.png": "x"}, {"empty.md": "", "b.pdf": "x"}])
def test_a_corpus_without_a_document_is_an_error(tmp_path: Path, documents: dict[str, str]) -> None:
    folder = tmp_path / "corpus"
    folder.mkdir()
    write_corpus(folder, documents)
    with pytest.raises(RagftError, match="no readable document") as caught:
        SnapshotStore(ArtifactStore(tmp_path)).freeze(settings_for(folder, tmp_path))
    assert ("empty.md: empty file" in str(caught.value)) == ("empty.md" in documents)
    assert SnapshotStore(ArtifactStore(tmp_path)).versions() == []


QUESTION = '{"question": "Wié?", "doc": "a.md"}'


def test_gold_questions_are_frozen_with_the_documents(tmp_path: Path) -> None:
    folder = write_corpus(tmp_path / "corpus", {"docs/a.md": prose("a"), "queries.jsonl": QUESTION})
    snapshots, settings = SnapshotStore(ArtifactStore(tmp_path)), settings_for(folder, tmp_path)
    first = snapshots.freeze(settings)
    assert places(first).keys() == {"a.md"}
    assert first.gold_text == QUESTION
    write_corpus(folder, {"queries.jsonl": ""})
    second = snapshots.freeze(settings)
    assert second.version != first.version
    assert (snapshots.load(first.version).gold_text, second.gold_text) == (first.gold_text, "")


def test_a_bucket_is_frozen_like_a_folder(tmp_path: Path) -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe({f"/bucket/{n}.md": prose(n).encode() for n in range(4)})
    try:
        settings = settings_for("memory://bucket", tmp_path)
        snapshot = SnapshotStore(ArtifactStore(tmp_path)).freeze(settings)
    finally:
        memory.rm("/bucket", recursive=True)
    assert sorted(places(snapshot)) == ["0.md", "1.md", "2.md", "3.md"]


def test_an_unknown_version_names_the_known_ones(corpus: Corpus) -> None:
    with pytest.raises(RagftError, match="none yet"):
        corpus.snapshots.load("v0001-x")
    version = corpus.freeze().version
    with pytest.raises(RagftError, match=version):
        corpus.snapshots.load("v0009-x")


def test_statistics_stay_until_enough_training_text_is_new(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path, "statistics: {refresh_share: 0.3}")
    first = corpus.freeze()
    train = [path for path, (_, split) in places(first).items() if split == "train"]
    held = [path for path, (_, split) in places(first).items() if split != "train"]
    assert first.facts["statistics_version"] == first.version
    for path in held:
        corpus.write(path, prose(f"new {path}"))
    corpus.write(train[0], prose("new 0"))
    second = corpus.freeze()
    assert second.facts["statistics_version"] == first.version
    corpus.write(train[1], prose("new 1"))
    third = corpus.freeze()
    assert third.facts["statistics_version"] == third.version
    corpus.write(train[2], prose("new 2"))
    assert corpus.freeze().facts["statistics_version"] == third.version


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("# Pumps\n\ntext", "Pumps"),
        ("intro\n# Pumps", "Pumps"),
        ("plain first line\nsecond", "plain first line"),
        ("## only deeper", "only deeper"),
        ("x" * 300, "x" * 120),
    ],
)
def test_a_title_is_the_first_heading_or_line(text: str, title: str) -> None:
    assert title_of(text) == title


MANUAL = "# Pump manual\n\n" + "\n\n".join(f"## Chapter {n}\n\n{prose(n, 60)}" for n in range(12))


def test_one_manual_is_split_by_its_sections(tmp_path: Path) -> None:
    gold = '{"question": "Which?", "doc": "manual.md", "answer_text": "never said"}\n'
    gold += json.dumps({"question": "What?", "doc": "manual.md", "answer_text": prose(7, 60)})
    folder = write_corpus(tmp_path / "corpus", {"docs/manual.md": MANUAL, "queries.jsonl": gold})
    snapshots, settings = SnapshotStore(ArtifactStore(tmp_path)), settings_for(folder, tmp_path)
    first = snapshots.freeze(settings)
    rows = first.table(schemas.DOCUMENTS).to_pylist()
    assert (first.facts["documents"], first.facts["sections"]) == (1, 12)
    assert [row["path"] for row in rows] == [f"manual.md § Chapter {n}" for n in range(12)]
    assert {row["split"] for row in rows} == {"train", "val", "test"}
    for row in rows:
        whole, own = snapshots.text(row["file_key"]), snapshots.text(row["doc_key"])
        assert whole[row["start_char"] :].startswith(own)
        assert prose(int(row["path"].split()[-1]), 60) in own
    assert first.gold_left_out == [
        "1 of 2 entries of the gold questions are left out:",
        "  line 1: the answer 'never said' is not in manual.md",
    ]
    assert snapshots.freeze(settings).version == first.version

    write_corpus(folder, {"docs/manual.md": MANUAL.replace("Chapter 3\n", "Chapter 3\n\nNew. ")})
    second = snapshots.freeze(settings).table(schemas.DOCUMENTS).to_pylist()
    assert [row["split"] for row in second] == [row["split"] for row in rows]
    assert sum(row["doc_key"] == old["doc_key"] for row, old in zip(second, rows)) == 11
