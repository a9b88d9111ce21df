"""What happens to a run from outside: others at work, a damaged record, a full disk, Ctrl-C while
importing."""

import errno
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time

import numpy as np
import pytest

from pipeline.cli.main import main
from pipeline.runner.console import Table
from pipeline.runner.failures import check_record, way_out
from pipeline.runner.interruption import Interrupts
from tfrec_fusion import files
from tfrec_fusion.config import ConfigError

YAML = """
name: shop
root: {root}
data:
  interactions: {{path: orders.csv, user: u, item: i, time: t}}
  items: {{path: items.csv, id: i, title: n}}
"""


@pytest.fixture
def config_file(tmp_path):
    path = tmp_path / "shop.yaml"
    path.write_text(YAML.format(root=tmp_path / "runs"))
    return path


@pytest.mark.parametrize("command", [["run"], ["index", "--items", "x.csv"]])
def test_a_second_process_is_told_of_the_first(config_file, tmp_path, capsys, command):
    with files.lock(tmp_path / "runs" / "shop" / "run.lock", "tfrec run"):
        assert main([*command, str(config_file)]) == 3
    error = capsys.readouterr().err
    assert f"process {os.getpid()} (`tfrec run`), since 20" in error
    assert "Wait until it is done" in error


def record(path, rows=400):
    connection = sqlite3.connect(path)
    connection.execute("create table artifact (id integer primary key, uri text)")
    connection.executemany("insert into artifact (uri) values (?)", [("x" * 90,)] * rows)
    connection.commit()
    connection.close()


def test_a_damaged_record_is_named_and_begun_anew(tmp_path):
    record(tmp_path / "metadata.sqlite")
    assert check_record(tmp_path) is None
    whole = (tmp_path / "metadata.sqlite").read_bytes()
    for length in (0, 1, 50, 100, 1000, 4096, 8192, len(whole) // 2, len(whole) - 1):
        home = tmp_path / str(length)
        (home / "artifacts" / "Trainer").mkdir(parents=True)
        (home / "metadata.sqlite").write_bytes(whole[:length])
        told = check_record(home)
        assert str(home / "metadata.sqlite") in told
        assert "a new one is begun" in told
        assert not (home / "metadata.sqlite").exists()
        assert not (home / "artifacts").exists()
        assert len(list(home.iterdir())) == 2
        assert check_record(home) is None
    (tmp_path / "none" / "artifacts").mkdir(parents=True)
    assert "it is not there" in check_record(tmp_path / "none")


def test_a_record_in_use_is_said(tmp_path):
    record(tmp_path / "metadata.sqlite", 3)
    holder = sqlite3.connect(tmp_path / "metadata.sqlite")
    holder.execute("begin exclusive")
    with pytest.raises(ConfigError, match="end what is using it"):
        check_record(tmp_path)
    holder.close()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/data/x"), r"disk is full \(/data/x\)"),
        (RuntimeError("RESOURCE_EXHAUSTED: /x; No space left on device"), "disk is full"),
        (sqlite3.OperationalError("database or disk is full"), "disk is full"),
        (PermissionError(errno.EACCES, "Permission denied", "/data/x"), r"written \(/data/x\).*--root"),
        (OSError(errno.EROFS, "Read-only file system", "/data"), "another folder with --root"),
    ],
)
def test_errors_of_the_disk_come_with_a_way_out(error, words):
    wrapped = ValueError("a step failed")
    wrapped.__cause__ = error
    assert re.search(words, way_out(wrapped))
    assert way_out(ValueError("something else")) is None


def test_a_full_disk_leaves_what_was_there(tmp_path):
    """A file system of 64 KB would need rights; a limit on the size of files breaks off a write in the same
    way."""
    code = f"""
import resource, signal
from tfrec_fusion import files
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
files.write_text({str(tmp_path / "summary.json")!r}, "old")
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    files.write_text({str(tmp_path / "summary.json")!r}, "n" * 100_000)
except OSError as error:
    print(error.errno)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(errno.EFBIG)
    assert (tmp_path / "summary.json").read_text() == "old"
    assert os.listdir(tmp_path) == ["summary.json"]


def test_the_outer_context_tells_the_inner_one_of_a_ctrl_c():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with Interrupts() as outer, Interrupts() as inner:
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
            assert outer.asked
            with pytest.raises(KeyboardInterrupt):
                inner.check()
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_ctrl_c_that_an_import_turns_into_an_import_error_ends_with_130(config_file, monkeypatch, capsys):
    import pipeline.runner.local as local

    def importing(_):
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt as error:
            raise ImportError("initialization failed") from error

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    monkeypatch.setattr(local, "run", importing)
    try:
        assert main(["run", str(config_file)]) == 130
    finally:
        signal.signal(signal.SIGINT, before)
    assert "Stopped. Nothing half-written was pushed" in capsys.readouterr().err


def table_lines(tmp_path, play, monkeypatch, seconds=10.0):
    """What a table writes where the output is no terminal."""
    out = tmp_path / "out.txt"
    monkeypatch.setattr(Table, "SECONDS", seconds)
    saved, file = os.dup(1), os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(file, 1)
    try:
        with Table(tmp_path / "log", "shop") as table:
            table.begin("RetrievalTrainer")
            play(table)
            table.end("done", "loss 1")
    finally:
        os.dup2(saved, 1)
        os.close(saved)
        os.close(file)
    return [line for line in out.read_text().splitlines() if line.startswith("    ")]


def test_epochs_are_told_where_the_output_is_no_terminal(tmp_path, monkeypatch):
    def many(table):
        for epoch in range(1, 501):
            table.doing(f"epoch {epoch}: loss 0.1, val_ndcg_10 0.2")

    lines = table_lines(tmp_path, many, monkeypatch)
    assert [line.split(" (")[0] for line in lines] == [
        f"    RetrievalTrainer: epoch {epoch}: loss 0.1, val_ndcg_10 0.2" for epoch in (1, 500)
    ]
    assert lines[0].endswith(" s)")

    def slow(table):
        for epoch in range(1, 9):
            table.doing(f"epoch {epoch}: loss 0.1")
            time.sleep(0.03)

    assert 3 <= len(table_lines(tmp_path, slow, monkeypatch, seconds=0.05)) <= 7
    assert table_lines(tmp_path, lambda table: table.doing("reads"), monkeypatch) == []


def test_summaries_are_read_as_they_were_written(tmp_path):
    files.write_json(tmp_path / "summary.json", {"title": "Größe 中文", "value": float(np.float32(1))})
    assert json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))["title"] == "Größe 中文"
