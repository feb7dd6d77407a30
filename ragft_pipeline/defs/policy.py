"""The one place for what all assets share: partitions, versions, metadata, checks."""

import re
from typing import Any

import dagster as dg

from ragft_pipeline.defs.assets import ANSWERING, Shown
from ragft_pipeline.defs.conditions import keep_current_up_to_date
from ragft_pipeline.defs.executor import step_tags
from ragft_pipeline.defs.names import asset_key, group_name, partitions_of
from ragft_pipeline.errors import RagftError, TransientError
from ragft_pipeline.instance import BoundCorpus
from ragft_pipeline.lineage.steps import Outcome, Recipe, Step, materialize
from ragft_pipeline.settings import Settings
from ragft_pipeline.store import ArtifactStore, Workspace
from ragft_pipeline.versions.quality import Check, checks_of

# The retrieval verdict waits neither for routing nor for the answering part.
_PRIORITIES = {"routing": -1, ANSWERING: -2}
# What a person looks for on the first screen of an asset's page, in this order.
_READ_FIRST = tuple(f"ragft/{name}" for name in ("event", "why", "verdict", "ladder", "gate"))


def _priority(recipe: Recipe, group: str) -> str:
    named = "routing" if recipe.name == "router_eval" else group
    return str(_PRIORITIES.get(named, 0))


def build_asset(corpus: BoundCorpus, shown: Shown) -> dg.AssetsDefinition:
    """Return the Dagster asset of a recipe for a corpus: partitioned, versioned, checked."""
    recipe, settings = shown.recipe, corpus.settings
    checks = checks_of(recipe)
    key = asset_key(corpus, recipe.name)
    deps = [asset_key(corpus, name) for name in recipe.inputs]
    if not recipe.inputs:  # the documents themselves
        deps = [dg.AssetKey.from_user_string(name) for name in corpus.deps]
    priority = _priority(recipe, shown.group)

    @dg.asset(
        key=key,
        group_name=group_name(corpus, shown.group),
        description=shown.description,
        kinds=shown.kinds,
        owners=corpus.owners,
        deps=deps,
        partitions_def=partitions_of(corpus),
        code_version=recipe.code_version(settings),
        automation_condition=keep_current_up_to_date(corpus) if corpus.automation else None,
        op_tags={**step_tags(recipe, settings), "dagster/priority": priority},
        pool=corpus.pool if recipe.heavy else None,  # one at a time (dagster.yaml)
        retry_policy=dg.RetryPolicy(max_retries=2, delay=30, backoff=dg.Backoff.EXPONENTIAL),
        metadata=_definition_metadata(recipe),
        check_specs=[
            dg.AssetCheckSpec(
                check.name, asset=key, description=check.description, blocking=check.blocking
            )
            for check in checks
        ],
    )
    def asset(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        current = corpus.settings
        try:
            outcome = materialize(recipe, current, context.partition_key, context.log.info)
            step = _reading_step(recipe, context.partition_key, current)
            results = [_run_check(check, outcome, step) for check in checks]
        except RagftError as error:
            again = isinstance(error, TransientError)
            raise dg.Failure(description=str(error), allow_retries=again) from None
        return dg.MaterializeResult(
            data_version=dg.DataVersion(outcome.artifact.data_version),
            metadata=run_metadata(outcome),
            check_results=results,
        )

    return asset


def _reading_step(recipe: Recipe, version: str, settings: Settings) -> Step:
    store = ArtifactStore(settings.store)
    return Step(settings, store, version, Workspace(store, recipe.name, store.root / "staging"))


def _run_check(check: Check, outcome: Outcome, step: Step) -> dg.AssetCheckResult:
    result = check.run(outcome.artifact, step)
    return dg.AssetCheckResult(
        check_name=check.name,
        passed=result.passed,
        severity=dg.AssetCheckSeverity.ERROR if check.blocking else dg.AssetCheckSeverity.WARN,
        metadata={name: _value(value) for name, value in result.facts.items()},
    )


def _definition_metadata(recipe: Recipe) -> dict[str, Any]:
    metadata: dict[str, Any] = {"ragft/settings": ", ".join(recipe.sections) or "none"}
    if recipe.table is not None:
        columns = [dg.TableColumn(field.name, str(field.type)) for field in recipe.table.schema]
        metadata["dagster/column_schema"] = dg.TableSchema(columns=columns)
    return metadata


def run_metadata(outcome: Outcome) -> dict[str, Any]:
    """Return the metadata of a materialization: what came out, what was done, what it cost.

    The UI keeps the order: words and pictures come before numbers, and those before bookkeeping.
    A long unbroken value would push the verdict out of sight; `dagster/uri` is shown on the pages
    of versions and events only.
    """
    artifact, link = outcome.artifact, outcome.link
    facts = dict(artifact.facts)
    if link.how == "reused" and "rows_computed" in facts:
        facts["rows_reused"] = facts["rows_reused"] + facts["rows_computed"]
        facts |= {name: 0 for name in ("rows_computed", "llm_calls") if name in facts}
    metadata: dict[str, Any] = {}
    if link.how == "carried":
        metadata["ragft/carried_forward"] = link.reason
    if "row_count" in facts:
        metadata["dagster/row_count"] = facts.pop("row_count")
    values = {f"ragft/{_key(name)}": _value(value) for name, value in facts.items()}
    numbers = {name: value for name, value in values.items() if isinstance(value, int | float)}
    first = {name: values[name] for name in _READ_FIRST if name in values}
    words = {name: value for name, value in values.items() if name not in numbers}
    pictures = sorted(artifact.path.glob("*.png"))
    return {
        **metadata,
        **first,
        **words,
        **{f"ragft/plot_{path.stem}": _picture(path) for path in pictures},
        **numbers,
        "ragft/cache_hit": link.how != "computed",
        "ragft/seconds": round(link.seconds, 3),
        "ragft/action": link.action[:16],  # in full it is the name of the artifact's folder
        "dagster/uri": dg.MetadataValue.path(artifact.place),
    }


def _key(name: str) -> str:
    """Return a name of metadata; with blanks, at which the UI wraps long names of systems."""
    return re.sub(r"[^\w()+@,]+", " ", name)


def _value(value: object) -> Any:
    if isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return round(value, 6)
    text = str(value)
    return dg.MetadataValue.md(text) if text.startswith("|") else text  # a Markdown table


def _picture(path: Any) -> dg.MarkdownMetadataValue:
    import base64

    data = base64.b64encode(path.read_bytes()).decode()
    return dg.MetadataValue.md(f"![{path.stem}](data:image/png;base64,{data})")
