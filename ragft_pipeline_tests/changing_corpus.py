"""A small corpus that changes: pages of the sample handbook, and the changes people make."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from ragft_pipeline_tests.conftest import SAMPLE
from ragft_pipeline_tests.corpora import prose

KINDS = ("add", "copy", "edit", "retitle", "rename", "delete", "move", "revert", "edit_test")


@dataclass(frozen=True)
class Doc:
    """A small document: a heading and some sentences, a paragraph each."""

    title: str
    sentences: tuple[str, ...]

    @property
    def text(self) -> str:
        return "\n\n".join((f"# {self.title}", *self.sentences))


Docs = dict[str, Doc]


@lru_cache
def handbook() -> list[Doc]:
    """Return pages of the sample handbook, a dozen plain sentences of each."""
    pages = []
    for file in sorted((SAMPLE / "docs").rglob("*.md"))[::3]:
        title, *lines = file.read_text(encoding="utf-8").split("\n")
        plain = " ".join(line for line in lines if line[:1].isalpha())
        sentences = [s for s in re.split(r"(?<=\.) ", plain) if 8 <= len(s.split()) <= 24]
        pages.append(Doc(title.lstrip("# "), tuple(sentences[:12])))
    return pages


def first_docs() -> Docs:
    return {
        f"area{n % 2}/page{n}.md": Doc(page.title, page.sentences[:4])
        for n, page in enumerate(handbook()[:6])
    }


@dataclass(frozen=True)
class Change:
    """One change to the corpus; a, b and c choose the document and the sentence, modulo."""

    kind: str
    a: int = 0
    b: int = 0
    c: int = 0

    def __call__(self, docs: Docs, past: list[Docs], held_out: list[str]) -> Docs:
        paths = sorted(docs)
        path = paths[self.a % len(paths)]
        doc = docs[path]
        return getattr(self, f"_{self.kind}")(docs, path, doc, past, held_out)

    def _page(self) -> Doc:
        return handbook()[self.c % len(handbook())]

    def _sentence(self) -> str:
        page = self._page()
        return page.sentences[self.b % len(page.sentences)]

    def _add(self, docs: Docs, path: str, doc: Doc, *_: Any) -> Docs:
        suffix = (".md", ".txt")[self.a % 2]
        start = self.b % 8
        new = replace(self._page(), sentences=self._page().sentences[start : start + 4])
        return docs | {f"new{self.a % 5}{suffix}": new}  # now and then in place of an earlier one

    def _copy(self, docs: Docs, path: str, doc: Doc, *_: Any) -> Docs:
        extra = (f"Copied in week {self.c}.",) if self.b % 3 else ()  # near or exact duplicate
        return docs | {f"copy{self.b}.md": replace(doc, sentences=(*doc.sentences, *extra))}

    def _edit(self, docs: Docs, path: str, doc: Doc, *_: Any) -> Docs:
        at = self.b % max(1, len(doc.sentences))
        sentences = (*doc.sentences[:at], self._sentence(), *doc.sentences[at + 1 :])
        return docs | {path: replace(doc, sentences=sentences)}

    def _retitle(self, docs: Docs, path: str, doc: Doc, *_: Any) -> Docs:
        return docs | {path: replace(doc, title=self._page().title)}

    def _rename(self, docs: Docs, path: str, doc: Doc, *_: Any) -> Docs:
        rest = {name: other for name, other in docs.items() if name != path}
        name = Path(path) if self.c % 4 else Path(path).with_suffix((".txt", ".md")[self.b % 2])
        return rest | {f"moved{self.b}/{name.name}": doc}

    def _delete(self, docs: Docs, path: str, doc: Doc, *_: Any) -> Docs:
        rest = {name: other for name, other in docs.items() if name != path}
        return rest or docs

    def _move(self, docs: Docs, path: str, doc: Doc, *_: Any) -> Docs:
        """Move a passage of two sentences to the end of another document."""
        target = sorted(docs)[self.c % len(docs)]
        at = self.b % max(1, len(doc.sentences))
        passage = doc.sentences[at : at + 2]
        if target == path:
            return docs
        left = replace(doc, sentences=doc.sentences[:at] + doc.sentences[at + 2 :])
        grown = replace(docs[target], sentences=docs[target].sentences + passage)
        return docs | {path: left, target: grown}

    def _revert(self, docs: Docs, path: str, doc: Doc, past: list[Docs], *_: Any) -> Docs:
        return past[self.a % len(past)]

    def _edit_test(self, docs: Docs, path: str, doc: Doc, past: Any, held_out: list[str]) -> Docs:
        known = [name for name in held_out if name in docs]
        if not known:
            return docs
        place = known[self.a % len(known)]
        fresh = prose(f"fresh {self.b} {self.c}", words=12)
        return docs | {place: replace(docs[place], sentences=(*docs[place].sentences, fresh))}


NUMBER = st.integers(0, 20)
CHANGES = st.builds(Change, st.sampled_from(KINDS), NUMBER, NUMBER, NUMBER)
STEPS = st.lists(
    st.tuples(st.lists(CHANGES, min_size=1, max_size=3), st.booleans()), min_size=2, max_size=5
)
