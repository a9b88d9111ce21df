"""Makes notebooks from scripts and runs them: `python tools/notebooks.py [01_quickstart …]`.

A script holds cells: a line `# %%` begins one of code, `# %% [markdown]` one of text, whose lines begin with
`# `. Outputs are kept in the notebook, which is what users read; changes are made in the script.
"""

import os
import pathlib
import re
import sys

import nbformat
from nbclient import NotebookClient

ROOT = pathlib.Path(__file__).resolve().parent.parent
FOLDER = ROOT / "notebooks"


def read(script: pathlib.Path) -> nbformat.NotebookNode:
    """A notebook without outputs from a script."""
    cells = []
    for kind, body in re.findall(
        r"^# %%( \[markdown\])?\n(.*?)(?=^# %%|\Z)", script.read_text(encoding="utf-8"), re.S | re.M
    ):
        body = body.strip("\n")
        if kind:
            cells.append(nbformat.v4.new_markdown_cell(re.sub(r"^# ?", "", body, flags=re.M)))
        else:
            cells.append(nbformat.v4.new_code_cell(body))
    for position, cell in enumerate(cells):
        cell.id = f"cell-{position}"
    metadata = {
        "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
        "language_info": {"name": "python"},
    }
    return nbformat.v4.new_notebook(cells=cells, metadata=metadata)


def execute(notebook: nbformat.NotebookNode, folder: pathlib.Path, small: bool = False) -> None:
    """Runs all cells from top to bottom in a fresh kernel, which may import the checkout; outputs are put
    into the notebook.

    Args:
        notebook: what `read` returns, or an opened notebook.
        folder: the working directory.
        small: whether cells take the smaller settings (`TFREC_NOTEBOOK_SMALL`).
    """
    saved = dict(os.environ)
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), saved.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    os.environ["TFREC_NOTEBOOK_SMALL"] = "1" if small else "0"
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    try:
        timeout = 600 if small else 3600  # seconds a cell
        NotebookClient(notebook, timeout=timeout, resources={"metadata": {"path": str(folder)}}).execute()
    finally:
        os.environ.clear()
        os.environ.update(saved)


def tidy(notebook: nbformat.NotebookNode) -> None:
    """Takes out what differs from run to run and says nothing: times, and warnings of native code."""
    for cell in notebook.cells:
        cell.metadata = {}
        if cell.cell_type == "code":
            kept = [output for output in cell.outputs if output.get("name") != "stderr"]
            for output in kept:
                if output.output_type == "stream":
                    output.text = re.sub(r"^WARNING:tensorflow:.*\n\n?", "", output.text, flags=re.M)
            cell.outputs = [output for output in kept if output.get("text", "kept").strip()]


def main(names: list[str]) -> int:
    scripts = {script.stem: script for script in sorted(FOLDER.glob("[0-9]*.py"))}
    unknown = [name for name in names if name not in scripts]
    if unknown:
        print(f"There is no notebook {', '.join(unknown)}. There are: {', '.join(scripts)}.", file=sys.stderr)
        return 1
    for name in names or scripts:
        print(name, flush=True)
        notebook = read(scripts[name])
        execute(notebook, FOLDER)
        tidy(notebook)
        nbformat.write(notebook, FOLDER / f"{name}.ipynb")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
