"""Findings of checks: one form for `doctor`, `validate` and `vertex check`, one rule for the exit code."""

import json

import pytest

from pipeline.config.findings import Finding, is_wrong, report
from pipeline.config.terminal import WIDTH

OK = Finding("ok", "port", "8501 is free")
NOTE = Finding("note", "data", "9 GB of local files are sent first", "Copy them once. " * 20)
UNKNOWN = Finding("unknown", "quota", "Not checked.")
WRONG = Finding("wrong", "vertex.image", "it is \x1b[31mred", "Mend it.")


@pytest.mark.parametrize(
    ("findings", "code", "last"),
    [
        ([], 0, "Go."),
        ([OK], 0, "Go."),
        ([OK, NOTE, UNKNOWN, NOTE], 0, "2 to look at, 1 not checked. Go."),
        ([NOTE, WRONG, WRONG], 1, "2 to mend, 1 to look at"),
    ],
)
def test_the_exit_code_says_whether_anything_must_be_mended(findings, code, last, capsys):
    assert report(iter(findings), "Go.") == code
    out = capsys.readouterr().out
    assert out.splitlines()[-1] == last
    assert is_wrong(findings) == bool(code)
    assert max(map(len, out.splitlines())) <= WIDTH and "\x1b" not in out
    assert report(findings, "Go.", as_json=True) == code
    assert [Finding(**one) for one in json.loads(capsys.readouterr().out)] == findings


def test_a_finding_stands_in_one_row_and_its_remedy_below(capsys):
    report([OK, WRONG], "")
    assert capsys.readouterr().out.splitlines()[:3] == [
        "  ok       port                  8501 is free",
        "  WRONG    vertex.image          it is \\x1b[31mred",
        "                                 → Mend it.",
    ]


def test_findings_are_printed_as_they_are_made(capsys):
    def checks():
        yield OK
        assert "8501 is free" in capsys.readouterr().out
        yield WRONG

    assert report(checks(), "Go.") == 1
