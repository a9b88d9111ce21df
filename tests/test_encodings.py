"""Text is UTF-8 wherever the machine's locale says something else: every place that opens text says so."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parent.parent
SOURCES = [
    path
    for folder in ("benchmarks", "docs", "pipeline", "tfrec_fusion", "tools")
    for path in sorted((ROOT / folder).rglob("*.py"))
]
TEXT = {"read_text": 0, "write_text": 1, "open": None, "fdopen": None, "NamedTemporaryFile": None}


def unsaid(call: ast.Call) -> bool:
    """Whether a call opens text and leaves its encoding to the locale."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if name not in TEXT or any(keyword.arg == "encoding" for keyword in call.keywords):
        return False
    owner = ast.unparse(call.func.value) if isinstance(call.func, ast.Attribute) else ""
    if TEXT[name] is None:
        position = 0 if owner not in ("", "gzip", "io", "os") or name == "NamedTemporaryFile" else 1
        if name == "open" and owner in ("os", "tarfile", "zipfile", "webbrowser", "Image"):
            return False
        given = [
            *call.args[position : position + 1],
            *(word.value for word in call.keywords if word.arg == "mode"),
        ]
        mode = given[0].value if given and isinstance(given[0], ast.Constant) else None
        mode = mode or ("wb" if name == "NamedTemporaryFile" else "r")
        return "b" not in str(mode) and (owner != "gzip" or "t" in str(mode))
    # `files.write_text(path, text)` is ours, and knows nothing but UTF-8.
    return owner != "files" and len(call.args) <= TEXT[name]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_place_that_opens_text_names_its_encoding(path):
    calls = [
        node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)
    ]
    assert [f"{path.name}:{call.lineno}" for call in calls if unsaid(call)] == []


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("open(path)", True),
        ("open(path, 'w')", True),
        ("open(path, 'rb')", False),
        ("path.open()", True),
        ("path.open('xb')", False),
        ("path.open(mode='wb')", False),
        ("path.read_text()", True),
        ("path.read_text('utf-8')", False),
        ("path.write_text(text)", True),
        ("path.write_text(text, encoding='utf-8')", False),
        ("files.write_text(path, text)", False),
        ("gzip.open(path)", False),
        ("os.fdopen(file, 'w')", True),
        ("tempfile.NamedTemporaryFile()", False),
        ("tempfile.NamedTemporaryFile('w')", True),
        ("gzip.open(path, 'rt')", True),
    ],
)
def test_the_check_sees_what_it_is_for(code, found):
    assert unsaid(ast.parse(code).body[0].value) is found
