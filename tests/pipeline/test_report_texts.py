"""Whatever names and titles hold: pictures are drawn, and the card and the page show text."""

import html
import html.parser
import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.report import card, plots
from pipeline.report.page import title
from pipeline.report.plain import markdown_text, one_line
from pipeline.report.run_files import Item

HOSTILE = [
    "$5_$10",
    "$$",
    "$\\frac{",
    "a\x00b",
    "\x1b[31mred",
    "\u202etxt.exe",
    "\ud800",
    "日本語",
    "<b>bold</b>",
    "&lt;",
    "x\ny",
    "\\n",
    'id="a" url(#b)',
    "#010203",
    "]]>",
    "<!--",
    "%s{}",
    "𓀀",
    "a" * 500,
    "",
    " ",
]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return plots.Pictures(tmp_path_factory.mktemp("pictures"))


def draw(pictures, name):
    rows = [{"name": name, "value": 0.1, "low": 0.05, "high": 0.2}]
    return pictures.draw(
        "slices", 'a "title" <', 2, 1, lambda figure: plots.intervals(figure.subplots(), rows, True)
    )


@pytest.mark.parametrize("name", HOSTILE)
def test_pictures_show_any_name(pictures, name, recwarn):
    svg = draw(pictures, name)
    assert not [str(warning.message) for warning in recwarn if "Glyph" in str(warning.message)]
    root = ElementTree.fromstring(svg)  # well formed, whatever the name
    texts = [entry.text or "" for entry in root.iter() if entry.tag.endswith("text")]
    shown = one_line(name, plots.LONGEST_NAME)
    if shown.strip():
        assert shown in [text.strip() for text in texts]


@settings(max_examples=25, deadline=None)
@given(st.text(max_size=20))
def test_pictures_show_any_text(name):
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        import pathlib

        ElementTree.fromstring(draw(plots.Pictures(pathlib.Path(folder)), name))


ATTACKS = [
    "<script>alert(1)</script>",
    "</li><h1>Blessed</h1>",
    "ok\n# Model card: forged\n## Gates",
    "\r## Forged",
    "\u2028# Forged",
    "[click](javascript:alert(1))",
    "![x](http://a/b.png)",
    "`<img src=x onerror=alert(1)>`",
    "``<b>",
    "\\`<i>`",
    "**Gates**: blessed",
    "$5_$10",
    "&#60;script&#62;",
    "- [ ] item\n\n1. other",
    "~~gone~~",
    "__x__",
]


class Tags(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.found, self.text = [], []

    def handle_starttag(self, tag, attrs):
        self.found.append(tag)

    def handle_data(self, data):
        self.text.append(data)


@pytest.mark.parametrize("attack", ATTACKS)
def test_the_card_shows_names_as_text(attack):
    content = [("Data", [("Tables", f"items: {attack}, see `data.items`"), (attack, "plain")])]
    text = card.markdown("shop", content)
    lines = text.split("\n")
    assert [line for line in lines if line.startswith("#")] == ["# Model card: shop", "## Data"]
    assert [line[:2] for line in text.splitlines()] == [line[:2] for line in lines][: len(text.splitlines())]
    markdown = pytest.importorskip("markdown")
    parser = Tags()
    parser.feed(markdown.markdown(text))
    parser.close()
    assert set(parser.found) <= {"h1", "h2", "ul", "li", "strong", "p", "code"}
    assert parser.found.count("h1") == parser.found.count("h2") == 1
    assert parser.found.count("code") == 1
    assert parser.found.count("strong") == 2
    shown = " ".join("".join(parser.text).split())
    assert one_line(attack, 10**6) in shown


@given(st.text(max_size=60))
def test_any_text_is_one_line_of_markdown_without_tags(text):
    shown = markdown_text(text)
    assert len(shown.splitlines()) <= 1
    assert "<" not in shown
    assert ">" not in shown


def test_titles_on_the_page_are_one_line_without_escapes():
    items = {"a": Item("Tea\n\x1b[31mred\u202e", 1)}
    assert title("a", items) == "Tea \ufffd[31mred\ufffd"
