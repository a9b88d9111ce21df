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


def test_the_library_example_runs(capsys):
    (code,) = blocks("python")
    exec(compile(code, "README.md", "exec"), {})
    assert capsys.readouterr().out.split("\n")[0] == "(2, 32) ()"


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
