"""Versions: policies, swaps, retries, labels, reloads. A stand-in loader makes each step quick and
visible."""

import os
import shutil
import threading
import time

import pytest

from tfrec_fusion.serving.protocol.status import StatusError
from tfrec_fusion.serving.server.config_file import ModelConfig, VersionPolicy
from tfrec_fusion.serving.server.version_folders import find_versions, fingerprint, wait_until_settled
from tfrec_fusion.serving.server.versions import ModelManager


class FakeModel:
    def __init__(self, path, name, version):
        self.path, self.name, self.version = path, name, version
        with open(os.path.join(path, "saved_model.pb")) as file:
            content = file.read()
        if content == "broken":
            raise StatusError("DATA_LOSS", "it is broken")
        self.content = content


def push(base, version, content="fine"):
    hidden = base / f".{version}"
    hidden.mkdir(parents=True)
    (hidden / "saved_model.pb").write_text(content)
    past = time.time() - 60
    os.utime(hidden / "saved_model.pb", (past, past))
    hidden.rename(base / str(version))


def until(condition, seconds=10.0):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if condition():
                return
        except (StatusError, KeyError):
            pass
        time.sleep(0.01)
    raise AssertionError("did not happen in time")


@pytest.fixture
def manage(tmp_path, monkeypatch):
    """Makes managers over tmp_path/m that poll every 20 ms, and stops them afterwards."""
    monkeypatch.setattr("tfrec_fusion.serving.server.version_folders.SETTLE_SECONDS", 0.02)
    managers = []

    def make(*configs, load=FakeModel, start=True, **options):
        options = {"poll_seconds": 0.02, "retry_seconds": 0.05, **options}
        configs = configs or (ModelConfig("m", str(tmp_path / "m")),)
        manager = ModelManager(configs, load, **options)
        managers.append(manager)
        if start:
            manager.start()
        return manager

    yield make
    for manager in managers:
        manager.stop()


def states(manager, name="m"):
    return [(status.version, status.state) for status in manager.status(name)]


def test_folders_are_read_as_numbers(tmp_path):
    for name in ("1", "00017", "3x", "-4", "x", "1.5", "99999999999999999999", "5", "6"):
        (tmp_path / name).mkdir()
        if name != "5":
            (tmp_path / name / ("saved_model.pbtxt" if name == "6" else "saved_model.pb")).touch()
    (tmp_path / "8").touch()
    assert find_versions(str(tmp_path)) == {
        1: str(tmp_path / "1"),
        6: str(tmp_path / "6"),
        17: str(tmp_path / "00017"),
    }
    assert find_versions(str(tmp_path / "nope")) is None


def test_folders_of_other_file_systems_are_read_through_tensorflow(tmp_path):
    push(tmp_path / "m", 1)
    push(tmp_path / "m", 17)
    uri = f"file://{tmp_path}/m"
    assert find_versions(uri) == {1: f"{uri}/1", 17: f"{uri}/17"}
    assert find_versions(f"file://{tmp_path}/nope") is None
    ((name, size, modified),) = fingerprint(f"{uri}/17")
    assert (name, size) == ("saved_model.pb", 4)
    assert modified // 10**9 == fingerprint(str(tmp_path / "m" / "17"))[0][2] // 10**9
    assert wait_until_settled(f"{uri}/17") == fingerprint(f"{uri}/17")


def test_of_two_folders_of_one_version_the_shorter_name_is_read(tmp_path):
    for name in ("007", "7", "07"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "saved_model.pb").touch()
    assert find_versions(str(tmp_path)) == {7: str(tmp_path / "7")}


def test_a_base_path_that_is_moved_while_it_is_read_is_not_an_emptied_one(tmp_path, monkeypatch):
    push(tmp_path / "m", 1)
    listdir = os.listdir

    def move(path):
        names = listdir(path)
        (tmp_path / "m").rename(tmp_path / "gone")
        (tmp_path / "m").mkdir()
        return names

    monkeypatch.setattr("tensorflow.io.gfile.listdir", move)
    assert find_versions(str(tmp_path / "m")) is None


@pytest.mark.parametrize(
    ("policy", "chosen"),
    [
        (VersionPolicy(), {9}),
        (VersionPolicy("latest", 2), {5, 9}),
        (VersionPolicy("latest", 10), {1, 5, 9}),
        (VersionPolicy("all"), {1, 5, 9}),
        (VersionPolicy("specific", versions=(1, 5, 7)), {1, 5}),
        (VersionPolicy("specific", versions=(7,)), set()),
    ],
)
def test_policies(policy, chosen):
    assert policy.choose([5, 9, 1]) == chosen


def test_a_new_version_replaces_the_old_one_which_stays_as_end(tmp_path, manage):
    push(tmp_path / "m", 1)
    manager = manage()
    manager.wait_available(timeout=5)
    assert manager.get("m").version == 1
    push(tmp_path / "m", 2)
    until(lambda: states(manager) == [(2, "AVAILABLE"), (1, "END")])
    assert manager.get("m").version == 2
    with pytest.raises(StatusError, match=r"NOT_FOUND: Servable not found for request: Specific\(m, 1\)"):
        manager.get("m", 1)


def test_the_new_version_is_loaded_before_the_old_one_goes(tmp_path, manage):
    gate = threading.Event()

    def load(path, name, version):
        if version == 2:
            gate.wait(5)
        return FakeModel(path, name, version)

    push(tmp_path / "m", 1)
    manager = manage(load=load)
    manager.wait_available(timeout=5)
    push(tmp_path / "m", 2)
    until(lambda: states(manager) == [(2, "LOADING"), (1, "AVAILABLE")])
    assert manager.get("m").version == 1
    gate.set()
    until(lambda: manager.get("m").version == 2)


def test_a_request_in_work_keeps_the_old_version_until_it_is_done(tmp_path, manage):
    push(tmp_path / "m", 1)
    manager = manage()
    manager.wait_available(timeout=5)
    held = manager.get("m")
    push(tmp_path / "m", 2)
    until(lambda: states(manager) == [(2, "AVAILABLE"), (1, "UNLOADING")])
    assert held.content == "fine"
    del held
    until(lambda: states(manager) == [(2, "AVAILABLE"), (1, "END")])


def test_deleting_the_newest_goes_back_to_the_one_before(tmp_path, manage):
    push(tmp_path / "m", 1)
    push(tmp_path / "m", 2)
    manager = manage()
    until(lambda: manager.get("m").version == 2)
    shutil.rmtree(tmp_path / "m" / "2")
    until(lambda: states(manager) == [(2, "END"), (1, "AVAILABLE")])


def test_a_missing_base_path_keeps_what_is_served_and_an_emptied_one_unloads(tmp_path, manage):
    push(tmp_path / "m", 1)
    manager = manage()
    manager.wait_available(timeout=5)
    (tmp_path / "m").rename(tmp_path / "gone")
    time.sleep(0.2)
    assert manager.get("m").version == 1
    (tmp_path / "m").mkdir()
    until(lambda: states(manager) == [(1, "END")])
    with pytest.raises(StatusError, match=r"Latest\(m\)"):
        manager.get("m")


def test_a_broken_version_leaves_the_old_one_serving_and_ends_after_its_retries(tmp_path, manage):
    attempts = []

    def load(path, name, version):
        attempts.append(version)
        return FakeModel(path, name, version)

    push(tmp_path / "m", 1)
    manager = manage(load=load, max_retries=2)
    manager.wait_available(timeout=5)
    push(tmp_path / "m", 2, "broken")
    until(lambda: states(manager) == [(2, "LOADING"), (1, "AVAILABLE")])
    until(lambda: states(manager) == [(2, "END"), (1, "AVAILABLE")])
    assert attempts == [1, 2, 2, 2]
    status = manager.status("m", 2)[0]
    assert (status.code, status.message) == ("DATA_LOSS", "it is broken")
    assert manager.get("m").version == 1
    push(tmp_path / "m", 3)
    until(lambda: states(manager) == [(3, "AVAILABLE"), (2, "END"), (1, "END")])


def test_a_version_that_is_mended_is_tried_at_once(tmp_path, manage):
    push(tmp_path / "m", 1)
    manager = manage(retry_seconds=3600)
    manager.wait_available(timeout=5)
    push(tmp_path / "m", 2, "broken")
    until(lambda: manager._models["m"].versions[2].failed_with)
    (tmp_path / "m" / "2" / "saved_model.pb").write_text("mended")
    until(lambda: manager.get("m").content == "mended")


def test_a_folder_is_not_a_version_before_it_holds_a_model(tmp_path, manage):
    push(tmp_path / "m", 1)
    manager = manage()
    manager.wait_available(timeout=5)
    (tmp_path / "m" / "2" / "variables").mkdir(parents=True)
    time.sleep(0.1)
    assert states(manager) == [(1, "AVAILABLE")]
    (tmp_path / "m" / "2" / "saved_model.pb").write_text("fine")
    until(lambda: manager.get("m").version == 2)


def test_a_version_that_is_still_being_written_is_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr("tfrec_fusion.serving.server.version_folders.SETTLE_SECONDS", 0.1)
    (tmp_path / "saved_model.pb").write_text("a")

    def write():
        for _ in range(8):
            time.sleep(0.04)
            with open(tmp_path / "variables", "a") as file:
                file.write("x")

    writer = threading.Thread(target=write)
    writer.start()
    seen = wait_until_settled(str(tmp_path))
    writer.join()
    assert seen == fingerprint(str(tmp_path))
    assert ("variables", 8) in [(name, size) for name, size, _ in seen]


def test_a_failure_at_the_start_is_reported_at_once(tmp_path, manage):
    push(tmp_path / "m", 1, "broken")
    manager = manage(retry_seconds=3600)
    expected = (
        r"UNKNOWN: 1 servable\(s\) did not become available: "
        r"\{\{\{name: m version: 1\} due to error: DATA_LOSS: it is broken\}, \}$"
    )
    with pytest.raises(StatusError, match=expected):
        manager.wait_available(timeout=5)


def test_a_failure_at_the_start_is_retried_where_asked_for(tmp_path, manage):
    push(tmp_path / "m", 1, "broken")
    calls = []

    def load(path, name, version):
        calls.append(version)
        if len(calls) < 3:
            raise StatusError("UNAVAILABLE", "not yet")
        return FakeModel(path, name, version)

    (tmp_path / "m" / "1" / "saved_model.pb").write_text("fine")
    manager = manage(load=load, retry_at_startup=True, max_retries=5)
    manager.wait_available(timeout=5)
    assert len(calls) == 3


def test_waiting_ends_with_the_time_or_with_the_server(tmp_path, manage):
    manager = manage()
    with pytest.raises(StatusError, match="DEADLINE_EXCEEDED: Not available in time: m"):
        manager.wait_available(timeout=0.1)
    threading.Timer(0.1, manager.request_stop).start()
    with pytest.raises(StatusError, match="CANCELLED"):
        manager.wait_available(timeout=5, wanted=lambda: False)
    with pytest.raises(StatusError, match="CANCELLED"):
        manager.wait_available(timeout=5)


def test_polling_once(tmp_path, manage):
    push(tmp_path / "m", 1)
    manager = manage(poll_seconds=0)
    manager.wait_available(timeout=5)
    push(tmp_path / "m", 2)
    time.sleep(0.2)
    assert manager.get("m").version == 1


def test_labels_name_loaded_versions_only(tmp_path, manage):
    push(tmp_path / "m", 1)
    labelled = ModelConfig("m", str(tmp_path / "m"), VersionPolicy("all"), (("stable", 1),))
    refusal = (
        "FAILED_PRECONDITION: Request to assign label to version {} of model m, which is not currently"
        " available for inference"
    )
    with pytest.raises(StatusError, match=refusal.format(1)):
        manage(labelled, start=False)
    manager = manage()
    manager.wait_available(timeout=5)
    manager.reload([labelled], timeout=5)
    assert manager.get("m", label="stable").version == 1
    ahead = ModelConfig("m", str(tmp_path / "m"), VersionPolicy("all"), (("stable", 2),))
    with pytest.raises(StatusError, match=refusal.format(2)):
        manager.reload([ahead])
    assert manager.get("m", label="stable").version == 1
    push(tmp_path / "m", 2)
    until(lambda: manager.get("m").version == 2)
    manager.reload([ahead])
    assert manager.get("m", label="stable").version == 2
    with pytest.raises(StatusError, match="INVALID_ARGUMENT: Unrecognized servable version label: x"):
        manager.get("m", label="x")


def test_a_label_for_later_where_allowed(tmp_path, manage):
    push(tmp_path / "m", 1)
    manager = manage(
        ModelConfig("m", str(tmp_path / "m"), VersionPolicy(), (("next", 2),)), allow_unavailable_labels=True
    )
    manager.wait_available(timeout=5)
    with pytest.raises(StatusError, match=r"NOT_FOUND: Servable not found for request: Specific\(m, 2\)"):
        manager.get("m", label="next")


# server_core.cc UpdateModelVersionLabelMap
@pytest.mark.parametrize("forced", [False, True])
def test_a_label_in_use_moves_to_a_later_version_by_force_alone(tmp_path, manage, forced):
    push(tmp_path / "m", 1)
    one, two = (
        ModelConfig("m", str(tmp_path / "m"), VersionPolicy(), (("next", number),)) for number in (1, 2)
    )
    manager = manage(one, allow_unavailable_labels=True, force_unavailable_labels=forced)
    manager.wait_available(timeout=5)
    if forced:
        manager.reload([two], timeout=5)
        with pytest.raises(StatusError, match=r"Specific\(m, 2\)"):
            manager.get("m", label="next")
    else:
        with pytest.raises(StatusError, match="Request to assign label to version 2 of model m"):
            manager.reload([two], timeout=5)
        assert manager.get("m", label="next").version == 1


def test_reloading_adds_changes_and_removes_models(tmp_path, manage):
    for name in ("m", "n"):
        push(tmp_path / name, 1)
        push(tmp_path / name, 2)
    manager = manage()
    manager.wait_available(timeout=5)
    everything = ModelConfig("m", str(tmp_path / "m"), VersionPolicy("all"))
    manager.reload([everything, ModelConfig("n", str(tmp_path / "n"))], timeout=5)
    assert manager.get("n").version == 2
    until(lambda: states(manager) == [(2, "AVAILABLE"), (1, "AVAILABLE")])
    manager.reload(
        [ModelConfig("m", str(tmp_path / "n"), VersionPolicy("specific", versions=(1,)))], timeout=5
    )
    with pytest.raises(StatusError, match=r"Latest\(n\)"):
        manager.get("n")
    assert states(manager, "n") == [(2, "END")]
    until(lambda: manager.get("m", 1).path == str(tmp_path / "n" / "1"))


# file_system_storage_path_source.cc AspireSpecificVersions, AspireSpecificVersionsFastPath: warnings, and no
# error
@pytest.mark.parametrize(
    ("versions", "warnings"),
    [
        ((), ["No specific versions requested for servable m."]),
        (
            (7, 9),
            [
                (
                    "Version 7 of servable m, which was requested to be served as a 'specific' version in the"
                    " servable's version policy, was not found in the file system"
                ),
                (
                    "Version 9 of servable m, which was requested to be served as a 'specific' version in the"
                    " servable's version policy, was not found in the file system"
                ),
                (
                    "No versions of servable m found under base path {path}. Did you forget to name your leaf"
                    " directory as a number (eg. '/1/')?"
                ),
            ],
        ),
    ],
)
def test_specific_versions_that_are_not_there(tmp_path, manage, caplog, versions, warnings):
    push(tmp_path / "m", 1)
    manager = manage()
    manager.wait_available(timeout=5)
    policy = VersionPolicy("specific", versions=versions)
    manager.reload([ModelConfig("m", str(tmp_path / "m"), policy)], timeout=5)
    until(lambda: states(manager) == [(1, "END")])
    time.sleep(0.1)  # further looks say nothing new
    messages = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert messages == [warning.format(path=tmp_path / "m") for warning in warnings]
    push(tmp_path / "m", 9)
    if versions:
        until(lambda: states(manager)[0] == (9, "AVAILABLE"))


@pytest.mark.parametrize(("version", "after"), [(1, [(1, "AVAILABLE")]), (2, [(2, "AVAILABLE"), (1, "END")])])
def test_another_base_path_is_loaded_before_the_first_goes(tmp_path, manage, version, after):
    gate = threading.Event()

    def load(path, name, number):
        if "new" in path:
            gate.wait(5)
        return FakeModel(path, name, number)

    push(tmp_path / "m", 1)
    push(tmp_path / "new", version, "newer")
    manager = manage(load=load)
    manager.wait_available(timeout=5)
    manager.reload([ModelConfig("m", str(tmp_path / "new"))])
    until(lambda: states(manager)[0] == (version, "LOADING"))
    assert manager.get("m").content == "fine"
    gate.set()
    until(lambda: manager.get("m").content == "newer")
    until(lambda: states(manager) == after)


def test_another_base_path_that_cannot_be_loaded_leaves_the_first_serving(tmp_path, manage):
    push(tmp_path / "m", 1)
    push(tmp_path / "new", 1, "broken")
    manager = manage(max_retries=0)
    manager.wait_available(timeout=5)
    manager.reload([ModelConfig("m", str(tmp_path / "nowhere"))])
    time.sleep(0.1)
    assert manager.get("m").content == "fine"
    manager.reload([ModelConfig("m", str(tmp_path / "new"))])
    until(lambda: states(manager) == [(1, "END")])
    assert manager.get("m").content == "fine"
    manager.reload([])
    with pytest.raises(StatusError, match=r"Latest\(m\)"):
        manager.get("m")
    assert states(manager) == [(1, "END")]


def test_a_new_model_that_cannot_load_is_the_reloads_error(tmp_path, manage):
    push(tmp_path / "m", 1)
    push(tmp_path / "n", 1, "broken")
    manager = manage()
    manager.wait_available(timeout=5)
    kept = ModelConfig("m", str(tmp_path / "m"))
    with pytest.raises(
        StatusError, match=r"1 model\(s\) did not become available: \{\{\{name: n version: 1\} due"
    ):
        manager.reload([kept, ModelConfig("n", str(tmp_path / "n"))], timeout=5)
    assert manager.get("m").version == 1


def test_many_readers_never_miss_a_model_during_swaps(tmp_path, manage):
    push(tmp_path / "m", 1)
    manager = manage(poll_seconds=0.005)
    manager.wait_available(timeout=5)
    stop, failures, seen = threading.Event(), [], set()

    def read():
        while not stop.is_set():
            try:
                seen.add(manager.get("m").version)
            except StatusError as error:
                failures.append(error)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for version in range(2, 12):
        push(tmp_path / "m", version)
        until(lambda version=version: manager.get("m").version == version)
        shutil.rmtree(tmp_path / "m" / str(version - 1))
    stop.set()
    for reader in readers:
        reader.join()
    assert failures == []
    assert len(seen) > 5
