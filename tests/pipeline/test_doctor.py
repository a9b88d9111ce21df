"""`tfrec doctor`, and errors without stacks."""

import importlib.metadata
import json
import socket

import pytest
from packaging.requirements import Requirement

from pipeline.cli import main as cli
from pipeline.onboarding import doctor


@pytest.mark.slow
def test_this_environment_is_fit_to_run(capsys):
    assert cli.main(["doctor", "--json"]) == 0
    lines = {line["about"]: line for line in json.loads(capsys.readouterr().out)}
    assert {line["state"] for line in lines.values()} <= {"ok", "note"}
    version = importlib.metadata.version("tensorflow")
    assert lines["TensorFlow"]["seen"].startswith(f"{version} with Keras 2.")
    assert "tfrec run" in lines["packages [pipeline]"]["seen"]


def test_what_is_missing_is_named_with_the_way_to_get_it(monkeypatch):
    declared = ["no-such-package>=1", "numpy>=99", "pandas>=2", 'click>=8; extra == "pipeline"']
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: declared)
    lines = {line.about: line for line in doctor._packages()}
    assert lines["packages"].state == "wrong"
    version = importlib.metadata.version("numpy")
    assert lines["packages"].seen.endswith(f"no-such-package is missing, numpy {version} is not >=99")
    assert "pip install tfrec-fusion" in lines["packages"].remedy
    assert lines["packages [pipeline]"].state == "ok"


def test_a_requirement_of_another_platform_is_none():
    assert not doctor._belongs(Requirement('uvloop; platform_system == "Nowhere"'), "")
    assert doctor._belongs(Requirement('uvloop; extra == "serving"'), "serving")
    assert not doctor._belongs(Requirement('uvloop; extra == "serving"'), "")


def test_a_port_that_is_taken_is_seen():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        (line,) = [line for line in doctor._servers(port) if line.about == "port"]
    assert line.state == "note"
    assert f"{port} cannot be used" in line.seen


def test_an_error_has_a_stack_only_with_debug(capsys):
    assert cli.main(["validate", "nowhere.yaml"]) == 1
    plain = capsys.readouterr().err
    assert "There is no configuration file 'nowhere.yaml'" in plain
    assert "Traceback" not in plain
    assert cli.main(["validate", "nowhere.yaml", "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err
