"""What a version splits: its documents, or where these cannot be split their sections.

The unit of a file that was cut once stays that: the ledger's paths say so.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ragft_pipeline.corpus.readers import MARKDOWN_SUFFIXES
from ragft_pipeline.corpus.reading import ReadDocument
from ragft_pipeline.corpus.sections import MARK, Level, cut, file_of
from ragft_pipeline.corpus.splits import LedgerEntry, Texts, assign_splits
from ragft_pipeline.settings import SplitSettings

MIN_UNITS = 3  # one cluster each for train, val and test
DOMINATED = 0.8  # of the text, from which one cluster leaves nothing to speak of to the others


@dataclass(frozen=True)
class Unit:
    """A document, or a part of one, that is split as one."""

    path: str
    doc_key: str
    characters: int
    title: str
    start: int
    file: ReadDocument


def plan_units(
    files: Sequence[ReadDocument],
    texts: Texts,
    keep: Callable[[Sequence[str]], list[str]],
    ledger: Sequence[LedgerEntry],
    settings: SplitSettings,
    previous: Mapping[str, str] | None,
) -> tuple[list[Unit], list[LedgerEntry]]:
    """Return the units of a version and its ledger.

    Files are units, but for those cut before. Where there are fewer clusters than splits, or one
    holds nearly all of the text, its files are cut into sections, and if that does not do, into
    paragraphs. A part of a document that was val or test stays with it.

    Args:
        files: the version's documents; `texts` holds their texts.
        keep: freezes texts and returns their doc_keys.
        ledger, settings, previous: as in `assign_splits`.
    """
    levels = _levels_before(files, texts, ledger)
    kin: dict[str, set[str]] = {}
    while True:
        units = [unit for one in files for unit in _units(one, texts, keep, levels[one.path])]
        documents = {unit.path: unit.doc_key for unit in units}
        parents = {
            unit.doc_key: kin[unit.file.doc_key] for unit in units if unit.file.doc_key in kin
        }
        made = assign_splits(documents, texts, ledger, settings, previous, parents)
        cut_next = _undivided(units, made, levels, {entry.doc_key for entry in ledger})
        if not cut_next:
            return units, made
        if not kin:
            kin = _kin(files, ledger, made)
        levels |= {path: Level(levels[path] + 1) for path in cut_next}


def _units(
    file: ReadDocument,
    texts: Texts,
    keep: Callable[[Sequence[str]], list[str]],
    level: Level,
) -> list[Unit]:
    if level == Level.WHOLE:
        return [Unit(file.path, file.doc_key, file.characters, file.title, 0, file)]
    text = texts[file.doc_key]
    parts = cut(file.path, text, is_markdown(file.path), level)
    keys = keep([text[part.start : part.end] for part in parts])
    return [
        Unit(
            part.path,
            key,
            part.end - part.start,
            _title(file.title, part.heading),
            part.start,
            file,
        )
        for part, key in zip(parts, keys)
    ]


def is_markdown(path: str) -> bool:
    """Say whether a file's text has Markdown headings."""
    return Path(file_of(path)).suffix.lower() in MARKDOWN_SUFFIXES


def _title(title: str, heading: str) -> str:
    return f"{title}: {heading}"[:120] if heading and heading != title else title


def _levels_before(
    files: Sequence[ReadDocument], texts: Texts, ledger: Sequence[LedgerEntry]
) -> dict[str, Level]:
    """Return how each file is cut because it, or a part that it holds, was cut before."""
    parts = {entry.doc_key for entry in ledger if MARK in entry.path}
    whole = {entry.doc_key for entry in ledger} - parts
    levels = {file.path: Level.WHOLE for file in files}
    if not parts:
        return levels
    names = {file_of(entry.path) for entry in ledger if MARK in entry.path}
    for file in files:
        if file.doc_key in whole:
            continue
        text = texts[file.doc_key]
        known = {
            level: sum(
                part.doc_key(text) in parts
                for part in cut(file.path, text, is_markdown(file.path), level)
                if MARK in part.path
            )
            for level in (Level.SECTION, Level.PARAGRAPH)
        }
        best = max(known, key=lambda level: known[level])
        if known[best] or file.path in names:
            levels[file.path] = best
    return levels


def _undivided(
    units: Sequence[Unit],
    ledger: Sequence[LedgerEntry],
    levels: Mapping[str, Level],
    known: Collection[str],
) -> set[str]:
    """Return the files to cut further, as the units cannot be split.

    What has been val or test stays whole: of it nothing can come to train.
    """
    of_key = {entry.doc_key: entry for entry in ledger}
    sizes: dict[str, int] = {}
    for key, characters in {unit.doc_key: unit.characters for unit in units}.items():
        name = of_key[key].cluster
        sizes[name] = sizes.get(name, 0) + characters
    largest = max(sizes, key=lambda name: sizes[name])
    few = len(sizes) < MIN_UNITS
    if not few and sizes[largest] <= DOMINATED * sum(sizes.values()):
        return set()
    return {
        unit.file.path
        for unit in units
        if (few or of_key[unit.doc_key].cluster == largest)
        and levels[unit.file.path] < max(Level)
        and (unit.doc_key not in known or of_key[unit.doc_key].split == "train")
    }


def _kin(
    files: Sequence[ReadDocument], before: Sequence[LedgerEntry], ledger: Sequence[LedgerEntry]
) -> dict[str, set[str]]:
    """Return the known texts of the cluster that each whole file belongs to."""
    known = {entry.doc_key for entry in before}
    clusters: dict[str, set[str]] = {}
    for entry in ledger:
        if entry.doc_key in known:
            clusters.setdefault(entry.cluster, set()).add(entry.doc_key)
    cluster_of = {entry.doc_key: entry.cluster for entry in ledger}
    found = {
        file.doc_key: clusters.get(cluster_of[file.doc_key], set())
        for file in files
        if file.doc_key in cluster_of
    }
    return {key: kin for key, kin in found.items() if kin}
