"""Untrusted text on a terminal: nothing acts, nothing is lost."""

import io
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.terminal import Guarded, safe
from pipeline.runner.console import Table


@given(st.text())
def test_nothing_acts_on_the_terminal(text):
    shown = safe(text)
    for char in shown:
        assert char in "\u200c\u200d" or unicodedata.category(char) not in (
            "Cc",
            "Cf",
            "Cs",
            "Co",
            "Zl",
            "Zp",
        )
    assert safe(shown) == shown
    if text.isprintable():
        assert shown == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2Jgone", "\\x1b[2Jgone"),
        ("Tea\n  2  0.999  i9  Forged", "Tea\\n  2  0.999  i9  Forged"),
        ("a\rb\tc\x00\x9b31m", "a\\rb\\tc\\x00\\x9b31m"),
        ("price \u202e001", "price \\u202e001"),
        ("a\u2028b\u2066c", "a\\u2028b\\u2066c"),
        ("tag\U000e0041", "tag\\U000e0041"),
        ("Amélie 机器人 👩\u200d🚀 ی\u200cک", "Amélie 机器人 👩\u200d🚀 ی\u200cک"),
        (None, "None"),
    ],
)
def test_what_is_shown(text, shown):
    assert safe(text) == shown


def test_a_guarded_stream_keeps_lines():
    stream = io.StringIO()
    print("one\ttwo\n\x1b]0;title\x07three", file=Guarded(stream))
    assert stream.getvalue() == "one\ttwo\n\\x1b]0;title\\x07three\n"


def test_the_table_of_steps_is_safe(tmp_path, capfd):
    with Table(tmp_path / "log", "shop\x1b[31m") as table:
        table.begin("step")
        table.end("done", "best \u202eitem\x1b[2J")
    out = capfd.readouterr().out
    assert "\x1b" not in out and "\u202e" not in out and "best \\u202eitem\\x1b[2J" in out


def test_every_command_prints_through_the_guard(capsys):
    from pipeline.cli import main as cli

    assert cli.main(["validate", "no\x1b[31msuch\u202e.yaml"]) == 1
    err = capsys.readouterr().err
    assert "\x1b" not in err and "\u202e" not in err
