from __future__ import annotations

from pathlib import Path

import pytest

from ragft_pipeline import Corpus
from ragft_pipeline.errors import RagftError
from ragft_pipeline.settings import Settings, load_settings, parse_settings

REPOSITORY = Path(__file__).parent.parent
SECTIONS = [name for name in Settings.model_fields if name != "store"]


def test_the_settings_file_states_the_defaults() -> None:
    text = (REPOSITORY / "ragft.yaml").read_text(encoding="utf-8")
    assert parse_settings(text) == Settings()


def test_an_empty_file_gives_the_defaults() -> None:
    assert parse_settings("# nothing yet\n") == Settings()


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("chunking: {size: 7}", ["chunking.size = 7", "32"]),
        ("chunking: {size: 64, overlap: 40}", ["chunking", "at most half of size"]),
        ("chunking: 5", ["chunking", "dictionary"]),
        ("split: {val: 0.5, test: 0.5}", ["split", "at most 0.8"]),
        ("adapter: {kind: cubic}", ["adapter.kind = 'cubic'", "'linear'", "'two_layer'"]),
        ("adapter: {learning_rate: .nan}", ["adapter.learning_rate = nan"]),
        ("adapter: {strengths: [0.5, 2]}", ["adapter.strengths.1 = 2", "1"]),
        ("chunkin: {}", ["chunkin", "unknown key", "chunking", "corpus"]),
        (
            "compute: {ray: {steps: [{asset: reranker, cpu: 8}]}}",
            ["compute.ray.steps.0.cpu", "cpus"],
        ),
        (
            "tuned_llm: {hosted: {base_url: x, model: m, key: k}}",
            ["tuned_llm.hosted.key", "api_key_env"],
        ),
        ("chunking: {sizes: 5}", ["chunking.sizes", "unknown key", "size", "overlap"]),
        (
            "questions: {generators: [{kind: llm, batch: 3}]}",
            ["questions.generators.0.llm.batch", "unknown key", "batch_size"],
        ),
        (
            "questions: {generators: [{kind: poem}]}",
            ["questions.generators.0", "extractive", "llm", "import"],
        ),
        (
            "questions: {generators: [{kind: llm, model: gpt-4.1-mini}]}",
            ["questions.generators.0.llm", "base_url"],
        ),
        ("- a\n- b", ["mapping", "list"]),
        ("chunking: {size: [", ["line", "not valid YAML"]),
        ("corpus: {encodings: [utf-8, gbk2312]}", ["corpus.encodings", "'gbk2312'", "gb18030"]),
        ("corpus: {suffixes: [md]}", ["corpus.suffixes", "'md'", "'.md'"]),
        ("corpus: {exclude: ['!']}", ["corpus.exclude", "'!'", "gitignore"]),
    ],
)
def test_a_wrong_value_is_named_in_one_line(text: str, parts: list[str]) -> None:
    with pytest.raises(RagftError) as caught:
        parse_settings(text, "my.yaml")
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("my.yaml")
    assert [part for part in parts if part not in message] == []


def test_every_wrong_value_gets_its_own_line() -> None:
    with pytest.raises(RagftError) as caught:
        parse_settings("chunking: {size: 7}\nteacher: {depth: 1}")
    assert [line.split(":")[1].split()[0] for line in str(caught.value).splitlines()] == [
        "chunking.size",
        "teacher.depth",
    ]


@pytest.mark.parametrize(
    ("section", "text"),
    [
        ("chunking", "chunking: {size: 128}"),
        ("embedder", "embedder: {query_prompt: 'query: '}"),
        ("questions", "questions: {min_words: 4}"),
        ("adapter", "adapter: {seed: 14}"),
        ("reranker", "reranker: {layers: 2}"),
    ],
)
def test_a_digest_changes_only_for_the_section_touched(section: str, text: str) -> None:
    changed = parse_settings(text)
    differing = [n for n in SECTIONS if changed.section_digest(n) != Settings().section_digest(n)]
    assert differing == [section]


@pytest.mark.parametrize(
    "pacing",
    [
        "batch_size: 2",
        "concurrency: 32",
        "requests_per_minute: 60",
        "max_retries: 1",
        "timeout_seconds: 5",
        "api_key_env: OTHER_KEY",
    ],
)
def test_pacing_the_language_model_leaves_the_digest(pacing: str) -> None:
    plain = parse_settings("questions: {generators: [{kind: llm}]}")
    paced = parse_settings(f"questions: {{generators: [{{kind: llm, {pacing}}}]}}")
    assert paced.section_digest("questions") == plain.section_digest("questions")


@pytest.mark.parametrize("shaping", ["questions_per_node: 3", "share_of_nodes: 0.5"])
def test_what_shapes_the_answers_changes_the_digest(shaping: str) -> None:
    plain = parse_settings("questions: {generators: [{kind: llm}]}")
    shaped = parse_settings(f"questions: {{generators: [{{kind: llm, {shaping}}}]}}")
    assert shaped.section_digest("questions") != plain.section_digest("questions")


def test_an_imported_set_is_followed_by_content(tmp_path: Path) -> None:
    file, copy = tmp_path / "a.json", tmp_path / "b.json"
    file.write_text("{}")
    copy.write_text("{}")

    def digest(path: Path) -> str:
        text = f"questions: {{generators: [{{kind: import, path: {path}}}]}}"
        return parse_settings(text).section_digest("questions")

    before = digest(file)
    assert digest(copy) == before
    file.write_text('{"queries": {}}')
    assert digest(file) != before
    file.unlink()
    with pytest.raises(RagftError, match="not a file"):
        digest(file)


def test_the_environment_names_the_store_and_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "other.yaml"
    file.write_text("store: from-file\nchunking: {size: 64}\n")
    monkeypatch.setenv("RAGFT_SETTINGS", str(file))
    monkeypatch.delenv("RAGFT_STORE", raising=False)
    assert Corpus.here().settings.store == str(tmp_path / "from-file")
    monkeypatch.setenv("RAGFT_STORE", "from-environment")
    assert Corpus.here().settings.store == str(Path("from-environment").absolute())
    assert Corpus.here().settings.chunking.size == 64
    file.unlink()
    with pytest.raises(RagftError, match="does not exist"):
        Corpus.here()


def test_an_edited_settings_file_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "ragft.yaml"
    file.write_text("chunking: {size: 64}")
    assert load_settings(file).chunking.size == 64
    file.write_text("chunking: {size: 128}")
    assert load_settings(file).chunking.size == 128


def test_a_settings_file_in_another_encoding_is_named(tmp_path: Path) -> None:
    file = tmp_path / "ragft.yaml"
    file.write_bytes("store: café".encode("latin-1"))
    with pytest.raises(RagftError, match="not UTF-8"):
        load_settings(file)
