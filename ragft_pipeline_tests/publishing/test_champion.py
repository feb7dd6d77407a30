"""The commands and the asset: what is served is live in every target, and follows a roll-back."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from ragft_pipeline.cli import main
from ragft_pipeline.corpus.snapshots import SnapshotStore
from ragft_pipeline.errors import RagftError
from ragft_pipeline.lineage.steps import Step, materialize
from ragft_pipeline.publishing.champion import live_bundles, publish_champion
from ragft_pipeline.recipes import published_index
from ragft_pipeline.serving.bundle import Bundle
from ragft_pipeline.serving.configuration import Configuration
from ragft_pipeline.settings import EmbedderSettings, Settings, load_settings, parse_settings
from ragft_pipeline.store import ArtifactStore, Link, Workspace
from ragft_pipeline.versions.quality import checks_of
from ragft_pipeline_tests.corpora import prose, write_corpus
from ragft_pipeline_tests.publishing.tiny_embedder import tiny_embedder
from ragft_pipeline_tests.serving.conftest import BREAD, PUMP, make_bundle, serve

Team = tuple[Path, ArtifactStore, list[Bundle]]


@pytest.fixture
def team(tmp_path: Path) -> Team:
    """A settings file with two targets, and a store with two bundles, the second one served."""
    store = ArtifactStore(tmp_path / "store")
    model = tiny_embedder(tmp_path / "model")
    settings = Settings(embedder=EmbedderSettings(model=str(model)))
    bundles = [
        make_bundle(store, name, texts, Configuration("base", 0.5), settings=settings)
        for name, texts in {"pump": PUMP, "both": [*PUMP, *BREAD]}.items()
    ]
    for bundle in bundles:
        serve(store, bundle)
    file = tmp_path / "ragft.yaml"
    targets = [
        {"kind": "lancedb", "where": str(tmp_path / "lance"), "collection": "manual"},
        {"kind": "qdrant", "where": str(tmp_path / "qdrant"), "collection": "manual",
         "parts": "all"},
    ]  # fmt: skip
    file.write_text(yaml.safe_dump({"store": str(store.root), "targets": targets}), "utf-8")
    return file, store, bundles


def test_publish_plans_first_and_a_roll_back_is_followed(
    team: Team, capsys: pytest.CaptureFixture[str]
) -> None:
    file, store, (pump, both) = team
    settings = load_settings(str(file))

    assert main(["--settings", str(file), "publish", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "lancedb manual: 12 rows to write" in said
    assert set(live_bundles(settings, store).values()) == {""}

    assert main(["--settings", str(file), "publish"]) == 0
    said = capsys.readouterr().out
    assert "generation 1" in said
    assert "of the served system's best ten it finds: dense" in said
    assert set(live_bundles(settings, store).values()) == {both.digest}

    assert main(["--settings", str(file), "rollback"]) == 0
    assert set(live_bundles(settings, store).values()) == {pump.digest}
    assert "12 rows" not in capsys.readouterr().out  # the vectors of the bundle before are there


def test_what_is_wrong_with_one_target_does_not_keep_the_others(
    team: Team, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, store, (_, both) = team
    whole = load_settings(str(file))
    broken = whole.targets[0].model_copy(update={"key_env": "NO_SUCH_KEY"})
    settings = whole.model_copy(update={"targets": (broken, whole.targets[1])})
    with pytest.raises(RagftError, match=r"lancedb manual: .*NO_SUCH_KEY is not set"):
        publish_champion(settings, store, lambda line: None)
    assert live_bundles(whole, store) == {"lancedb manual": "", "qdrant manual": both.digest}


def test_the_asset_has_the_check_that_the_live_one_is_the_champions() -> None:
    assert [check.name for check in checks_of(published_index)] == ["live_is_champion"]
    assert published_index.inputs == ("champion",)


@pytest.mark.parametrize(
    ("target", "line"),
    [
        ({"kind": "faiss"}, "targets.0.kind = 'faiss'"),
        ({"kind": "pgvector", "where": "postgresql://me:secret@db/x"}, "no password"),
        ({"kind": "pgvector", "where": "db/x"}, "begins with postgresql://"),
        ({"kind": "qdrant", "collection": "No Name"}, "targets.0.collection"),
    ],
)
def test_a_wrong_target_gives_one_line(target: dict[str, str], line: str) -> None:
    whole = {"kind": "qdrant", "where": "http://db:6333", "collection": "manual", **target}
    with pytest.raises(RagftError) as refused:
        parse_settings(yaml.safe_dump({"targets": [whole]}))
    assert line in str(refused.value)
    assert "secret" not in str(refused.value)


def test_the_asset_publishes_what_is_served_of_the_corpus_as_it_is_now(
    team: Team, tmp_path: Path
) -> None:
    file, store, (_, both) = team
    write_corpus(tmp_path / "corpus", {"pump.md": prose(1), "bread.md": prose(2)})
    whole = load_settings(str(file))
    corpus = whole.corpus.model_copy(update={"source": str(tmp_path / "corpus")})
    settings = whole.model_copy(update={"corpus": corpus, "targets": whole.targets[:1]})
    old = SnapshotStore(store).freeze(settings).version
    (tmp_path / "corpus" / "pump.md").write_text(prose(3), encoding="utf-8")
    new = SnapshotStore(store).freeze(settings).version
    for version in (old, new):
        store.link(Link("champion", version, "a", both.digest, "computed", 0.0, {}))

    passed_over = materialize(published_index, settings, old).artifact
    assert (passed_over.facts["event"], set(live_bundles(settings, store).values())) == (
        "none", {""},
    )  # fmt: skip

    outcome = materialize(published_index, settings, new)
    facts = outcome.artifact.facts
    assert (facts["event"], facts["rows_written"], facts["rows_deleted"]) == ("published", 12, 0)
    assert "| lancedb manual | 1 | sync | 12 | 0 | 0 | 0 |" in facts["targets"]

    (check,) = checks_of(published_index)
    step = Step(settings, store, new, Workspace(store, "published_index", tmp_path / "work"))
    assert check.run(outcome.artifact, step).passed
    serve(store, team[2][0])
    assert not check.run(outcome.artifact, step).passed
