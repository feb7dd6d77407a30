"""The whole graph through Dagster, on real documents and real models."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from ragft_pipeline.lineage.steps import materialize
from ragft_pipeline.recipes import RECIPES
from ragft_pipeline_tests.conftest import ROOT, Project, make_project

ASKED = 1 + [recipe.name for recipe in RECIPES].index("train_qa_pairs")
_LOADED = (
    "heavy = ('torch', 'transformers', 'llama_index', 'bm25s');"
    "print('HEAVY', [module for module in heavy if module in sys.modules]);"
    "print('DAGSTER', 'dagster' in sys.modules)"
)


def _how(project: Project, version: str | None = None) -> dict[str, str]:
    version = version or project.snapshots.versions()[-1]
    links = {recipe.name: project.store.linked(version, recipe.name) for recipe in RECIPES}
    return {name: link.how for name, link in links.items() if link}


def _facts(project: Project, asset: str) -> dict[str, int]:
    return project.artifact(asset).facts


def test_first_run_computes_every_asset_and_prints_the_verdict_before_answering(
    finished: Project,
) -> None:
    output = (finished.folder / "first_run.txt").read_text(encoding="utf-8")
    assert set(_how(finished).values()) == {"computed"}
    assert len(_how(finished)) == len(RECIPES)
    places = [
        output.index(text)
        for text in (
            "untuned hybrid",
            "\nreport: ",
            "champion: ",
            "_chats: computing",
            "\nAnswering: ",
        )
    ]
    assert places == sorted(places)
    assert f"[{len(RECIPES)}/{len(RECIPES)}] answering_report: computed in" in output
    assert "INFO" not in output


def test_second_run_finds_all_up_to_date_and_starts_nothing(copied: Project) -> None:
    version = copied.snapshots.versions()[-1]
    before = copied.store.links(version)
    run = copied.ragft_process("run", probe=_LOADED)
    assert run.returncode == 0, run.stderr
    assert "HEAVY []\nDAGSTER False" in run.stdout
    assert "every asset is up to date" in run.stdout
    assert run.stdout.count("\nreport: ") == 3
    assert copied.store.links(version) == before


def test_a_dagster_that_was_not_told_sees_a_run_that_computes_and_loads_nothing(
    copied: Project,
) -> None:
    shutil.rmtree(copied.store.root / "dagster_home")
    run = copied.ragft_process("run", probe=_LOADED)
    assert run.returncode == 0, run.stderr
    assert "HEAVY []\nDAGSTER True" in run.stdout
    assert set(_how(copied).values()) == {"reused"}


def test_dagster_records_rows_checks_and_data_versions(finished: Project) -> None:
    seen = {}
    home = finished.folder / "store" / "dagster_home"
    with dg.DagsterInstance.from_config(str(home)) as instance:
        for key in instance.get_asset_keys():
            event = instance.get_latest_materialization_event(key)
            assert event is not None
            made = event.asset_materialization
            assert made is not None
            seen[key.to_user_string()] = (
                made.partition, (made.tags or {}).get("dagster/data_version"), sorted(made.metadata)
            )  # fmt: skip
    version = finished.snapshots.versions()[-1]
    assert "ragft/status" in seen.pop("corpus_status")[2]
    assert set(seen) == {recipe.name for recipe in RECIPES}
    for name, (partition, data_version, metadata) in seen.items():
        assert partition == version
        assert data_version == finished.artifact(name).data_version
        assert "ragft/cache_hit" in metadata
    assert "dagster/row_count" in seen["chunked_nodes"][2]
    assert "ragft/plot_differences" in seen["eval_report"][2]


def test_edited_document_costs_its_own_rows_only(copied: Project) -> None:
    train = copied.artifact("train_nodes").table()
    documents = {
        row["doc_key"]: row["path"]
        for row in copied.artifact("corpus_snapshot").table().to_pylist()
    }
    paths = sorted({documents[key] for key in train.column("doc_key").to_pylist()})
    path = next(p for p in paths if p.endswith(".md"))
    file = copied.corpus / "docs" / path
    file.write_text(
        file.read_text(encoding="utf-8")
        + "\n\n## Brass plates\n\nEvery brass plate on the new manifold is stamped with a letter "
        "and two digits, and the digits are read from the left of the strainer.\n",
        encoding="utf-8",
    )
    run = copied.ragft(
        "run", "--assets", "corpus_snapshot,chunked_nodes,train_nodes,node_embeddings"
    )
    assert run.returncode == 0, run.stderr
    assert _facts(copied, "chunked_nodes")["rows_computed"] == 1
    assert 1 <= _facts(copied, "node_embeddings")["rows_computed"] <= 3


# These read where documents lie, and people's questions, of which a rename loses some.
_READ_PATHS = {
    "corpus_snapshot", "chunked_nodes", "gold_questions", "passage_context", "teacher_scores",
    "log_questions", "log_scores", "tool_catalog", "router_questions", "query_router",
    "retrieval_eval", "eval_report", "champion", "router_eval", "llm_eval", "answering_report",
    "published_index",
}  # fmt: skip
_EVALUATED = {
    "query_router", "retrieval_eval", "eval_report", "champion", "router_eval", "llm_eval",
    "answering_report", "published_index",
}  # fmt: skip


@pytest.mark.parametrize(
    "left_out", [_EVALUATED, pytest.param(set(), marks=pytest.mark.slow)], ids=["made", "all"]
)
def test_white_space_rename_and_front_matter_stop_at_chunked_nodes(
    copied: Project, left_out: set[str]
) -> None:
    before = copied.artifact("chunked_nodes").data_version
    files = sorted((copied.corpus / "docs").rglob("*.md"))
    files[0].write_text(
        files[0].read_text(encoding="utf-8").replace("\n", "   \r\n"), encoding="utf-8", newline=""
    )
    files[1].rename(files[1].with_name("renamed.md"))
    said = "---\nproduct: P20\ntags: [pump, seal]\n---\n\n"
    files[2].write_text(said + files[2].read_text(encoding="utf-8"), encoding="utf-8")
    assets = [recipe.name for recipe in RECIPES if recipe.name not in left_out]
    assert copied.ragft("run", "--assets", ",".join(assets)).returncode == 0
    assert copied.artifact("chunked_nodes").data_version == before
    assert set(_how(copied)) == set(assets)
    assert {name for name, how in _how(copied).items() if how == "computed"} <= _READ_PATHS


def test_settings_change_makes_stale_what_reads_the_section(copied: Project) -> None:
    copied.configure(adapter={"checkpoints": 2, "seed": 99})
    status = copied.ragft("status").stdout
    stale = {line.split()[0] for line in status.splitlines() if "stale" in line}
    assert stale == {"embedding_adapter", "stacked_adapter", "refit_models", "query_router"}


def test_old_version_rebuilds_after_the_source_is_gone(copied: Project) -> None:
    version = copied.snapshots.versions()[-1]
    nodes = copied.artifact("chunked_nodes")
    shutil.rmtree(copied.corpus)
    shutil.rmtree(nodes.path)
    run = copied.ragft("run", "--version", version, "--assets", "chunked_nodes")
    assert run.returncode == 0, run.stderr
    assert copied.artifact("chunked_nodes").data_version == nodes.data_version


@pytest.mark.slow
def test_three_chinese_documents_without_gold_go_through_the_whole_graph(tmp_path: Path) -> None:
    project = Project(tmp_path)
    for topic in ("热泵", "锅炉", "阀门"):
        text = "".join(
            f"{topic}第{n}号设备位于城北{n + 3}号站房，运行人员每隔{n + 2}小时检查一次压力和温度。"
            f"若{topic}的读数超过规定值，应立即通知值班工程师并记录原因。" for n in range(1, 9)
        )  # fmt: skip
        project.corpus.mkdir(exist_ok=True)
        (project.corpus / f"{topic}.txt").write_text(f"{topic}运行手册\n\n{text}", encoding="utf-8")
    extractive: dict[str, object] = {"generators": [{"kind": "extractive"}]}
    project.configure(questions=extractive, reranker={}, embedder={})  # all of its characters
    version = project.snapshots.freeze(project.settings).version
    for recipe in RECIPES:
        materialize(recipe, project.settings, version)
    assert project.artifact("query_router").facts["chosen_on"] == "none"
    verdict = project.artifact("eval_report").facts["verdict"]
    assert verdict.startswith("There is no question of people to decide with")
    champion = project.artifact("champion").facts
    assert champion["system"]
    assert champion["event"] == "promoted"
    pairs = project.artifact("train_qa_pairs").table()
    assert pairs.num_rows > 4
    assert any(
        word in question
        for question in pairs.column("question").to_pylist()
        for word in ("热", "锅", "阀", "设备", "工程")
    )


@pytest.mark.slow
def test_killed_run_is_finished_by_the_next(tmp_path: Path) -> None:
    project = make_project(tmp_path, documents=8)
    project.configure(questions={"generators": [{"kind": "extractive"}]})
    version = project.snapshots.freeze(project.settings).version
    program = (
        "import sys\n"
        "from ragft_pipeline.settings import load_settings\n"
        "from ragft_pipeline.lineage.steps import materialize\n"
        "from ragft_pipeline.recipes import RECIPES\n"
        f"for r in RECIPES[:{ASKED}]:\n"
        "    say = lambda line: print(line, flush=True)\n"
        "    materialize(r, load_settings(sys.argv[1]), sys.argv[2], say)\n"
    )
    command = [sys.executable, "-c", program, str(project.settings_file), version]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        for line in running.stdout:
            if "vectors_document" in line:
                running.send_signal(signal.SIGKILL)
                break
    assert project.store.linked(version, "train_qa_pairs") is None
    for recipe in RECIPES[:ASKED]:
        materialize(recipe, project.settings, version)
    encoded = _facts(project, "train_qa_pairs")
    assert encoded["rows_reused"] > 0  # the batch that was staged before the kill
    assert not list((project.store.root / "staging" / "rows").glob("*/*.parquet"))


def test_taint_names_every_model_of_train_documents_and_the_refit_alone_of_test_ones(
    finished: Project,
) -> None:
    documents = finished.artifact("corpus_snapshot").table().to_pylist()
    path = {row["split"]: row["path"] for row in documents}

    def reached(split: str) -> list[str]:
        lines = finished.ragft("taint", path[split]).stdout.splitlines()
        assert lines[-1] == f"{path[split]} reached {len(lines) - 1} models"
        return [line for line in lines[:-1] if not line.startswith("bundle ")]

    refitted = [line for line in reached("train") if line.startswith("refit_models ")]
    assert reached("test") == refitted
    assert len(refitted) == 2  # the adapters
    assert len(reached("train")) == 7 + len(refitted)
    bundles = finished.ragft("taint", path["train"]).stdout.splitlines()
    assert any("/routing/router " in line and line.endswith(", in service") for line in bundles)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "--corpus", "/nowhere"], "is not a folder"),
        (["run", "--assets", "nonsense"], "no asset nonsense"),
        (["run", "--version", "v9999"], "no corpus version 'v9999'"),
    ],
)
def test_mistakes_are_one_clear_line(copied: Project, arguments: list[str], message: str) -> None:
    run = copied.ragft(*arguments)
    assert run.returncode == 1
    assert message in run.stderr
    assert len(run.stderr.strip().splitlines()) == 1


def test_missing_base_model_is_one_clear_line(copied: Project) -> None:
    copied.configure(embedder={"model": "/no/such/model"})
    run = copied.ragft("run")
    assert run.returncode == 1
    assert "model folder '/no/such/model' does not exist" in run.stderr
    assert "Traceback" not in run.stderr
