"""What the README promises: its code runs, its YAML is read, its commands exist."""

import pathlib
import re

import pytest
import yaml

from pipeline.config.pipeline_config import load_config
from tests.command_lines import parsed

README = (pathlib.Path(__file__).parent.parent / "README.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.S)


@pytest.mark.slow
def test_the_example_recommends_what_the_user_chooses(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (code,) = blocks("python")
    exec(compile(code, "README.md", "exec"), {})
    rows = capsys.readouterr().out.splitlines()[1:]
    assert len(rows) == 3
    assert all("u1" in row and "love letter" in row for row in rows)
    assert (tmp_path / "models/films/1/saved_model.pb").exists()


def test_the_tables_example_is_read(tmp_path):
    (text,) = blocks("yaml")
    path = tmp_path / "shop.yaml"
    path.write_text(text)
    config = load_config(str(path))
    assert config.data.items.text == ("name", "description")
    assert yaml.safe_load(text)["name"] == "shop"


@pytest.mark.parametrize(
    "line", [line for block in blocks("") for line in block.splitlines() if "/tfrec " in line]
)
def test_every_command_is_known(line):
    words = re.findall(r'"[^"]*"|\S+', line.split("/tfrec ", 1)[1])
    assert parsed([word.strip('"') for word in words]).command.callback
