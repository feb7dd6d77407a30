"""Documents that cannot be split are split by their sections, as sticky and as leak-proof."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ragft_pipeline.corpus.reading import ReadDocument
from ragft_pipeline.corpus.sections import MARK, Level, cut, file_of
from ragft_pipeline.corpus.splits import PROTECTION, LedgerEntry
from ragft_pipeline.corpus.units import Unit, plan_units
from ragft_pipeline.settings import SplitSettings
from ragft_pipeline_tests.corpora import prose

SPLIT = SplitSettings()
CLAUSES = [f"## {name}\n\n{prose(name, 80)}" for name in ("Liability", "Payment", "Law")]


def key_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def manual(*chapters: int | str) -> str:
    return "# Pump manual\n\n" + "\n\n".join(f"## Chapter {n}\n\n{prose(n)}" for n in chapters)


def contract(number: int) -> str:
    subject = f"# Contract\n\n## Subject\n\n{prose(f'subject {number}', 20)}"
    return "\n\n".join([subject, *CLAUSES])


class Chain:
    """A chain of corpus versions, as freezing makes it, of files that may be cut."""

    def __init__(self, corpus: Mapping[str, str]) -> None:
        self.texts: dict[str, str] = {}
        self.ledger: list[LedgerEntry] = []
        self.at_path: dict[str, str] | None = None
        self.units: list[Unit] = []
        self.freeze(corpus)

    def keep(self, texts: Sequence[str]) -> list[str]:
        self.texts |= {key_of(text): text for text in texts}
        return [key_of(text) for text in texts]

    def freeze(self, corpus: Mapping[str, str]) -> None:
        self.keep(list(corpus.values()))
        files = [
            ReadDocument(path, key_of(text), len(text), key_of(text), len(text), "Title")
            for path, text in sorted(corpus.items())
        ]
        self.units, self.ledger = plan_units(
            files, self.texts, self.keep, self.ledger, SPLIT, self.at_path
        )
        self.at_path = {unit.path: unit.doc_key for unit in self.units}

    def splits(self) -> dict[str, str]:
        """The split of every text ever split as one."""
        return {entry.doc_key: entry.split for entry in self.ledger}

    def now(self) -> dict[str, str]:
        """The split of each unit's path in this version."""
        splits = self.splits()
        return {unit.path: splits[unit.doc_key] for unit in self.units}


def test_sections_begin_at_headings_outside_of_fences_and_keep_their_text() -> None:
    text = (
        "Preamble.\n\n# Manual\n\n## Use ##\n\n````\n# no heading\n```\n# nor this\n````\n\n"
        "Words.\n\n```one line``` is none\n\n### Use\n~~~\n# neither\n~~~\n"
        "More.\n#hash\n\n# Empty\n"
    )
    parts = cut("a.md", text, True, Level.SECTION)
    assert [part.path for part in parts] == [
        "a.md § part", "a.md § Use", "a.md § Use (2)", "a.md § Empty"
    ]  # fmt: skip
    pieces = [text[part.start : part.end] for part in parts]
    assert pieces[1].startswith("# Manual\n\n## Use ##\n\n````\n# no heading")
    assert pieces[2].endswith("More.\n#hash")
    assert "".join("".join(pieces).split()) == "".join(text.split())


@pytest.mark.parametrize("level", [Level.SECTION, Level.PARAGRAPH])
@settings(max_examples=40)
@given(st.lists(st.sampled_from(["word ", "Sentence. ", "\n", "\n\n", "# H\n", "水。", "```\n"])))
def test_parts_hold_all_words_in_order(level: Level, words: list[str]) -> None:
    for text in ("".join(words), "".join(words) * 60):
        for markdown in (True, False):
            parts = cut("a", text, markdown, level)
            joined = "".join(text[part.start : part.end] for part in parts)
            assert "".join(joined.split()) == "".join(text.split())
            assert [(p.start, p.end) for p in parts] == sorted({(p.start, p.end) for p in parts})
            assert len({part.path for part in parts}) == len(parts)


def test_long_sections_are_cut_where_an_insertion_moves_one_border_only() -> None:
    paragraphs = [prose(n, 40) for n in range(120)]
    before = "\n\n".join(paragraphs)
    after = "\n\n".join([*paragraphs[:30], prose("inserted", 40), *paragraphs[30:]])
    old, new = (
        {text[part.start : part.end] for part in cut("a.txt", text, False, Level.SECTION)}
        for text in (before, after)
    )
    assert len(old) > 15
    assert max(map(len, old)) <= 3000
    assert len(old - new) <= 2
    unbroken = "word " * 5000
    assert all(
        part.end - part.start <= 3000 for part in cut("a.txt", unbroken, False, Level.SECTION)
    )


def test_a_corpus_that_can_be_split_is_split_by_documents() -> None:
    chain = Chain({f"{n}.md": manual(*range(10 * n, 10 * n + 4)) for n in range(3)})
    assert [unit.path for unit in chain.units] == ["0.md", "1.md", "2.md"]


@pytest.mark.parametrize(
    "corpus",
    [
        {"manual.md": manual(*range(20))},
        {"manual.txt": "\n\n".join(prose(n, 90) for n in range(60))},
        {"a.md": manual(*range(10)), "b.md": manual(*range(50, 60))},
        {"manual.md": manual(*range(30)), "n1.md": "One note.", "n2.md": "And two.", "n3.md": "!"},
        {f"{n}.md": contract(n) for n in range(8)},
        {f"{n}.md": f"# Product {n}\n\nIt costs {n} or {7 * n}.\n\n{prose(0, 300)}"
         for n in range(8)},
    ],
)  # fmt: skip
def test_what_cannot_be_split_is_split_by_its_parts(corpus: dict[str, str]) -> None:
    chain = Chain(corpus)
    assert len(chain.units) > len(corpus)
    assert set(chain.now().values()) == {"train", "val", "test"}
    assert {file_of(unit.path) for unit in chain.units} == corpus.keys()


def test_equal_clauses_of_contracts_are_one_and_their_subjects_apart() -> None:
    chain = Chain({f"{n}.md": contract(n) for n in range(8)})
    clusters = {entry.path: entry.cluster for entry in chain.ledger}
    assert len(clusters) == 8 + len(CLAUSES)
    assert len({name for path, name in clusters.items() if "Subject" in path}) == 8
    before = chain.now()
    chain.freeze({f"{n}.md": contract(n) for n in range(9)})  # one more is cut like the others
    assert before.items() <= chain.now().items()
    assert {"8.md § Subject", "8.md § Payment"} <= chain.now().keys()
    assert len({chain.now()[f"{n}.md § Payment"] for n in range(9)}) == 1


def test_a_manual_that_was_cut_stays_cut_under_any_name_and_beside_others() -> None:
    text = manual(*range(12))
    others = {f"{n}.md": prose(f"other {n}") for n in range(10)}
    chain = Chain({"manual.md": text})
    before = {path.split(MARK)[1]: split for path, split in chain.now().items()}
    for name in ("manual.md", "moved/renamed.md"):
        chain.freeze({name: text, **others})
        after = chain.now()
        assert {p.split(MARK)[1]: s for p, s in after.items() if MARK in p} == before
        assert others.keys() <= after.keys()


def test_a_part_of_what_was_held_out_stays_so() -> None:
    corpus = {f"{n}.md": manual(*range(10 * n, 10 * n + 6)) for n in range(12)}
    chain = Chain(corpus)
    for path, split in chain.now().items():
        if split != "train":
            alone = Chain(corpus)
            alone.freeze({path: corpus[path] + "\n\n## Chapter new\n\nNew words."})
            assert weakened(chain.splits(), alone.splits()) == []
            assert set(alone.now().values()) <= {split, "test"}


def weakened(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    rank = PROTECTION.index
    return [key for key in before if rank(after[key]) > rank(before[key])]


EDITS = st.one_of(
    st.tuples(st.just("edit"), st.integers(0, 11)),
    st.tuples(st.just("insert"), st.integers(0, 11)),
    st.tuples(st.just("delete"), st.integers(0, 11)),
    st.tuples(st.just("move"), st.integers(0, 11)),
    st.tuples(st.just("rename"), st.integers(0, 3)),
    st.tuples(st.just("others"), st.integers(0, 4)),
    st.tuples(st.just("grow"), st.integers(0, 11)),
)


@settings(max_examples=40, suppress_health_check=list(HealthCheck))
@given(st.lists(st.lists(EDITS, min_size=1, max_size=3), min_size=1, max_size=5))
def test_no_section_ever_comes_to_a_less_protected_split(
    history: list[list[tuple[str, int]]],
) -> None:
    """Whatever is edited, moved or added: a text, and a heading's text, that was held out stays."""
    sections: list[tuple[str, str]] = [(f"Chapter {n}", prose(n)) for n in range(12)]
    name, others, fresh = "manual.md", 0, 0
    chain = Chain({name: book(sections)})
    for edits in history:
        headings, renamed = {heading for heading, _ in sections}, False
        for kind, number in edits:
            fresh, at = fresh + 1, number % len(sections)
            if kind == "edit":
                sections[at] = (sections[at][0], prose(f"edited {fresh}"))
            elif kind == "grow":
                sections[at] = (sections[at][0], f"{sections[at][1]} And more.")
            elif kind == "insert":
                sections.insert(at, (f"New {fresh}", prose(f"new {fresh}")))
            elif kind == "delete" and len(sections) > 6:
                del sections[at]
            elif kind == "move":
                sections.append(sections.pop(at))
            elif kind == "rename":
                name, renamed = f"{number}/manual.md", True
            elif kind == "others":
                others = number
        before, at_path = chain.splits(), chain.now()
        chain.freeze(
            {name: book(sections)} | {f"o{n}.md": prose(f"other {n}") for n in range(others)}
        )
        assert weakened(before, chain.splits()) == []
        assert all(MARK in unit.path for unit in chain.units if unit.file.path == name)
        if not renamed:
            now = chain.now()
            kept = headings & {heading for heading, _ in sections}
            paths = [f"{name}{MARK}{heading}" for heading in kept]
            assert weakened({p: at_path[p] for p in paths}, {p: now[p] for p in paths}) == []


def book(sections: Sequence[tuple[str, str]]) -> str:
    return "\n\n".join(f"## {heading}\n\n{text}" for heading, text in sections)
