"""MDX as Markdown: of components the words, of modules and comments nothing."""

from __future__ import annotations

import re

_PARTS = re.compile(  # all bounded, or ending at the next tag or line: linear in the text
    r"(?P<code>^[ \t]*(?P<fence>`{3,}|~{3,}).*?(?:^[ \t]*(?P=fence)|\Z)"
    r"|(?<!`)(?P<ticks>`{1,3})(?!`)[^\n]{0,300}?(?<!`)(?P=ticks)(?!`))"
    r"|^import\s(?:\{[^{}]{0,2000}\}\s+from\s+|[^\n]{0,200}?)[\"'][^\"'\n]+[\"'];?[ \t]*$"
    r"|^export\s+(?:const|let|var|default|function)\b[^\n]*(?:\n(?![ \t]*$)[^\n]*)*"
    r"|\{/\*[^{}]{0,3000}?\*/\}"
    r"|(?:^[ \t]*)?</?(?:[A-Z][\w.]*(?P<attributes>[^<>]*))?>",
    re.DOTALL | re.MULTILINE,
)
_NAMED = re.compile(r"""\b(?:title|label|header|alt|summary|caption)=(?:"([^"]+)"|'([^']+)')""")
_DEEP = 3  # components in the attributes of one another


def mdx_to_markdown(text: str) -> str:
    """Return MDX without its modules and the tags of its components.

    What a component says in an attribute (title, label, alt, …) stands in its place.
    """
    for _ in range(_DEEP):
        text = _PARTS.sub(_plain, text)
    return text


def _plain(part: re.Match[str]) -> str:
    if part["code"]:
        return part[0]
    named = _NAMED.search(part["attributes"] or "")
    return f"{named[1] or named[2]}\n\n" if named else ""
