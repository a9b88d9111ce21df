"""The table of a run's steps: where everybody else's output goes."""

import os
import stat

import pytest

from pipeline.runner.console import Table


def test_the_log_of_a_run_is_its_owners_alone(tmp_path):
    log = tmp_path / "logs" / "run.log"
    log.parent.mkdir(mode=0o755)
    log.write_text("earlier\n")
    log.chmod(0o755)
    with Table(log, "shop"):
        os.write(2, b"a row of the data\n")
    assert log.read_text() == "earlier\na row of the data\n"
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    assert stat.S_IMODE(log.parent.stat().st_mode) == 0o700


def test_the_log_of_a_run_follows_no_link(tmp_path):
    (tmp_path / "logs").mkdir()
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "logs" / "run.log").symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match="symbolic links"), Table(tmp_path / "logs" / "run.log", "shop"):
        pass
    assert (tmp_path / "precious").read_text() == "precious"
