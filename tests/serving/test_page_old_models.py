"""The page in headless Chromium before a version that is older than explanations, and before none."""

import urllib.parse

import pytest

from tests.serving import browser as browsers
from tests.serving.page_actions import SETTLED, asked, becomes
from tfrec_fusion.serving import Client
from tfrec_fusion.serving.page.server import PageServer

pytestmark = [pytest.mark.e2e, pytest.mark.shared_run("page"), browsers.needed]


@pytest.mark.parametrize(
    ("count", "notes"),
    [
        (3, []),
        (4, ["Its towers read the newest 3 items"]),
        (
            6,
            [
                "The history has 6 items, of which this model reads the newest 4",
                "Its towers read the newest 3",
            ],
        ),
    ],
)
def test_a_history_longer_than_the_model_reads_is_said(old_opened, old_page, count, notes):
    """Counted without ids that are in no catalogue, which leave the history before it is cut."""
    history = [("history", f"item {number}") for number in (5, 6, 7, 8, 11, 12)[:count]]
    old_opened.open(f"{old_page.url}#{urllib.parse.urlencode([('history', 'nowhere'), *history])}", SETTLED)
    found = old_opened.run("[...document.querySelectorAll('.note')].map((one) => one.textContent)")
    found = [note for note in found if "newest" in note]
    assert len(found) == len(notes)
    assert all(note.startswith(words) for note, words in zip(found, notes, strict=True))


def test_a_version_from_before_explanations_says_so(old_opened, old_page):
    with Client.connect(old_page.model_url, "retrieval") as client:
        becomes(old_opened, asked(client))
    notes = old_opened.run("document.querySelector('.notes').textContent")
    assert "pushed before explanations and similar items existed" in notes
    assert old_opened.run("document.querySelectorAll('[data-action=why], [data-action=similar]').length") == 0
    assert old_opened.run("document.querySelector('form').textContent").count("reads no words") == 1


def test_a_server_that_is_gone_is_said(tab):
    with PageServer("http://127.0.0.1:9", ["retrieval"], port=0) as lonely:
        tab.open(lonely.url, "document.querySelector('.problem')")
        words = tab.run("document.querySelector('.problem').textContent")
    assert "No model here recommends." in words and "`tfrec serve` starts one" in words
