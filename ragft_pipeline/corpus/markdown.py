"""What Markdown says about itself, by a CommonMark parser: its front matter, headings and title."""

from __future__ import annotations

import html
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

LONGEST = 120  # characters of a title or heading
_MAX_FRONT_MATTER = 65_536
_YAML = re.compile(r"---[ \t]*\n(.*?)^(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL | re.MULTILINE)
_TOML = re.compile(r"\+\+\+[ \t]*\n(.*?)^\+\+\+[ \t]*(?:\n|\Z)", re.DOTALL | re.MULTILINE)
_BLANK = re.compile(r"(?:[ \t]*(?:#.*)?\n)*")  # and comments
_YAML_KEY = re.compile(r"""(["']?)[^\W\d_][\w .$/-]{0,60}\1[ \t]*:(?:\s|\Z)""")
_TOML_KEY = re.compile(r"""\[|["']?\w[\w."' -]{0,60}[ \t]*=""")
_YAML_LINE = re.compile(r"^([^\W\d_][\w.$/-]*)[ \t]*:[ \t]+(\S.*)$", re.MULTILINE)
_TOML_LINE = re.compile(r"^(\w[\w.-]*)[ \t]*=[ \t]*(\S.*)$", re.MULTILINE)
_COMMENT = re.compile(r"<!--.*?(?:-->|\Z)", re.DOTALL)
_TAG = re.compile(r"<[^<>]*>")
_ALT = re.compile(r"""<img\b[^<>]*?\balt\s*=\s*(?:"([^"<>]*)"|'([^'<>]*)')[^<>]*>""", re.IGNORECASE)
_HTML_HEADING = re.compile(r"<h([1-6])\b[^<>]*>(.{0,400}?)</h\1\s*>", re.IGNORECASE | re.DOTALL)
_ATTRIBUTES = re.compile(r"\s*\{[#.:/][^{}]*\}\s*$")  # {#id} of MkDocs, Hugo, Docusaurus
_MODULES = re.compile(  # of MDX
    r"""\s*(?:(?:import\s+(?:\{[^{}]{0,2000}\}\s+from\s+|[^\n]{0,200}?\sfrom\s+)?["'][^\n]*"""
    r"""|export\s+(?:const|let|var|default|function)\b[^\n]*)(?:\s+|\Z))+"""
)
_WORDS = ("text", "text_special", "code_inline")  # inline tokens
_TITLE_WITHIN = 8000  # characters in which a title mostly stands


@dataclass(frozen=True)
class Heading:
    """A heading outside of lists and quotes: where its line starts, its level 1-6, its words."""

    start: int
    level: int
    text: str


def front_matter_end(text: str) -> int:
    """Return where front matter and the empty lines below it end; 0 without any."""
    found = _front_matter(text)
    return len(text) - len(text[found.end() :].lstrip("\n")) if found else 0


def body_start(text: str) -> int:
    """Return where a document begins below its front matter and MDX's imports; 0 without any."""
    found = _front_matter(text)
    start = found.end() if found else 0
    modules = _MODULES.match(text, start)
    return modules.end() if modules else start


def metadata_of(text: str) -> dict[str, Any]:
    """Return what the front matter (YAML between `---`, TOML between `+++`) says; {} without one.

    Of front matter with a mistake in it, the lines of the form `key: value` are taken.
    """
    found = _front_matter(text)
    if found is None:
        return {}
    toml = text.startswith("+++")
    try:
        values = _load_toml(found[1]) if toml else _load_yaml(found[1])
    except (ValueError, RecursionError):
        values = None
    if isinstance(values, dict):
        return {str(key): value for key, value in values.items()}
    lines = (_TOML_LINE if toml else _YAML_LINE).findall(found[1])
    return {key: value.strip().strip("\"'") for key, value in lines}


def headings(text: str) -> list[Heading]:
    """Return the headings of a Markdown text as CommonMark has them, and those of HTML blocks."""
    return list(_headings(text, *_parse(text)))


def title_of(text: str, markdown: bool = True) -> str:
    """Return a document's title, at most LONGEST characters; empty where there are no words.

    Of Markdown: the front matter's title, else the first heading, else the first line of words. Of
    plain text: the first line that begins with `# ` among the first 20, else the first line.
    """
    if not markdown:
        lines = [line.strip() for line in text.split("\n", 200) if line.strip()]
        marked = (line for line in lines[:20] if line.startswith("# "))
        return _line(next(marked, lines[0] if lines else "").lstrip("#"))
    title = metadata_of(text).get("title")
    if isinstance(title, str | int | float) and _line(str(title)):
        return _line(str(title))
    near = text.rfind("\n", 0, _TITLE_WITHIN) if len(text) > _TITLE_WITHIN else -1
    for part in (text[:near], text) if near > 0 else (text,):
        tokens, env = _parse(part)
        first = next(_headings(part, tokens, env), None)
        if first is not None:
            return first.text
    return next(_first_words(tokens, env), "")


def _front_matter(text: str) -> re.Match[str] | None:
    """Return the front matter, its inside as group 1."""
    if not text.startswith(("---", "+++")):
        return None
    pattern, key = (_TOML, _TOML_KEY) if text.startswith("+++") else (_YAML, _YAML_KEY)
    found = pattern.match(text, 0, _MAX_FRONT_MATTER)
    if found is None:
        return None
    inside = _BLANK.sub("", found[1], count=1)
    empty = not found[1].strip()
    return found if empty or key.match(inside) else None


def _load_yaml(inside: str) -> Any:
    import yaml

    try:
        return yaml.safe_load(inside)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None


def _load_toml(inside: str) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    return tomllib.loads(inside)


@cache
def _parser() -> MarkdownIt:
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark").enable("table")
    parser.core.ruler.enableOnly(["block"])  # inlines are parsed where they are asked for
    return parser


def _parse(text: str) -> tuple[list[Token], dict[str, Any]]:
    """Return the blocks of a Markdown text and its link references.

    Front matter counts as empty lines, so that lines keep their numbers.
    """
    start = body_start(text)
    env: dict[str, Any] = {}
    return _parser().parse("\n" * text.count("\n", 0, start) + text[start:], env), env


def _headings(text: str, tokens: Sequence[Token], env: dict[str, Any]) -> Iterator[Heading]:
    starts = list(accumulate((len(line) + 1 for line in text.split("\n")), initial=0))
    for place, token in enumerate(tokens):
        if token.level or token.map is None:
            continue
        if token.type == "heading_open":
            words = _plain(tokens[place + 1].content, env)
            if words:
                yield Heading(starts[token.map[0]], int(token.tag[1]), words)
        elif token.type == "html_block":
            block = _COMMENT.sub(lambda comment: "\n" * comment[0].count("\n"), token.content)
            for found in _HTML_HEADING.finditer(block):
                line = token.map[0] + block.count("\n", 0, found.start())
                if words := _plain_html(found[2]):
                    yield Heading(starts[line], int(found[1]), words)


def _first_words(tokens: Sequence[Token], env: dict[str, Any]) -> Iterator[str]:
    """Yield the first lines of paragraphs; below them those of HTML and of code."""
    for token in tokens:
        if token.type == "inline":
            words = (_plain(line, env) for line in token.content.split("\n"))
            yield from (line for line in words if re.search(r"\w", line))
    for token in tokens:
        if token.type in ("html_block", "fence", "code_block"):
            inside = token.content if token.type != "html_block" else _plain_html(token.content)
            yield from (_line(line) for line in inside.split("\n") if re.search(r"\w", line))


def _plain(content: str, env: dict[str, Any]) -> str:
    """Return inline Markdown as words: of a link its text, of images alone their descriptions."""
    parser = _parser()
    tokens: list[Token] = []
    parser.inline.parse(_ATTRIBUTES.sub("", content[:1000]), parser, env, tokens)
    breaks = ("softbreak", "hardbreak", "html_inline")
    shown = [
        token.content if token.type in _WORDS else " " if token.type in breaks else ""
        for token in tokens
    ]
    described = [token.content for token in tokens if token.type == "image"]
    return _line("".join(shown)) or _line(" ".join(described))


def _plain_html(markup: str) -> str:
    shown = _COMMENT.sub("", markup)
    described = _ALT.sub(lambda image: f" {image[1] or image[2] or ''} ", shown)
    found = (_line(html.unescape(_TAG.sub("", one))) for one in (shown, described))
    return next((line for line in found if line), "")


def _line(words: str) -> str:
    return " ".join(words.split())[:LONGEST].rstrip()
