from __future__ import annotations

import pytest

from ragft_pipeline.corpus.readers.markup import html_to_markdown


def markdown(markup: str) -> str:
    return html_to_markdown(markup).text


def test_html_comes_out_as_markdown() -> None:
    page = (
        "<html><head><title>Manual</title><style>p{}</style></head><body><nav>Home</nav>"
        "<h2>Valves &amp; pumps</h2><p>Open<br>slowly.</p><ul><li>one</li><li>two</li></ul>"
        "<table><tr><th>bar</th><th>V</th></tr><tr><td>6</td><td>12</td></tr></table>"
        "<script>alert(1)</script><footer>2026</footer></body></html>"
    )
    assert markdown(page) == (
        "# Manual\n\n## Valves & pumps\n\nOpen\nslowly.\n\n- one\n- two\n\nbar | V\n-|-\n6 | 12"
    )


@pytest.mark.parametrize(
    ("head", "body", "title"),
    [
        ("<title>T</title>", "<h1>Valves</h1><p>x</p>", "T"),
        ("<title>Valves | ACME Docs</title>", "<h1>Valves</h1><p>x</p>", "Valves"),
        ("<title>ACME - Help</title>", "<h1>Valves of brass</h1><p>x</p>", "Valves of brass"),
        ("", "<h1>Valves</h1><p>x</p>", "Valves"),
        ("<title>A - B</title>", "<p>x</p>", "A - B"),
        (
            '<title>Valves - ACME</title><meta property="og:site_name" content="ACME">',
            "<p>x</p>",
            "Valves",
        ),
    ],
)
def test_the_title_is_the_pages_not_the_sites(head: str, body: str, title: str) -> None:
    page = html_to_markdown(f"<html><head>{head}</head><body>{body}</body></html>")
    assert page.title == title
    assert page.text.count("\n# ") + page.text.startswith("# ") == 1


def test_omitted_tags_are_no_matter() -> None:
    page = (
        "<!DOCTYPE html><html><head><title>Parts</title><body><h1>Parts</h1><table><tr><th>Part"
        "<th>Price<tr><td>Pump<td>300 EUR<tr><td>Hose<td>15 EUR</table><p>After.<p>End."
        "<ul><li>one<li>two</ul><dl><dt>Term<dd>Meaning</dl>"
    )
    assert markdown(page) == (
        "# Parts\n\nPart | Price\n-|-\nPump | 300 EUR\nHose | 15 EUR\n\nAfter.\n\nEnd.\n\n- one\n"
        "- two\n\nTerm\n\nMeaning"
    )


def test_a_nested_table_stands_once_in_its_cell() -> None:
    inner = "<table><tr><td>Weight<td>12 kg<tr><td>Power<td>300 W</table>"
    page = f"<table><tr><th>Part<th>Details<tr><td>Pump<td>{inner}<tr><td>Valve<td>brass</table>"
    assert markdown(page) == (
        "Part | Details\n-|-\nPump | Weight 12 kg; Power 300 W\nValve | brass"
    )
    deep = "12 kg"
    for level in range(40):
        deep = f"<table><tr><td>level {level}</td><td>{deep}</td></tr></table>"
    assert markdown(deep).count("12 kg") == 1
    assert markdown(deep).count("level 7") == 1


def test_a_table_that_lays_the_page_out_is_no_table() -> None:
    page = (
        "<table><tr><td><h2>Inside</h2><p>First.</p><p>Second.</p><ul><li>one</li></ul></td></tr>"
        "</table>"
    )
    assert markdown(page) == "## Inside\n\nFirst.\n\nSecond.\n\n- one"


def test_cells_keep_their_columns() -> None:
    page = (
        "<table><tr><th>Model<th>Flow<th>Price<tr><td>P30<td><td>710"
        "<tr><td rowspan=2>P40<td>5<td>800<tr><td>6<td>900<tr><td colspan=2>both<td>1|2</table>"
    )
    assert markdown(page) == (
        "Model | Flow | Price\n-|-|-\nP30 | | 710\nP40 | 5 | 800\nP40 | 6 | 900\nboth | | 1\\|2"
    )


def test_code_keeps_its_white_space_and_is_no_heading() -> None:
    code = "# a comment\nfor v in values:\n    if v &gt; 0:\n        go()\n```"
    fenced = f"````\n{code}\n````".replace("&gt;", ">")
    assert markdown(f"<pre><code>{code}\n</code></pre>") == fenced
    assert markdown("<p># no heading</p><p>---</p>") == "\\# no heading"


def test_lists_keep_their_numbers_and_depth() -> None:
    page = (
        "<ol><li>First</li><li>Second<ol><li>Sub a</li><li>Sub b<p>more</p></li></ol></li></ol>"
        "<ol start=5><li>Fifth<li value=9>Ninth</ol>"
    )
    assert markdown(page) == (
        "1. First\n2. Second\n   1. Sub a\n   2. Sub b\n\n      more\n\n5. Fifth\n9. Ninth"
    )


@pytest.mark.parametrize(
    "noise",
    [
        "<header><div>Menu Login</div></header>",
        "<aside>Related</aside>",
        "<div role=dialog>We use cookies</div>",
        "<div class='cookie-banner'>We use cookies</div>",
        "<p hidden>Hidden</p>",
        "<p style='color:red; display: none'>Hidden</p>",
        "<span aria-hidden=true>x</span>",
        "<select><option>English</option><option>Deutsch</option></select>",
        "<button>Copy</button><input value=typed><textarea>draft</textarea>",
        "<iframe src=a>fallback</iframe><svg><title>icon</title></svg><!-- comment -->",
        "<div class=breadcrumb>Home / Docs</div>",
        "<a class=headerlink href='#setup'>¶</a><a href='#x'>#</a>",
        "<template><p>t</p></template><noscript>n</noscript>",
    ],
)
def test_what_is_not_the_pages_text_is_left_out(noise: str) -> None:
    assert markdown(f"<body><h2>Setup</h2>{noise}<p>Text.</p>") == "## Setup\n\nText."


def test_the_main_element_is_the_page() -> None:
    page = "<body><div>Sidebar</div><main><header><h1>T</h1></header><p>Long text.</p></main>"
    assert markdown(page) == "# T\n\nLong text."
    assert "Sidebar" in markdown(page.replace("Long text.", "").replace("Sidebar", "Sidebar " * 9))


def test_words_are_glued_only_where_a_page_shows_them_so() -> None:
    page = (
        "<details><summary>More</summary>Details text.</details><p>H<sub>2</sub>O, one<b>two</b>"
        "</p><p>See <img src=x alt='wiring of pin 3'></p>"
    )
    assert markdown(page) == "More\n\nDetails text.\n\nH2O, onetwo\n\nSee wiring of pin 3"


HOSTILE = {
    "rows without end tags": "<table>" + "<tr><td>a<td>b" * 20_000,
    "deep": "<div>" * 60_000 + "x",
    "deep tables": "<table><tr><td>" * 20_000 + "x",
    "tables in cells": ("<table><tr><td>" * 200 + "x" + "</table>" * 200) * 20,
    "formatting left open": "".join(f"<p><b a={n}>x" for n in range(20_000)),
    "attributes": "<p" + "".join(f" a{n}" for n in range(60_000)) + ">x",
    "wide cells": "<table>" + "<tr><td colspan=1000>x<td rowspan=1000>y" * 4_000,
    "open marks": "<" * 300_000,
    "lists": "<ul><li>" * 30_000 + "x",
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_markup_stays_linear_in_size(kind: str) -> None:
    """In time too: without its bounds each of these takes minutes, or all the memory."""
    assert len(markdown(HOSTILE[kind])) < 4 * len(HOSTILE[kind])


def test_what_a_click_shows_is_text_and_stands_once() -> None:
    page = (
        "<body><div role=tabpanel><p>On Linux.</div><div role=tabpanel hidden><p>On BSD.</div>"
        "<div class=tab-pane aria-hidden=true><p>On Linux.</div><p hidden>Unseen</p>"
        "<h3><button>How is it cleaned?</button></h3>"
        "<div class=accordion-collapse style='display:none'>Under the tap.</div>"
    )
    assert markdown(page) == "On Linux.\n\nOn BSD.\n\n### How is it cleaned?\n\nUnder the tap."


@pytest.mark.parametrize("attribute", ["class='admonition tip'", "role=note", "epub:type=footnote"])
def test_an_aside_that_is_a_note_is_text(attribute: str) -> None:
    assert markdown(f"<body><p>A.</p><aside {attribute}>Mind it.</aside>") == "A.\n\nMind it."


def test_a_power_is_no_further_digit_and_a_reading_no_further_word() -> None:
    page = "<p>10<sup>-3</sup> m<sup>2</sup>, 2019<sup>[1]</sup>, <ruby>漢<rt>かん</rt>字</ruby>"
    assert markdown(page) == "10^-3 m2, 2019[1], 漢字"
