"""An update's push that is killed at any of its steps is finished by whoever comes next."""

import contextlib
import json
import pathlib
import types

import pytest

from pipeline.data.pushed_versions import versions
from pipeline.updating import pending
from tfrec_fusion import files

KINDS = ("retrieval", "ranking", "recommender")
REPORT = {"rows": 7, "pushed": None, "versions": {}, "reasons": []}


@pytest.fixture
def config(tmp_path):
    """Of a run that has pushed version 5 of each model."""
    home = tmp_path / "runs"
    for kind in KINDS:
        model = home / "serving" / kind / "5"
        model.mkdir(parents=True)
        (model / "saved_model.pb").write_text("old")
    (home / "update").mkdir()
    (home / "update" / "state").write_text("old")
    return types.SimpleNamespace(home=home, push_folder=home / "serving")


def prepare(config):
    with pending.preparing(config) as folder:
        for kind in KINDS:
            (folder / kind / "1").mkdir(parents=True)
            (folder / kind / "1" / "saved_model.pb").write_text("new")
        (folder / "update").mkdir()
        (folder / "update" / "state").write_text("new")


def seen(config):
    """The newest version of each kind, and the state."""
    newest = [versions(config.push_folder / kind)[max(versions(config.push_folder / kind))] for kind in KINDS]
    state = config.home / "update" / "state"
    return {(model / "saved_model.pb").read_text() for model in newest}, state.read_text()


class Killed(BaseException):
    pass


def kill_at(monkeypatch, step):
    """Ends at a step of all that touch the disk; before it is done, or when it is half done."""
    count = iter(range(1000))

    def counted(name, module):
        real = getattr(module, name)

        def run(*args, **kwargs):
            if next(count) == step:
                raise Killed
            return real(*args, **kwargs)

        monkeypatch.setattr(module, name, run)

    counted("push", pending)
    counted("rename", pending.os)  # of files and folders that appear whole, too
    counted("rmtree", pending.shutil)
    counted("unlink", pathlib.Path)


def test_a_kill_at_any_step(config, monkeypatch, tmp_path):
    for step in range(60):
        with monkeypatch.context() as patched:
            prepare(config)
            kill_at(patched, step)
            try:
                pending.seal(config, KINDS, REPORT, "report.json")
                pending.finish(config)
                killed = False
            except Killed:
                killed = True
        sealed = (pending.folder_of(config) / "push.json").is_file()
        count = {kind: len(versions(config.push_folder / kind)) for kind in KINDS}
        report = pending.finish(config)
        pushed, state = seen(config)
        assert (pushed, state) in (({"old"}, "old"), ({"new"}, "new")), step
        assert (report is not None) == sealed and not pending.folder_of(config).exists()
        if report is not None:
            assert (pushed, state) == ({"new"}, "new")
            assert json.loads((config.home / "update.json").read_text()) == report
            assert list(report["versions"]) == list(KINDS) and report["rows"] == 7
            for kind, folder in report["versions"].items():
                assert max(versions(config.push_folder / kind).values(), key=lambda one: int(one.name)) == (
                    pathlib.Path(folder)
                )
            assert all(len(versions(config.push_folder / kind)) - count[kind] in (0, 1) for kind in KINDS)
        if not killed:
            break
        for kind in KINDS:  # and again from the beginning
            for number, version in versions(config.push_folder / kind).items():
                if number != 5:
                    files.remove_folder(version)
        (config.home / "update" / "state").write_text("old")
    assert 10 < step < 59  # the last one was not killed


def test_what_a_run_pushed_since_counts(config):
    prepare(config)
    pending.seal(config, KINDS, REPORT, "report.json")
    later = config.push_folder / "retrieval" / "99999999999"
    later.mkdir()
    (later / "saved_model.pb").write_text("run")
    assert pending.finish(config) is None
    assert seen(config) == ({"run", "old"}, "old") and not pending.folder_of(config).exists()
    assert not (config.home / "update.json").exists()


def test_what_goes_wrong_before_leaves_nothing(config):
    with contextlib.suppress(Killed), pending.preparing(config) as folder:
        (folder / "retrieval").mkdir()
        raise Killed
    assert not pending.folder_of(config).exists()
    assert pending.finish(config) is None
    pending.folder_of(config).mkdir()  # as a kill leaves it
    assert pending.finish(config) is None and not pending.folder_of(config).exists()
    assert seen(config) == ({"old"}, "old")
