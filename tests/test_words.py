"""Words of the sources: a module's docstring begins with what the module is."""

import ast

import pytest

from tools.house import PACKAGES, ROOT, sources

QUESTIONS = {"How", "What", "When", "Where", "Whether", "Which", "Who", "Why"}


@pytest.mark.parametrize("package", PACKAGES)
def test_a_modules_docstring_begins_with_what_it_is(package):
    docstrings = {
        path: ast.get_docstring(ast.parse(path.read_text("utf-8"))) for path in sources(ROOT, package)
    }
    assert [str(path) for path, text in docstrings.items() if text and text.split()[0] in QUESTIONS] == []
