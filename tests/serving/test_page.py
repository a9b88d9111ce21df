"""The page in headless Chromium: what clicks and keys ask for, and what is answered."""

import contextlib
import io
import json
import subprocess
import time

import pytest

from tests.serving import browser as browsers
from tests.serving.page_actions import SETTLED, asked, becomes, focus, pick, reasons, shown, terms
from tests.serving.page_models import CATEGORIES, IDS, TITLES

pytestmark = [pytest.mark.e2e, pytest.mark.shared_run("page"), browsers.needed]


def test_it_shows_what_the_model_recommends_and_asks_nobody_else(opened, page, clients):
    becomes(opened, asked(clients["recommender"]))
    assert all(url.startswith(page.url) for url in opened.requests)
    state = opened.run("document.querySelector('.state').textContent")
    assert state.startswith("10 items in ") and " ms" in state
    assert "10 items in" in opened.run("document.getElementById('announcements').textContent")


def test_a_user_is_asked_for_as_the_id_is_typed(opened, clients):
    focus(opened, "User")
    opened.type("user 1")
    becomes(opened, asked(clients["recommender"], user_id="user 1"))
    opened.type("000")
    opened.wait("document.querySelector('.note')?.textContent.includes('not in the training data')")
    assert "user 1000" in opened.run("document.querySelector('.note').textContent")


def test_words_are_searched_as_they_are_typed(opened, clients):
    focus(opened, "Looking for")
    opened.requests.clear()
    for letter in "space robot":
        opened.type(letter)
    becomes(opened, asked(clients["recommender"], text="space robot"))
    # Typing is waited for, so that not each letter is a request.
    assert sum(url.endswith(":predict") for url in opened.requests) < 8


def test_an_older_answer_never_replaces_a_newer_one(opened, clients):
    """Of two requests the first is answered last: it is given up and changes nothing."""
    opened.run(
        "window.plain = window.fetch; window.slow = 600; window.given_up = 0;"
        "window.fetch = async (url, options = {}) => {"
        "  if (!String(url).endsWith(':predict')) return window.plain(url, options);"
        "  const wait = window.slow; window.slow = 0;"
        "  options.signal?.addEventListener('abort', () => window.given_up++);"
        "  await new Promise((done) => setTimeout(done, wait));"
        "  return window.plain(url, options); }; 1"
    )
    focus(opened, "User")
    opened.type("user 1")
    opened.wait("window.slow === 0")  # the first request is under way
    opened.type("2")
    becomes(opened, asked(clients["recommender"], user_id="user 12"))
    time.sleep(0.7)
    assert opened.run("window.given_up") >= 1
    assert shown(opened) == asked(clients["recommender"], user_id="user 12")


def test_a_history_is_built_with_the_keyboard(opened, clients, served):
    offered = pick(opened, "History", "amelie")  # Amélie
    assert offered[0].startswith("Amélie Poulain")
    becomes(opened, asked(clients["recommender"], history=["item 8"]))
    assert opened.run("document.activeElement.value") == ""
    # An id is taken too, whatever it holds.
    pick(opened, "History", IDS[1])
    becomes(opened, asked(clients["recommender"], history=["item 8", IDS[1]]))
    focus(opened, "History")
    opened.type("item")
    opened.wait("document.activeElement.getAttribute('aria-expanded') === 'true'")
    assert (
        opened.run("document.getElementById(document.activeElement.getAttribute('aria-controls')).role")
        == "listbox"
    )
    opened.press("ArrowDown")
    opened.press("ArrowUp")
    assert opened.run(
        "document.getElementById(document.activeElement.getAttribute('aria-activedescendant'))"
        ".getAttribute('aria-selected') === 'true'"
    )
    opened.press("Escape")
    assert opened.run("document.activeElement.getAttribute('aria-expanded')") == "false"
    opened.press("Escape")
    assert opened.run("document.activeElement.value") == ""
    opened.press("Backspace")  # the last one goes
    becomes(opened, asked(clients["recommender"], history=["item 8"]))


def test_an_id_in_no_catalogue_is_said(opened):
    pick(opened, "History", "<nobody & nothing>", number=-1)
    opened.wait("document.querySelector('.note')?.textContent === 'In no catalogue: <nobody & nothing>.'")


def test_clicks_on_a_card_ask_for_more_like_it_and_exclude_it(opened, clients):
    first = shown(opened)[0]
    opened.click(".card [data-action=more]")
    becomes(opened, asked(clients["recommender"], history=[first]))
    gone = shown(opened)[0]
    opened.click(".card [data-action=exclude]")
    becomes(opened, asked(clients["recommender"], history=[first], exclude=[gone]))
    opened.click("choice-box .chip")
    becomes(opened, asked(clients["recommender"], exclude=[gone]))


def test_filters_and_sliders_change_the_request(opened, clients):
    whole = clients["recommender"]
    pick(opened, "Categories", "drama")
    becomes(opened, asked(whole, categories=[CATEGORIES[2]]))
    focus(opened, "Diversity")
    opened.press("ArrowUp", 14)
    becomes(opened, asked(whole, categories=[CATEGORIES[2]], diversity=0.7))
    focus(opened, "The weight that validated best")
    opened.click("input[type=checkbox]:focus")
    becomes(opened, asked(whole, categories=[CATEGORIES[2]], diversity=0.7, rank_weight=-1.0))
    focus(opened, "Rank weight")
    opened.press("ArrowUp", 20)
    becomes(opened, asked(whole, categories=[CATEGORIES[2]], diversity=0.7, rank_weight=1.0))
    opened.run("document.querySelector('form > button').click()")
    becomes(opened, asked(whole))


def test_a_category_that_no_item_has_is_said(opened):
    pick(opened, "Categories", "Comedy & more")
    opened.wait(
        "[...document.querySelectorAll('.note')]"
        ".some((one) => one.textContent === 'No item has the category Comedy & more.')"
    )
    assert shown(opened) == []


def test_a_value_out_of_range_is_said_by_the_model(opened):
    focus(opened, "How many")
    opened.run("document.activeElement.select()")
    opened.type("10000")
    opened.wait("document.querySelector('.problem')")
    problem = opened.run("document.querySelector('.problem').textContent")
    assert problem == "`k` must be from 1 to 1000. Received: 10000."


def test_two_models_stand_side_by_side(opened, clients):
    focus(opened, "Compare with")
    opened.press("ArrowDown")
    opened.wait("document.querySelectorAll('model-results').length === 2 && " + SETTLED)
    whole, old = asked(clients["recommender"]), asked(clients["retrieval"])
    becomes(opened, whole, 0)
    becomes(opened, old, 1)
    both = len(set(whole) & set(old))
    opened.wait(f"document.querySelectorAll('.state')[1].textContent.endsWith('{both} in both')")
    words = opened.run(
        "[...document.querySelector('model-results').querySelectorAll('.elsewhere')]"
        ".map((one) => one.textContent)"
    )
    assert words == [
        f"Rank {old.index(item) + 1} in the other" if item in old else "Not in the other" for item in whole
    ]
    # What only one of them takes is left out for the other, and said.
    focus(opened, "The weight that validated best")
    opened.click("input[type=checkbox]:focus")
    opened.wait(
        "document.querySelectorAll('model-results')[1].notes.textContent.includes('takes no `rank_weight`')"
    )
    opened.run("[...document.querySelectorAll('.column-head button')].at(-1).click()")
    opened.wait("document.querySelectorAll('model-results').length === 1")


def test_each_item_has_its_reason(opened, clients):
    focus(opened, "User")
    opened.type("user 1")
    items = asked(clients["recommender"], user_id="user 1")
    becomes(opened, items)
    expected = clients["recommender"].explain("user 1", items, count=20)
    opened.wait(
        f"document.querySelector('.item > .sentence').textContent === {json.dumps(expected[0].sentence())}"
    )
    assert reasons(opened) == [one.sentence() for one in expected]
    assert " · explained in " in opened.run("document.querySelector('.state').textContent")


def test_the_terms_of_an_item_add_up_to_its_score(opened, clients):
    pick(opened, "History", IDS[1])
    opened.wait(SETTLED)
    first = shown(opened)[0]
    (expected,) = clients["recommender"].explain("", [first], history=[IDS[1]], count=20)
    opened.run("document.querySelector('[data-action=why]').focus()")
    opened.press("Enter")
    opened.wait("document.querySelectorAll('.panel .terms').length === 2")
    names, total = terms(opened, 0)
    parts = [part.replace("_", " ") for part, value in expected.parts.items() if abs(value) > 1e-6]
    assert names == parts and total == pytest.approx(expected.score, abs=0.01)
    sources, total = terms(opened, 1)
    assert total == pytest.approx(expected.score, abs=0.01)
    assert f"{TITLES[1]} history" in sources  # what the history holds, by its title
    opened.press("Escape")
    assert opened.run("document.querySelector('.panel').hidden")
    assert opened.run("document.activeElement.dataset.action") == "why"


def test_the_known_history_is_shown_and_can_be_changed(opened, clients, data, profiles):
    focus(opened, "User")
    opened.type("user 1")
    opened.wait("!document.querySelector('.known').hidden")
    start, end = profiles.history_splits[1:3]
    named = {TITLES.get(item, data.titles[item]) for item in profiles.history_items[start:end]}
    titles = opened.run("[...document.querySelectorAll('.known li')].map((one) => one.textContent)")
    assert {title[:70] for title in titles} == {title[:70] for title in named}
    opened.click(".known button")
    opened.wait(f"document.querySelectorAll('.chip').length === {len(named)}")


def test_why_an_item_is_not_there_is_answered(opened, clients):
    gone = shown(opened)[0]
    opened.click(".card [data-action=exclude]")
    opened.wait("document.querySelector('.chip')")
    opened.wait(SETTLED)
    pick(opened, "Why not …?", gone)
    opened.wait("document.querySelector('.foot .sentence')")
    assert "the request excludes it" in opened.run("document.querySelector('.foot .sentence').textContent")
    focus(opened, "How many")
    opened.run("document.activeElement.select()")
    opened.type("2")
    opened.wait("document.querySelectorAll('.card').length === 2")
    opened.wait(SETTLED)
    behind = next(item for item in IDS.values() if item not in shown(opened) and item != gone)
    pick(opened, "Why not …?", behind)
    (expected,) = clients["recommender"].explain("", [behind], k=2, exclude=[gone], count=20)
    words = (
        f"document.querySelector('.foot .sentence')?.textContent.includes({json.dumps(expected.sentence())})"
    )
    opened.wait(words)
    assert expected.state == "outscored"
    names, total = terms(opened, 0)
    gaps = dict(expected.behind)
    assert names == [part.replace("_", " ") for part in expected.parts if abs(gaps[part]) > 1e-6]
    assert total == pytest.approx(-expected.gap, abs=0.01)


def test_similar_items_are_shown_and_can_be_weighed(opened, clients):
    first = shown(opened)[0]

    def like(weight):
        found = clients["recommender"].similar(first, k=5, **weight)
        return json.dumps([item.item_id for item in found])

    listed = "JSON.stringify([...document.querySelectorAll('.panel .card')].map((one) => one.dataset.id))"
    opened.click("[data-action=similar]")
    opened.wait(f"{listed} === JSON.stringify({like({})})")
    focus(opened, "Alike by")
    opened.press("ArrowUp", 10)
    opened.wait(f"{listed} === JSON.stringify({like({'text_weight': 1.0})})")
    opened.press("ArrowDown", 20)
    opened.wait(f"{listed} === JSON.stringify({like({'text_weight': 0.0})})")
    other = json.loads(like({"text_weight": 0.0}))[0]
    opened.click(".panel [data-action=more]")
    becomes(opened, asked(clients["recommender"], history=[other]))


def test_a_request_is_kept_in_the_pages_address(opened, page, clients):
    pick(opened, "History", IDS[1])
    focus(opened, "Diversity")
    opened.press("ArrowUp", 2)
    question = {"history": [IDS[1]], "diversity": 0.1}
    becomes(opened, asked(clients["recommender"], **question))
    address = opened.run("location.href")
    opened.open(address, SETTLED)
    becomes(opened, asked(clients["recommender"], **question))
    assert opened.run("document.querySelector('.chip').textContent").startswith(f"Remove {TITLES[1]}")


def test_the_copied_requests_ask_the_same(opened):
    pick(opened, "History", IDS[3])
    pick(opened, "Excluded", IDS[9])
    focus(opened, "Also items that the user has chosen before")
    opened.click("input[type=checkbox]:focus")
    focus(opened, "Diversity")
    opened.press("ArrowUp", 4)
    opened.wait(SETTLED)
    opened.wait("document.querySelector('pre').textContent.includes('0.2')")
    expected = shown(opened)
    curl, program = opened.run("[...document.querySelectorAll('pre')].map((one) => one.textContent)")
    assert "\u202e" not in curl + program  # which would turn the line around
    done = subprocess.run(["sh", "-c", f"{curl} -s"], capture_output=True, check=True)
    assert json.loads(done.stdout)["outputs"]["item_ids"][0] == expected
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(program, {})
    lines = [line for line in printed.getvalue().splitlines() if line]
    assert len(lines) >= len(expected)
    assert all(line.startswith(item) for line, item in zip(lines, expected, strict=False))


def test_copying_puts_the_text_on_the_clipboard(opened, page):
    origin = page.url.rstrip("/")
    opened.send(
        "Browser.grantPermissions",
        origin=origin,
        permissions=["clipboardReadWrite", "clipboardSanitizedWrite"],
    )
    opened.run("document.querySelector('request-code summary').click()")
    opened.run("window.focus()")
    opened.click(".code button")
    opened.wait("document.querySelector('.code button').textContent === 'Copied'")
    assert opened.run("navigator.clipboard.readText()").startswith("curl -d '{")
