"""The comparison of two runs in headless Chromium: on paper, in the dark, and on a phone."""

import base64
import re

import pytest

from pipeline.report.comparison import Lists, Paired, html
from tests.serving import browser as browsers

pytestmark = [pytest.mark.e2e, browsers.needed]
LONG = "interactions.outcomes.something_with_a_long_name=" + "/a/folder/far/away" * 6


def slice_row(name):
    values = [{"": 0.1234, "_low": 0.1, "_high": 0.15}, {"": None, "_low": None, "_high": None}]
    return {"name": name, "values": values, "users": [12345, None]}


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    titles = [
        (f"Film {number}, which has <b>a title</b> of some length", number == 3) for number in range(10)
    ]
    place = tmp_path_factory.mktemp("report") / "against.html"
    place.write_text(
        html(
            names=["shop (2026-11-30 17:08:00)", "shop without text (2026-11-29 09:00:00)"],
            data=["943 users, 1,682 items, 100,000 interactions, 1997-09-20 to 1998-04-22"] * 2,
            settings=[(LONG.split("=")[0], LONG, "None"), ("retrieval.training.epochs", "6", "3")],
            paired=[Paired(name, 0.2, 0.15, 0.05, 0.04, 0.06) for name in ("mrr", "ndcg@10", "ndcg@100")],
            reason="",
            figure="ndcg@10",
            slices=[slice_row(f"item_activity=tenth {number}, user_activity=heavy") for number in range(40)],
            lists=[Lists(f"user {number}", titles, titles[::-1], 4) for number in range(12)],
            shared=4.2,
            users=300,
            k=10,
        ),
        encoding="utf-8",
    )
    return place


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    with browsers.browser(tmp_path_factory.mktemp("profile")) as running:
        yield running


def test_on_a_phone_the_page_scrolls_in_one_direction(tab, page):
    tab.size(360, 800, "dark", mobile=True)
    tab.open(page.as_uri(), "document.querySelectorAll('.card').length === 12")
    assert tab.run("document.documentElement.scrollWidth") <= 360
    assert tab.run("document.querySelector('.about').className") == "about well"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_paper_is_light_holds_all_columns_and_shows_the_marks(tab, page, tmp_path, scheme):
    tab.size(718, 1000, scheme)
    tab.open(page.as_uri(), "document.querySelectorAll('.card').length === 12")
    colours = [{"name": "prefers-color-scheme", "value": scheme}]
    tab.send("Emulation.setEmulatedMedia", media="print", features=colours)
    ink, wide, kept = tab.run(
        "(() => { const style = (one) => getComputedStyle(document.querySelector(one));"
        " return [style('body').color, document.documentElement.scrollWidth,"
        " style('li.hit').printColorAdjust]; })()"
    )
    assert ink == "rgb(28, 36, 48)" and wide <= 718 and kept == "exact"
    printed = base64.b64decode(tab.send("Page.printToPDF", paperWidth=8.27, paperHeight=11.69)["data"])
    file = tmp_path / "against.pdf"
    file.write_bytes(printed)
    assert printed.startswith(b"%PDF") and 2 <= len(re.findall(rb"/Type\s*/Page\b", printed)) <= 12
