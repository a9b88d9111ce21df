"""What a user does on the page, and what the page shows."""

import json
import time

SETTLED = (
    "document.querySelectorAll('model-results').length > 0"
    " && !document.querySelector('[aria-busy]')"
    " && [...document.querySelectorAll('.state')].every((one) => one.textContent)"
)


def shown(tab, column=0):
    """Ids of the items of a column."""
    return tab.run(
        "[...document.querySelectorAll('model-results')"
        f"[{column}].list.children].map((one) => one.dataset.id)"
    )


def becomes(tab, expected, column=0):
    """Waits until a column shows these items."""
    listed, end = None, time.monotonic() + 10
    while time.monotonic() < end:
        listed = shown(tab, column)
        if listed == expected:
            return
        time.sleep(0.03)
    raise AssertionError((listed, expected, tab.problems))


def focus(tab, label):
    """Puts the focus into the field with this label."""
    tab.run(
        f"document.getElementById([...document.querySelectorAll('label')]"
        f".find((one) => one.textContent === {json.dumps(label)}).htmlFor).focus()"
    )


def pick(tab, label, typed, number=1):
    """Chooses a suggestion with the keyboard; the text of those that were offered."""
    focus(tab, label)
    tab.type(typed)
    tab.wait("document.activeElement.getAttribute('aria-expanded') === 'true'")
    offered = tab.run("[...document.activeElement.nextSibling.children].map((one) => one.textContent)")
    tab.press("ArrowDown" if number > 0 else "ArrowUp", abs(number))
    tab.press("Enter")
    return offered


def asked(client, **question):
    return [item.item_id for item in client.recommend(**{"user_id": "", **question})]


def reasons(tab):
    return tab.run("[...document.querySelectorAll('.item > .sentence')].map((one) => one.textContent)")


def terms(tab, table):
    """The rows of a table of terms: words and number."""
    rows = tab.run(
        f"[...document.querySelectorAll('.panel .terms')[{table}].querySelectorAll('tr')]"
        ".map((row) => [row.cells[0].textContent, Number(row.cells[1].textContent.replace('−', '-'))])"
    )
    return [words for words, _ in rows], sum(value for _, value in rows)
