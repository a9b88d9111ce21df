"""Child processes import nothing from the working folder."""

import os
import subprocess
import sys

import pytest

from tfrec_fusion.serving.child_process import python_code, python_module, safe_path

TRAP = "open('ran', 'a').write(__name__)\n"


@pytest.mark.parametrize("kind", ["module", "code"])
def test_files_in_the_working_folder_do_not_run(kind, tmp_path):
    for name in ("grpc.py", "pipeline.py", "runpy.py", "numpy.py", "argparse.py", "json.py"):
        (tmp_path / name).write_text(TRAP)
    command = (
        [*python_module("json.tool"), "--help"]
        if kind == "module"
        else python_code("import json, argparse, pipeline.cli.main; print(json.dumps(1))")
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "ran").exists()


def test_a_module_gets_its_arguments_and_its_name(tmp_path):
    done = subprocess.run(
        [*python_module("tfrec_fusion.serving.server"), "--no_such_flag"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0 and "no_such_flag" in done.stderr + done.stdout


def test_an_uninstalled_package_is_found_after_all_others(tmp_path):
    code = "import sys, tfrec_fusion; print(sys.path[-1] in tfrec_fusion.__file__)"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(python_code(code), cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert done.stdout.strip() in ("True", "False"), done.stderr


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 has no safe path")
def test_processes_of_other_libraries_are_safe_too(tmp_path):
    (tmp_path / "colorsys.py").write_text(TRAP)
    with safe_path():
        subprocess.run([sys.executable, "-c", "import colorsys"], cwd=tmp_path, check=True)
    assert not (tmp_path / "ran").exists()
