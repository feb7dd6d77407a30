"""The tree of an HTML page, built by lexbor as the HTML standard says, and what of it is text.

Omitted tags are therefore no matter. Pages are untrusted: `tamed` bounds what makes the standard's
own algorithm quadratic, and nothing here recurses.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Any

TEXT = "-text"
Event = tuple[str, Any, bool]  # a tag, its node, and whether it is entered or left
_TAG = re.compile(r"<(/?)([a-zA-Z][^\s/<>]*)[^<>]*>")
_EMPTY = re.compile(r"<([a-zA-Z][^\s/<>]*)((?:\s[^<>]*)?)/>")
_MAX_DEPTH = 250
_MAX_TAG = 4000  # characters


def tags(names: str) -> frozenset[str]:
    """Return the names of tags in a text."""
    return frozenset(names.split())


_VOID = tags("area base br col embed hr img input link meta param source track wbr")
_FORMATTING = tags("b big code em font i nobr s small strike strong tt u")
_ENDING_BY_ITSELF = _VOID | tags(
    "p li dt dd tr td th thead tbody tfoot colgroup option optgroup rt rp html head body h1 h2 h3 "
    "h4 h5 h6 a button script style textarea title"
)
_NOT_CONTENT = tags(
    "script style template nav footer noscript head iframe svg canvas object audio video select "
    "datalist input textarea progress meter annotation dialog rp rt -comment"
)
_DROPPED_ROLES = tags(
    "navigation contentinfo complementary search dialog alertdialog menu menubar toolbar"
)
_DROPPED_CLASS = re.compile(
    r"(?:cookie|consent|gdpr)[-_]?(?:banner|bar|notice|consent|dialog|popup|modal|overlay|wall)"
    r"|onetrust|\bskip-(?:link|to)|\bbreadcrumbs?\b|\blinenos?\b|\bmw-editsection\b"
    r"|\binterlanguage-link\b|\bheaderlink\b|\bheading-?anchor\b|\banchorjs-link\b|\bhash-link\b",
    re.IGNORECASE,
)
_NOTE = re.compile(  # an aside that belongs to the text
    r"note|tip|hint|warn|caution|danger|important|admonition|callout|alert|info|example",
    re.IGNORECASE,
)
_UNFOLDED = (  # what a click shows: text, whichever is open when the page is saved
    "[role=tabpanel],[role=region][aria-labelledby],.tab-pane,.tab-panel,.tabcontent,.tab-content,"
    ".accordion-collapse,.accordion-content,.accordion-body,.panel-collapse,.collapse"
)
_NAMES_A_PART = tags("h1 h2 h3 h4 h5 h6 dt summary")  # where a button is what it says
_INVISIBLE = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)
_PERMALINKS = frozenset(["¶", "#", "↑", "↩", "§", "🔗", "\uf0c1", "\u200b"])


def tamed(markup: str) -> str:
    """Return markup without what makes building its tree slow, and with the same text.

    Formatting tags go (left open, each paragraph would repeat them), and so do opening tags deeper
    than 250 and the attributes of tags over 4,000 characters.
    """
    depth, opened = 0, dict[str, int]()

    def one(tag: re.Match[str]) -> str:
        nonlocal depth
        name = tag[2].lower()
        if name in _FORMATTING:
            return ""
        whole = tag[0] if len(tag[0]) <= _MAX_TAG else _short(tag)
        if name in _ENDING_BY_ITSELF:
            return whole
        count = opened.get(name, 0)
        if tag[1]:
            if count:
                opened[name], depth = count - 1, depth - 1
            return whole
        if depth >= _MAX_DEPTH:
            return " "
        opened[name], depth = count + 1, depth + 1
        return whole

    return _TAG.sub(one, markup)


def xhtml_as_html(markup: str) -> str:
    """Return XHTML with its empty elements spelt out: to HTML, `<a id="x"/>` is left open."""
    return _EMPTY.sub(
        lambda tag: tag[0] if tag[1] in _VOID else f"<{tag[1]}{tag[2]}></{tag[1]}>", markup
    )


def _short(tag: re.Match[str]) -> str:
    alt = re.search(r'\balt="([^"<>]{1,500})"', tag[0])
    return f"<{tag[1]}{tag[2]}{f' alt={alt[0][4:]}' if alt else ''}>"


def main_of(tree: Any, body: Any) -> Any:
    """Return the element of the main text: `main` where there is one with text, else the body."""
    for selector in ("main", "[role=main]"):
        found = tree.css(selector)
        if len(found) == 1:
            length = _length(found[0])
            if length > 200 or length * 4 > _length(body):
                return found[0]
    return body


def _length(top: Any) -> int:
    return sum(len(node.text_content.strip()) for tag, node, _ in walk(top) if tag == TEXT)


def unfolded(tree: Any) -> frozenset[int]:
    """Return the panels of tabs and accordions, by their nodes; walk them though they are shut."""
    return frozenset(node.mem_id for node in tree.css(_UNFOLDED))


def walk(top: Any, panels: Collection[int] = ()) -> Iterator[Event]:
    """Yield what is under `top`: tag and node, on entering and on leaving; texts once.

    Args:
        panels: nodes that are content even where they are hidden.
    """
    node, depth, tag = top, 0, top.tag
    while True:
        child = None
        if tag == TEXT:
            yield tag, node, True
        elif depth and (
            tag in _NOT_CONTENT or (_is_dropped(tag, node) and node.mem_id not in panels)
        ):
            pass
        else:
            yield tag, node, True
            child = node.first_child
            if child is None:
                yield tag, node, False
        if child is not None:
            node, depth = child, depth + 1
        else:
            following = node.next
            while depth and following is None:
                node, depth = node.parent, depth - 1
                yield node.tag, node, False
                following = node.next
            if not depth:
                return
            node = following
        tag = node.tag


def _is_dropped(tag: str, node: Any) -> bool:
    if tag == "button":
        return node.parent.tag not in _NAMES_A_PART
    attributes = node.attributes
    if tag == "aside":
        own = (str(attributes.get(name)) for name in ("class", "role", "epub:type"))
        if not _NOTE.search(" ".join(own)):
            return True
    if not attributes:
        return False
    to_here = tag == "a" and (attributes.get("href") or "").startswith("#")
    return _is_out_of_sight(attributes) or (to_here and _is_mark(node))


def _is_out_of_sight(attributes: dict[str, str | None]) -> bool:
    """Say whether attributes hide an element, or say that it is no part of the text."""
    if "hidden" in attributes and attributes["hidden"] != "until-found":
        return True
    if attributes.get("aria-hidden") == "true" or attributes.get("role") in _DROPPED_ROLES:
        return True
    style = attributes.get("style")
    if style and _INVISIBLE.search(style):
        return True
    named = f"{attributes.get('id') or ''} {attributes.get('class') or ''}"
    return len(named) > 1 and _DROPPED_CLASS.search(named[:500]) is not None


def _is_mark(link: Any) -> bool:
    child = link.first_child
    return child is None or (
        child.is_text_node and child.next is None
        and (child.text_content or "").strip() in _PERMALINKS
    )  # fmt: skip
