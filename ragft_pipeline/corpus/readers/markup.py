"""HTML to Markdown: the page's main text, with its headings, lists, tables and code."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from ragft_pipeline.corpus.readers.html_tables import HEADINGS, Cells, layouts_of
from ragft_pipeline.corpus.readers.html_tree import TEXT, main_of, tags, tamed, unfolded, walk
from ragft_pipeline.corpus.readers.kinds import Reading

_BLOCKS = tags(
    "p div section article main header figure figcaption fieldset form legend address hgroup "
    "details summary blockquote center dl dt dd hr body label caption td th tr"
)
_PARTS = frozenset(["tr", "li", "p", "div", "dt", "dd", "pre", "blockquote", *HEADINGS])
_SEPARATORS = re.compile(r"\s+[|–—·»:-]{1,2}\s+")
_BLANKS = re.compile(r"\s+")
_MAX_LISTS = 6  # inside one another, that are indented


def html_to_markdown(markup: str) -> Reading:
    """Return the main text of a page as Markdown, and its title.

    What is not the page's text is left out: scripts, navigation, headers and footers of the site,
    asides, dialogs, form controls, and whatever is hidden.
    """
    from selectolax.lexbor import LexborHTMLParser

    tree = LexborHTMLParser(tamed(markup))
    stated = tree.css_first("head > title")
    page_title = _words(stated.text()) if stated else ""
    body = tree.body
    if body is None:
        return Reading("", page_title)
    page = _Page(main_of(tree, body), len(markup), unfolded(tree))
    text, first = page.markdown(), page.first
    site = tree.css_first('meta[property="og:site_name"]')
    site_name = _words(site.attributes.get("content") or "") if site else ""
    title = _title(page_title, first, site_name)
    if page_title and text and not re.search(r"^# ", text, re.MULTILINE):
        text = f"# {title}\n\n{text}"
    return Reading(text, title)


def _title(page_title: str, first: str, site_name: str) -> str:
    """Return the page's own title: of its <title> the part that is not the site's name."""
    parts = [part for part in _SEPARATORS.split(page_title) if part and part != site_name]
    if first and (first in page_title or len(parts) != 1):
        return first
    return page_title if not site_name or len(parts) != 1 else parts[0]


@dataclass
class _Writer:
    """Takes words and blocks and makes Markdown of them."""

    out: list[str] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    lists: list[list[Any]] = field(default_factory=list)  # marker's width, next number or None
    marker: str = ""
    tight: bool = False

    def flush(self) -> str:
        """End a block; return its text."""
        text = _settled("".join(self.words))
        self.words.clear()
        if text:
            self.write("\n".join(filter(None, map(_escaped, text.split("\n")))))
        return text

    def write(self, text: str, before: str = "\n\n") -> None:
        """Write a block, under its list item where it stands in one."""
        if not text:
            return
        indent = " " * sum(width for width, _ in self.lists[:_MAX_LISTS])
        if self.marker:
            own = " " * sum(
                width for width, _ in self.lists[: min(len(self.lists) - 1, _MAX_LISTS)]
            )
            text = own + self.marker + text.replace("\n", f"\n{indent}")
            before = "\n" if self.tight else before
            self.marker, self.tight = "", True
        elif indent:
            text = indent + text.replace("\n", f"\n{indent}")
        else:
            self.tight = False
        self.out.append(f"{before}{text}" if self.out else text)

    def item(self, value: str | None) -> None:
        """Begin a list item."""
        self.flush()
        if not self.lists:
            self.lists.append([2, None])
        if self.marker:  # an item that begins with a list
            self.marker = ""
        number = self.lists[-1][1]
        if number is not None:
            number = int(value) if value and value.isdecimal() and len(value) < 9 else number
            self.lists[-1][1] = number + 1
        self.marker = "- " if number is None else f"{number}. "
        self.lists[-1][0] = len(self.marker)


class _Page:
    """One page on its way to Markdown."""

    def __init__(self, top: Any, size: int, panels: Collection[int]) -> None:
        self.first = ""  # heading
        self._top = top
        self._panels = panels
        self._panel: tuple[int, int] | None = None  # the open outermost one, and where it begins
        self._seen: set[str] = set()  # the panels' texts
        self._budget = 10_000 + size
        self._writer = _Writer()
        self._tables: list[bool] = []  # the open ones: whether it is the outermost with data
        self._cells: Cells | None = None  # of that one
        self._pre = self._header = self._article = self._kept = 0

    def markdown(self) -> str:
        """Convert the page."""
        layouts = (
            layouts_of(walk(self._top, self._panels)) if self._top.css_first("table") else set()
        )
        for tag, node, entering in walk(self._top, self._panels):
            if tag == TEXT:
                self._text(node.text_content)
                continue
            if self._panels and self._cells is None and not self._pre:
                self._unfold(node.mem_id)
            if tag == "sup" and entering:
                self._raise(node)
            elif tag == "table":
                self._table(node, entering, layouts)
            elif self._cells is not None:
                self._in_table(self._cells, tag, node, entering)
            elif self._pre or tag == "pre":
                self._in_pre(tag, entering)
            elif tag in HEADINGS:
                self._heading(tag, entering)
            elif tag in ("ul", "ol", "menu", "li"):
                self._list(tag, node, entering)
            elif tag == "img":
                self._text(_alt(node) if entering else "")
            elif tag == "br":
                self._writer.words.append("\n" if entering else "")
            elif tag in _BLOCKS:
                self._block(tag, entering)
        self._writer.flush()
        return "".join(self._writer.out)

    def _unfold(self, node: int) -> None:
        """Take note of a panel; leave out one with the text of another."""
        if self._panel is None and node in self._panels:
            self._writer.flush()
            self._panel = node, len(self._writer.out)
        elif self._panel is not None and self._panel[0] == node:
            self._writer.flush()
            text = "".join(self._writer.out[self._panel[1] :]).strip()
            if text in self._seen:
                del self._writer.out[self._panel[1] :]
            self._seen.add(text)
            self._panel = None

    def _raise(self, power: Any) -> None:
        """Keep ten to the third from being 103."""
        before = self._writer.words[-1][-1:] if self._writer.words else ""
        if before.isdigit() and re.match(r"[-−+]?\w", power.text()):
            self._writer.words.append("^")

    def _text(self, text: str) -> None:
        if not self._header or self._kept:
            self._writer.words.append(text if self._pre else _BLANKS.sub(" ", text))

    def _table(self, node: Any, entering: bool, layouts: set[int]) -> None:
        if entering:
            outermost = self._cells is None and node.mem_id not in layouts
            if self._cells is None:
                self._writer.flush()
            if outermost:
                self._cells = Cells(self._budget)
            self._tables.append(outermost)
        elif self._tables and self._tables.pop() and self._cells is not None:
            self._writer.words.clear()
            self._writer.write(self._cells.markdown())
            self._budget, self._cells = self._cells.budget, None
        elif self._cells is None:
            self._writer.flush()

    def _in_table(self, cells: Cells, tag: str, node: Any, entering: bool) -> None:
        words = self._writer.words
        own = self._tables[-1]
        if own and tag == "tr":
            if entering:
                cells.rows.append([])
                words.clear()
        elif own and tag in ("td", "th"):
            if not entering:
                cells.add(node, _settled("".join(words)))
            words.clear()
        elif own and tag == "caption":
            self._writer.flush()
        elif tag == "img" and entering:
            words.append(_alt(node))
        elif tag in ("td", "th", "br") and entering:
            words.append(" ")
        elif tag in _PARTS:
            _end_part(words)

    def _in_pre(self, tag: str, entering: bool) -> None:
        if tag == "br" and entering:
            self._writer.words.append("\n")
        elif tag == "pre":
            if not self._pre:
                self._writer.flush()
            self._pre += 1 if entering else -1
            if not self._pre:
                self._writer.write(fenced("".join(self._writer.words)))
                self._writer.words.clear()

    def _heading(self, tag: str, entering: bool) -> None:
        if entering:
            self._writer.flush()
            self._keep(tag, entering)
            return
        text = " ".join(_settled("".join(self._writer.words)).split())
        self._writer.words.clear()
        self.first = self.first or text
        self._writer.write(f"{'#' * HEADINGS[tag]} {text}" if text else "")
        self._keep(tag, entering)

    def _keep(self, tag: str, entering: bool) -> None:
        """Keep of a header its first heading, and of an article's header all that is text."""
        if self._header and (tag == "h1" or self._article or self._top.tag != "body"):
            self._kept += 1 if entering else -1

    def _list(self, tag: str, node: Any, entering: bool) -> None:
        writer = self._writer
        if tag == "li" and entering:
            writer.item(node.attributes.get("value"))
            return
        writer.flush()
        if tag == "li":
            return
        if entering:
            start = node.attributes.get("start") or ""
            begin = int(start) if start.isdecimal() and len(start) < 9 else 1
            writer.lists.append([2, begin if tag == "ol" else None])
        elif writer.lists:
            writer.lists.pop()
            writer.tight = writer.tight and bool(writer.lists)

    def _block(self, tag: str, entering: bool) -> None:
        self._writer.flush()
        step = 1 if entering else -1
        if tag == "header":
            self._header += step
        elif tag in ("article", "main", "section"):
            self._article += step
        elif tag == "p":
            self._keep(tag, entering)


def _end_part(words: list[str]) -> None:
    """End a part of a cell: a row of a table in it, a paragraph or an item of a list."""
    last = next((word.strip() for word in reversed(words) if word.strip()), "")
    if last:
        words.append(" " if last[-1] in ".;:,!?。；：" else "; ")


def _alt(image: Any) -> str:
    alt = _words(image.attributes.get("alt") or "")
    return f" {alt} " if len(alt) > 2 else " "


def fenced(code: str, language: str = "") -> str:
    """Return code in a fence that is longer than any inside."""
    code = code.removeprefix("\n").rstrip()
    if not code.strip():
        return ""
    longest = max((len(run) for run in re.findall(r"`{3,}", code)), default=2)
    fence = "`" * (longest + 1)
    return f"{fence}{language}\n{code}\n{fence}"


def _settled(text: str) -> str:
    """Return words with single blanks, and no blanks at line ends."""
    return "\n".join(" ".join(line.split()) for line in text.split("\n")).strip()


def _escaped(line: str) -> str:
    """Return a line of a paragraph that no parser takes for a heading, a fence or a rule."""
    if re.fullmatch(r"[-=_*~ ]{3,}", line):
        return ""
    return f"\\{line}" if re.match(r"#{1,6}(?:\s|$)|```|~~~", line) else line


def _words(text: str) -> str:
    return " ".join(text.split())
