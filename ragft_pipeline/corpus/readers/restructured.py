"""reStructuredText to Markdown, by docutils."""

from __future__ import annotations

import re
from typing import Any

from ragft_pipeline.corpus.readers.decoding import decode
from ragft_pipeline.corpus.readers.kinds import Reading, needs
from ragft_pipeline.corpus.readers.markup import html_to_markdown
from ragft_pipeline.settings import CorpusSettings

_DIRECTIVE = re.compile(r"^[ \t]*\.\.[ \t]+([\w:+.-]+)::", re.MULTILINE)
_ROLE = re.compile(r"(?<!\w):([\w:+.-]+):`")


def read_rst(data: bytes, settings: CorpusSettings) -> Reading:
    """Return reStructuredText by docutils; Sphinx's directives and roles count by their content."""
    decoded = decode(data, settings.encodings)
    try:
        from docutils.core import publish_parts
    except ImportError:
        raise needs("docutils") from None
    _know(decoded.text)
    options = {
        "file_insertion_enabled": False, "raw_enabled": False, "_disable_config": True,
        "halt_level": 5, "report_level": 5, "embed_stylesheet": False, "doctitle_xform": False,
        "initial_header_level": 1,
        "syntax_highlight": "none", "math_output": "LaTeX", "line_length_limit": 1_000_000,
        "input_encoding": "unicode", "toc_backlinks": False, "sectnum_xform": False,
    }  # fmt: skip
    parts = publish_parts(decoded.text, writer="html5", settings_overrides=options)
    markup = re.sub(r"<(/?)aside", r"<\1div", parts["html_body"])  # admonitions are text
    return Reading(html_to_markdown(f"<body>{markup}").text, warnings=decoded.warnings)


def _know(text: str) -> None:
    """Let docutils take the directives and roles that it does not know for their content."""
    from docutils import nodes
    from docutils.parsers.rst import Directive, directives, roles
    from docutils.parsers.rst.languages import en
    from docutils.utils import new_document

    document = new_document("")

    class AnyOption(dict[str, Any]):
        """Takes the options of other tools as well: docutils drops a directive with such a one."""

        def __missing__(self, name: str) -> Any:
            return str

    class Content(Directive):
        """A directive of another tool: its argument and its content are text."""

        has_content = True
        optional_arguments = 1
        final_argument_whitespace = True
        option_spec = AnyOption(name=str)  # an empty one is none

        def run(self) -> list[Any]:
            container = nodes.container()
            if self.arguments and self.name not in ("toctree", "only", "highlight", "index"):
                container += nodes.paragraph("", self.arguments[0])
            if self.name != "toctree":
                self.state.nested_parse(self.content, self.content_offset, container)
            return [container]

    class Code(Content):
        """Code, which nothing numbers or colours."""

        def run(self) -> list[Any]:
            text = "\n".join(self.content)
            return [nodes.literal_block(text, text)] if text else []

    def role(name: str, raw: str, text: str, line: int, inliner: Any, *rest: Any) -> Any:
        shown = re.sub(r"\s*<[^<>]*>$", "", text).lstrip("~!")
        return [nodes.inline(raw, shown)], []

    for name in ("code", "code-block", "sourcecode"):
        directives.register_directive(name, Code)
    for name in set(_DIRECTIVE.findall(text)):
        known = directives.directive(name, en, document)[0]
        if known is None:
            directives.register_directive(name, Content)
        elif not isinstance(known.option_spec, AnyOption | None):
            known.option_spec = AnyOption(known.option_spec)
    for name in set(_ROLE.findall(text)):
        if roles.role(name, en, 0, document.reporter)[0] is None:
            roles.register_local_role(name, role)
