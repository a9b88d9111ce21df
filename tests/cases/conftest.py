"""A case that is open, and the commands on it."""

import pathlib
import shutil

import pytest
import yaml

from pipeline.cli import main as cli
from tests.cases.reading import CASES, case_of


@pytest.fixture
def opened(tmp_path, monkeypatch):
    """Copies a case to a folder that can be written, and goes there."""

    def open_case(number: str) -> pathlib.Path:
        target = tmp_path / number
        shutil.copytree(CASES / case_of(number), target, copy_function=shutil.copyfile)
        for path in (target, *target.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        # Their paths begin at the case's folder.
        for path in target.glob("*/*.yaml"):
            path.rename(target / path.name)
        monkeypatch.chdir(target)
        return target

    return open_case


@pytest.fixture
def init(opened, capsys):
    """`tfrec init` of one of a case's folders: what it printed, on one line, and the configuration's
    `data`."""

    def run(number: str, folder: str = "t", *options: str):
        target = opened(number)
        status = cli.main(["init", folder, "--name", "x", "--force", *options])
        printed = capsys.readouterr()
        assert status == 0, printed.err
        written = yaml.safe_load((target / "x.yaml").read_text())
        return " ".join(printed.out.split()), written["data"]

    return run


@pytest.fixture
def validate(capsys):
    """`tfrec validate` in the folder of a case that is open."""

    def run(name: str = "x.yaml", *sets: str):
        capsys.readouterr()
        status = cli.main(["validate", name, *(f"--set={one}" for one in sets)])
        return status, " ".join(capsys.readouterr().out.split())

    return run
