"""The documentation's promises: its code runs, its YAML is read, its commands exist, its links lead
somewhere."""

import json
import pathlib
import re
import subprocess
import sys

import pytest
import yaml

import tfrec_fusion
from pipeline.cli import main as cli
from pipeline.config.pipeline_config import load_config
from tests.command_lines import parsed
from tfrec_fusion.export import request

ROOT = pathlib.Path(__file__).parent.parent
PAGES = sorted((ROOT / "docs").rglob("*.md"))
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.S | re.M)


def having(language):
    return [name for page, name in zip(PAGES, NAMES, strict=True) if blocks(page, language)]


# A BERT is traced in training, evaluation and for the index.
SLOW = ("docs/howto/python.md", "docs/howto/tfrs-tutorial.md")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in having("python")]
)
def test_code_runs(name, tmp_path, monkeypatch):
    """All blocks of a page, one after the other, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    space: dict = {}
    for code in blocks(ROOT / name, "python"):
        exec(compile(code, name, "exec"), space)


@pytest.mark.parametrize("name", having("yaml"))
def test_configurations_are_read(name, tmp_path):
    for text in blocks(ROOT / name, "yaml"):
        if "data:" in text:
            path = tmp_path / "config.yaml"
            path.write_text(text)
            assert load_config(str(path)).name == yaml.safe_load(text)["name"]


@pytest.mark.parametrize("name", having("sh"))
def test_commands_exist(name):
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M)
    for block in blocks(ROOT / name, "sh"):
        for line in block.splitlines():
            if line.startswith("tfrec "):
                words = [word.strip('"') for word in re.findall(r'"[^"]*"|\S+', line)[1:]]
                assert parsed(words).command.callback, line
            elif line.startswith("make "):
                assert line.split()[1] in targets, line


@pytest.mark.parametrize(
    ("name", "user"),
    [("README.md", "42"), ("docs/tutorial.md", "C001"), ("docs/reference/requests.md", "42")],
)
def test_printed_requests_are_those_of_the_contract(name, user):
    """TF Serving refuses a request that leaves an input out."""
    names = [one for one in request.SIGNATURES["recommend"] if one not in request.RANKING_ONLY]
    (body,) = re.findall(r"curl -d '(.*?)'", (ROOT / name).read_text(), re.S)
    asked = request.columns(names, user_id=[user], k=5)
    assert json.loads(body) == {"signature_name": "recommend", "inputs": asked}


def test_the_page_about_requests_holds_the_contract():
    page = (ROOT / "docs/reference/requests.md").read_text()
    assert request.markdown(request.INPUTS) in page
    for name, meaning in {**request.OUTPUTS, **request.EXPLAINED}.items():
        assert f"| `{name}` | {meaning} |" in page
    for name, inputs in request.SIGNATURES.items():
        assert f"| `{name}` | {', '.join(f'`{one}`' for one in inputs)} |" in page


def test_the_tutorials_tables_are_guessed_as_it_says(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    page = ROOT / "docs" / "tutorial.md"
    (code,) = blocks(page, "python")
    exec(compile(code, "tutorial.md", "exec"), {})
    assert cli.main(["init", ".", "--name", "books"]) == 0
    (written,) = blocks(page, "yaml")
    assert yaml.safe_load((tmp_path / "books.yaml").read_text())["data"] == yaml.safe_load(written)["data"]
    assert cli.main(["validate", "books.yaml"]) == 0


@pytest.mark.parametrize(
    "name",
    [
        "mkdocs.yml",
        "CITATION.cff",
        ".pre-commit-config.yaml",
        ".github/workflows/ci.yml",
        *(str(path.relative_to(ROOT)) for path in (ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml")),
    ],
)
def test_project_files_are_yaml(name):
    assert isinstance(yaml.safe_load((ROOT / name).read_text()), dict)


def test_what_is_cited_is_what_is_released():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert cited["version"] == tfrec_fusion.__version__
    assert cited["license"] == "Apache-2.0"
    assert "Apache License" in (ROOT / "LICENSE").read_text()


def test_ci_runs_commands_that_exist():
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M)
    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]
    commands = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    assert ".ci/run" in commands
    for command in commands:
        if command.startswith("make "):
            assert command.split()[1] in targets


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"])
def test_relative_links_lead_somewhere(name):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", (ROOT / name).read_text()):
        if "://" not in target:
            assert (ROOT / target).exists(), target


@pytest.mark.slow
def test_the_site_is_built_and_every_link_leads_somewhere(tmp_path):
    """Strict: a broken link or anchor, or a docstring that cannot be read, is an error; and no page needs a
    network."""
    built = subprocess.run(
        # Not quiet: what is not said is not counted as a warning either.
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) >= len(PAGES)
    loaded = re.compile(r'<(?:script|img|link)[^>]+(?:src|href)="https?://(?!.*rel="canonical")[^"]+"')
    for page in pages:
        assert not loaded.findall(page.read_text()), page
    layers = (tmp_path / "reference" / "layers" / "index.html").read_text()
    assert 'id="tfrec_fusion.layers.GatedFusion"' in layers
    commands = (tmp_path / "reference" / "cli" / "index.html").read_text()
    assert "Usage: tfrec validate" in commands and "Usage: tfrec vertex check" in commands
    formulas = (tmp_path / "explanation" / "fusion" / "index.html").read_text()
    assert formulas.count("<math") > 8
    assert "$$" not in formulas
