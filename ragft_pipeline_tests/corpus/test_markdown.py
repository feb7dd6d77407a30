from __future__ import annotations

import pytest

from ragft_pipeline.corpus.markdown import body_start, headings, metadata_of, title_of
from ragft_pipeline.corpus.splitting import sections

FENCES = """\
# Command line

```bash
# install the tool
```

~~~sh
# a tilde fence comment
~~~

````markdown
```python
# a nested fence comment
```
## heading in a nested fence
````

```pip install tool```

1. A list item with code:

    ```yaml
    # an indented fence comment
    ```

Code by its indentation:

    # four spaces comment

## After the code
"""


def found(text: str) -> list[tuple[int, str]]:
    return [(heading.level, heading.text) for heading in headings(text)]


def test_comments_in_code_are_no_headings() -> None:
    assert found(FENCES) == [(1, "Command line"), (2, "After the code")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Pump\nmanual\n=====\n\nCleaning\n---\n\ntext", [(1, "Pump manual"), (2, "Cleaning")]),
        ("## Closed ATX ##\n\n#hashtag\n\n   ### C# #", [(2, "Closed ATX"), (3, "C#")]),
        ("# A [link](x), `code` & *more* {#id}", [(1, "A link, code & more")]),
        ("# [Linked][1]\n\n[1]: http://a.example", [(1, "Linked")]),
        ("# ![icon](i.png) Words\n\n# ![Only a logo](l.png)", [(1, "Words"), (1, "Only a logo")]),
        ("#\n\n> # quoted\n\n- # in a list", []),
        ('<h1 align="center">\n<img alt="x"> The <b>Tool</b> &amp; I</h1>\n\n## Use',
         [(1, "The Tool & I"), (2, "Use")]),
        ("<!-- <h1>Not shown</h1> -->\n\n<pre>\n# code\n</pre>", []),
        ("| a |\n|---|\n| # b |\n\n***\n---", []),
    ],
)  # fmt: skip
def test_headings_are_those_of_commonmark_and_of_html(
    text: str, expected: list[tuple[int, str]]
) -> None:
    assert found(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        '---\n# By the docs team\ntitle: "Pump"\ntags: [a]\n---\n\n## Tools\n\nA spanner.',
        "+++\ntitle = 'Pump'\n[menu]\nweight = 2\n+++\n## Tools\n\nA spanner.",
        "---\ntitle: >-\n  Pump\n...\n## Tools\n\nA spanner.",
        "---\ntitle: Pump\nbroken: [a: b\nlate: yes: no\n---\n## Tools\n\nA spanner.",
    ],
)
def test_front_matter_is_metadata_and_no_text(text: str) -> None:
    assert metadata_of(text)["title"] == title_of(text) == "Pump"
    assert [(heading.start, heading.text) for heading in headings(text)] == [
        (text.index("## Tools"), "Tools")
    ]
    assert text[body_start(text) :].strip() == "## Tools\n\nA spanner."


@pytest.mark.parametrize(
    "text",
    ["---\n\n# Pump\n\n---\n\ntext", "# Pump\n\n---\na: b\n---", "---\n# Pump\n---", "---\na: b"],
)
def test_a_thematic_break_opens_no_front_matter(text: str) -> None:
    assert body_start(text) == 0
    assert metadata_of(text) == {}


def test_the_imports_of_mdx_are_no_text() -> None:
    modules = "import A from '@a';\nimport {\n  B,\n} from 'b';\nexport const x = 1;\n\n"
    for text in (f"{above}{modules}# Words" for above in ("", "---\ntitle: T\n---\n\n")):
        assert text[body_start(text) :] == "# Words"
    assert body_start("import duties from abroad\n\nimport tax") == 0


def test_hostile_front_matter_is_read_by_its_lines() -> None:
    text = "---\ntitle: Pump\nx: " + "[" * 30_000 + "\n---\n\ntext"
    assert metadata_of(text)["title"] == "Pump"
    assert metadata_of("---\ntitle: !!python/object/apply:os.abort []\n---\n")["title"] != 0


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("# Pumps\n\ntext", "Pumps"),
        ("intro\n\n# Pumps", "Pumps"),
        ("plain first line\nsecond", "plain first line"),
        ("## only deeper", "only deeper"),
        ("x" * 300, "x" * 120),
        ('<p align="center"><img src="a.png"></p>\n\n# The Widget Tool', "The Widget Tool"),
        ("<p>\n  <b>Widget</b>\n</p>", "Widget"),
        ("---\n\n***\n\n- The *first* words", "The first words"),
        ("import Tabs from '@theme/Tabs';\n\nWords", "Words"),
        ("---\ntitle:\n---\n\n# Below", "Below"),
        ("words " * 4000 + "\n\nLate\n====", "Late"),
        ("---", ""),
    ],
)
def test_a_title_is_the_first_heading_or_the_first_words(text: str, title: str) -> None:
    assert title_of(text) == title


def test_plain_text_has_no_front_matter_or_setext() -> None:
    assert title_of("First line\nSecond\n======", markdown=False) == "First line"
    assert title_of("intro\n# Pumps", markdown=False) == "Pumps"


def test_sections_lie_side_by_side_under_their_headings() -> None:
    text = "---\na: b\n---\nIntro\n\n# A\n\n### Deep\n\nx\n\n## B\n\ny\n\n# C"
    parts = sections(text, body_start(text))
    assert [(text[part.start : part.end].strip(), part.path) for part in parts] == [
        ("Intro", ()), ("# A", ("A",)), ("### Deep\n\nx", ("A", "Deep")),
        ("## B\n\ny", ("A", "B")), ("# C", ("C",)),
    ]  # fmt: skip
