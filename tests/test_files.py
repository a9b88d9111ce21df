"""What others read appears whole or not at all, whenever a writer is killed; one writer at a time."""

import json
import multiprocessing
import os
import signal
import time

import pytest

from tfrec_fusion import files

FORK = multiprocessing.get_context("fork")


def test_a_file_is_replaced_only_when_the_new_one_is_whole(tmp_path):
    path = tmp_path / "deep" / "summary.json"
    files.write_json(path, {"name": "Größe"})
    with pytest.raises(TypeError), files.whole_file(path) as stream:
        stream.writelines(["half", 1])
    assert json.loads(path.read_bytes().decode("utf-8")) == {"name": "Größe"}
    assert os.listdir(path.parent) == ["summary.json"]


def test_links_modes_pipes_and_long_names_stay_what_they_are(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "file").write_text("old")
    (tmp_path / "real" / "file").chmod(0o600)
    (tmp_path / "link").symlink_to(tmp_path / "real" / "file")
    files.write_text(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "file").read_text() == "new"
    assert (tmp_path / "real" / "file").stat().st_mode & 0o777 == 0o600
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    files.write_text(tmp_path / "pipe", "told")
    assert os.read(reader, 10) == b"told"
    os.close(reader)
    files.write_text(tmp_path / ("中" * 80), "long")
    assert (tmp_path / ("中" * 80)).read_text() == "long"
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / "run.lock").symlink_to(victim)
    with pytest.raises(OSError, match=r"run\.lock"), files.lock(tmp_path / "run.lock", "tfrec run"):
        pass
    assert victim.read_text() == "mine"


def test_a_folder_appears_whole_and_gives_way_only_if_it_may(tmp_path):
    target = tmp_path / "model"
    with files.whole_folder(target) as folder:
        (folder / "a").write_text("1")
        assert not target.exists()
    with pytest.raises(FileExistsError), files.whole_folder(target) as folder:
        (folder / "b").touch()
    assert os.listdir(target) == ["a"]
    with files.whole_folder(target, replace=True) as folder:
        (folder / "b").write_text("2")
    assert os.listdir(target) == ["b"]
    assert os.listdir(tmp_path) == ["model"]


def write_for_ever(path):
    for turn in range(10**9):
        text = str(turn % 10) * 300_000
        files.write_text(path, text)
        with files.whole_folder(f"{path}-folder", replace=True) as folder:
            for name in "abcde":
                (folder / name).write_text(text[:1000])


def test_killed_at_any_moment_a_writer_leaves_nothing_half_written_in_view(tmp_path):
    path = tmp_path / "file"
    for moment in range(12):
        child = FORK.Process(target=write_for_ever, args=(str(path),))
        child.start()
        time.sleep(0.05 + 0.017 * moment)
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        if path.exists():
            text = path.read_text()
            assert len(text) == 300_000 and len(set(text)) == 1
        folder = tmp_path / "file-folder"
        assert not folder.exists() or sorted(os.listdir(folder)) == list("abcde")
    files.clear_unfinished(tmp_path)
    assert set(os.listdir(tmp_path)) <= {"file", "file-folder"}


def hold(path, ready):
    with files.lock(path, "tfrec run"):
        ready.set()
        time.sleep(60)


def test_a_lock_names_its_holder_and_ends_with_it(tmp_path):
    path, ready = tmp_path / "lock", FORK.Event()
    child = FORK.Process(target=hold, args=(str(path), ready))
    child.start()
    assert ready.wait(20)
    with (
        pytest.raises(files.AtWork, match=rf"process {child.pid} \(`tfrec run`\), since \d{{4}}-"),
        files.lock(path, "tfrec index"),
    ):
        pass
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    with files.lock(path, "tfrec index") as held:
        assert held
        with pytest.raises(files.AtWork, match="tfrec index"), files.lock(path, "another thread"):
            pass
    assert path.read_text() == ""


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("17", 17),
        ("00017", 17),
        ("²", None),
        ("٣", None),
        ("+1", None),
        ("-1", None),
        ("9" * 20, None),
        ("v1", None),
    ],
)
def test_versions_are_what_tf_serving_takes_for_one(name, version):
    assert files.version_of(name) == version
