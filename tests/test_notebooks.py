"""Notebooks run from top to bottom, with smaller settings; what is committed was made from the scripts, and
has pictures."""

import importlib.util
import pathlib

import nbformat
import pytest

ROOT = pathlib.Path(__file__).parent.parent
SCRIPTS = sorted((ROOT / "notebooks").glob("[0-9]*.py"))
NAMES = [script.stem for script in SCRIPTS]
SHOP = ROOT.parent / "shared" / "data" / "uci-online-retail"


def tool():
    spec = importlib.util.spec_from_file_location("notebooks", ROOT / "tools" / "notebooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def outputs(notebook):
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_committed_was_made_from_the_script(name):
    committed = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
    made = tool().read(ROOT / "notebooks" / f"{name}.py")
    assert [cell.source for cell in committed.cells] == [cell.source for cell in made.cells]
    assert all(cell.execution_count for cell in committed.cells if cell.cell_type == "code")
    result = outputs(committed)
    assert not [output for output in result if output.output_type == "error"]
    assert sum("image/png" in output.get("data", {}) for output in result) >= 2
    assert str(ROOT) not in "".join(output.get("text", "") for output in result)


def test_a_notebook_that_is_not_there_is_told_of(capsys):
    assert tool().main(["99_nothing"]) == 1
    assert "There is no notebook 99_nothing. There are: 01_quickstart, 02_" in capsys.readouterr().err


@pytest.mark.slow
def test_the_tool_makes_a_notebook_with_outputs(tmp_path, monkeypatch):
    (tmp_path / "09_sum.py").write_text("# %% [markdown]\n# A sum.\n\n# %%\nprint(40 + 2)\n")
    made = tool()
    monkeypatch.setattr(made, "FOLDER", tmp_path)
    assert made.main(["09_sum"]) == 0
    text, code = nbformat.read(tmp_path / "09_sum.ipynb", as_version=4).cells
    assert text.source == "A sum."
    assert code.outputs[0].text == "42\n"


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_it_runs_from_top_to_bottom(name, tmp_path, monkeypatch):
    if name == "06_shop":
        if not (SHOP / "online_retail.parquet").exists():
            pytest.skip(f"the shop's invoices are not at {SHOP}; the notebook says where to get them")
        monkeypatch.setenv("TFREC_UCI", str(SHOP))
    notebook = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
    tool().execute(notebook, tmp_path, small=True)
    assert sum("image/png" in output.get("data", {}) for output in outputs(notebook)) >= 2
