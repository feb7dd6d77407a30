"""What a run of a corpus version will come to, said before it costs anything."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ragft_pipeline import schemas
from ragft_pipeline.corpus.snapshots import Snapshot
from ragft_pipeline.errors import RagftError
from ragft_pipeline.evaluation.significance import MIN_UNITS
from ragft_pipeline.models.weights import (
    EMBEDDED,
    Weights,
    embedder_limit,
    embedder_prompts,
    resolve_weights,
)
from ragft_pipeline.settings import EmbedderSettings, Settings

_NAMED = 3


def foresight(snapshot: Snapshot, settings: Settings) -> list[str]:
    """Return a line for each thing to know before a version is run, with what to do about it."""
    return [
        *_of_the_split(snapshot),
        *_of_the_questions(snapshot, settings),
        *snapshot.gold_left_out,
        *_of_the_embedder(settings),
    ]


def require_measurable(snapshot: Snapshot) -> None:
    """Raise RagftError where a version's models could not be trained, or not be measured at all."""
    rows = snapshot.table(schemas.DOCUMENTS).to_pylist()
    splits = {row["split"] for row in rows}
    if "train" not in splits:
        raise RagftError(
            f"{_documents(rows)}: all are held out (val or test, now or in an earlier version), "
            "so there is nothing to train on; add documents, or freeze into a new store"
        )
    if splits == {"train"} and not snapshot.facts.get("gold_questions", 0):
        raise RagftError(
            f"{_documents(rows)}: no val and no test, so nothing can be chosen or measured; "
            f"{_more(rows)}"
        )


def _of_the_split(snapshot: Snapshot) -> Iterator[str]:
    rows = snapshot.table(schemas.DOCUMENTS).to_pylist()
    if sections := snapshot.facts.get("sections", 0):
        yield (
            f"{_documents(rows)}: too few, or too alike (split.near_duplicate), to hold any out; "
            f"they are split by their sections, {sections} in all"
        )
    groups = {
        split: {row["cluster"] for row in rows if row["split"] == split}
        for split in ("train", "val", "test")
    }
    for split, lost in (("val", "chosen"), ("test", "measured")):
        if not groups[split]:
            yield (
                f"no {split} documents ({_documents(rows)}): nothing can be {lost} on documents "
                f"that no model was trained on; {_more(rows)}"
            )
    if 0 < len(groups["test"]) < MIN_UNITS:
        yield (
            f"{len(groups['test'])} test {_units(snapshot, len(groups['test']))}: no gain on them "
            f"can be proven with fewer than {MIN_UNITS}; {_more(rows)}"
        )


def _of_the_questions(snapshot: Snapshot, settings: Settings) -> Iterator[str]:
    if "gold_questions" not in snapshot.facts:
        return
    number, enough = snapshot.facts["gold_questions"], settings.evaluation.min_gold
    if number < enough:
        asked = f"{number} of people's questions" if number else "none of people's questions"
        yield (
            f"{asked}, and from {enough} (evaluation.min_gold) on they decide: without them the "
            "shipped system is served and nothing is proven; add questions to queries.jsonl"
        )
    if whole := snapshot.facts["gold_whole"]:
        yield (
            f"{whole} of people's questions name no answer: every passage of their documents "
            "counts as right; an answer_text says which"
        )


def _of_the_embedder(settings: Settings) -> Iterator[str]:
    embedder, weights = settings.embedder, _found_without_fetching(settings.embedder)
    limit = embedder.max_tokens
    if weights is not None:
        limit = min(limit, embedder_limit(weights.folder) or limit)
        for kind, prompt in embedder_prompts(weights.folder).items():
            if getattr(embedder, f"{kind}_prompt") == "":
                yield (
                    f"embedder.{kind}_prompt is empty, but {embedder.model} was trained with "
                    f"{prompt!r}: null takes it"
                )
    if settings.chunking.size > limit:
        yield (
            f"chunking.size {settings.chunking.size} is above the {limit} tokens that "
            f"{embedder.model} reads (embedder.max_tokens {embedder.max_tokens}): the rest of a "
            f"passage changes nothing in its vector; set chunking.size to {limit} at most"
        )


def _found_without_fetching(embedder: EmbedderSettings) -> Weights | None:
    name = embedder.model
    if not name.startswith(EMBEDDED) and not Path(name).expanduser().is_dir():
        return None
    try:
        return resolve_weights(name)
    except RagftError:  # said by the first step that needs it
        return None


def _documents(rows: list[dict[str, Any]]) -> str:
    files = sorted({row["file"] or row["path"] for row in rows})
    groups = len({row["cluster"] for row in rows})
    named = ", ".join(files[:_NAMED]) + (", …" if len(files) > _NAMED else "")
    if len(files) == 1:
        return f"1 document ({named})"
    cut = any(row["file_key"] not in (None, row["doc_key"]) for row in rows)
    alike = f" in {groups} group(s) of near-duplicates" if groups < len(files) and not cut else ""
    return f"{len(files)} documents{alike} ({named})"


def _more(rows: list[dict[str, Any]]) -> str:
    files = {row["file"] or row["path"] for row in rows}
    if len({row["cluster"] for row in rows}) < len(files):
        return "add documents, or raise split.near_duplicate if they differ enough to be held apart"
    return "add documents"


def _units(snapshot: Snapshot, number: int) -> str:
    name = "section" if snapshot.facts.get("sections") else "document"
    return name if number == 1 else f"{name}s"
