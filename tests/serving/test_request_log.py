"""The request log: sampled, without names, rotated, never in the way."""

import errno
import json
import os
import stat
import time

import pytest

from tfrec_fusion.serving.client.client import Client
from tfrec_fusion.serving.server.embedded import EmbeddedServer
from tfrec_fusion.serving.server.request_log import RequestLog, RequestLogConfig


def test_requests_are_logged_without_names(models, tmp_path):
    path = tmp_path / "log" / "requests.jsonl"
    path.parent.mkdir()
    config = RequestLogConfig(str(path), sampling_rate=1.0, key=b"k", drop_fields=("text",))
    with EmbeddedServer({"recommender": models / "recommender"}, grpc_port=0, request_log=config) as server:
        client = Client.connect(f"http://127.0.0.1:{server.rest_port}", "recommender")
        client.recommend("ann", text="my secret wish", k=2)
        client.recommend("ann", k=1)
        client.recommend("bob", k=1)
        with Client.connect(f"grpc://127.0.0.1:{server.grpc_port}", "recommender") as grpc_client:
            grpc_client.recommend("bob", k=1)
    first, second, third, fourth = map(json.loads, path.read_text().splitlines())
    assert {**fourth, "time": 0} == {**third, "time": 0}  # gRPC's requests as REST's
    assert "ann" not in path.read_text()
    assert "secret wish" not in path.read_text()
    assert first["inputs"]["user_id"] == second["inputs"]["user_id"] != third["inputs"]["user_id"]
    assert first["outputs"]["item_ids"] == [["a", "b"]]
    assert (first["model"], first["version"], first["signature"]) == ("recommender", 1, "recommend")
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600


def test_logs_are_sampled_rotated_and_never_in_the_way(tmp_path):
    import numpy as np

    path = tmp_path / "log"
    log = RequestLog(RequestLogConfig(str(path), sampling_rate=0.25, max_bytes=2000, max_files=2))
    assert 300 < sum(log.wants() for _ in range(2000)) < 700
    for number in range(60):
        log.write("m", 1, "s", {"user_id": np.array([b"u"], object)}, {"y": np.full(3, number)})
    log.close()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["log", "log.1", "log.2"]
    assert all(file.stat().st_size <= 2000 for file in tmp_path.iterdir())
    assert json.loads(path.read_text().splitlines()[-1])["outputs"]["y"] == [59, 59, 59]
    log = RequestLog(RequestLogConfig(str(tmp_path / "no" / "such" / "folder"), sampling_rate=1.0))
    log.write("m", 1, "s", {}, {})
    log.close()
    assert log.dropped == 1
    with pytest.raises(ValueError, match="between 0 and 1"):
        RequestLogConfig("x", sampling_rate=2)


def test_a_full_disk_leaves_no_half_of_a_line(tmp_path, monkeypatch):
    path = tmp_path / "log"
    log = RequestLog(RequestLogConfig(str(path), sampling_rate=1.0))
    write, room = os.write, [20]

    def limited(file, data):
        if not room[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = write(file, data[: room[0]])
        room[0] -= written
        return written

    monkeypatch.setattr(os, "write", limited)
    log.write("m", 1, "first", {}, {})
    deadline = time.monotonic() + 10
    while not log.dropped:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    room[0] = 10**6
    log.write("m", 1, "second", {}, {})
    log.close()
    assert log.dropped == 1
    assert [json.loads(line)["signature"] for line in path.read_text().splitlines()] == ["second"]


def test_nothing_that_a_line_holds_ends_the_log(tmp_path):
    class Odd:
        def tolist(self):
            raise RecursionError

    log = RequestLog(RequestLogConfig(str(tmp_path / "log"), sampling_rate=1.0))
    log.write("m", 1, "odd", {"x": Odd()}, {})
    log.write("m", 1, "even", {}, {})
    log.close()
    assert log.dropped == 1
    assert json.loads((tmp_path / "log").read_text())["signature"] == "even"


def example(**features):
    import tensorflow as tf

    made = tf.train.Example()
    for name, value in features.items():
        feature = made.features.feature[name]
        if isinstance(value, int):
            feature.int64_list.value.append(value)
        else:
            feature.bytes_list.value.append(value)
    return made.SerializeToString()


def written(tmp_path, **config):
    """What a log holds after one request whose input `examples` and output `x` are given."""
    import numpy as np

    values = config.pop("values")
    path = tmp_path / "requests.jsonl"
    log = RequestLog(RequestLogConfig(str(path), 1.0, **config))
    log.write("m", 1, "s", {"examples": np.array(values, object)}, {"x": np.array(values, object)})
    log.close()
    return path.read_text(), log


def test_ids_inside_examples_get_pseudonyms(tmp_path):
    text, log = written(
        tmp_path,
        values=[example(user_id=b"ann@example.org", item=b"i7", text=b"my secret"), example(user_id=42)],
        drop_fields=("text",),
        key=b"k",
    )
    assert "ann" not in text
    assert "secret" not in text
    line = json.loads(text)
    features = line["inputs"]["examples"][0]["example"]
    assert features == {"user_id": [log.pseudonym(b"ann@example.org")], "item": ["i7"]}
    assert line["inputs"]["examples"][1] == {"example": {"user_id": [log.pseudonym(b"42")]}}
    assert line["outputs"]["x"] == line["inputs"]["examples"]


def test_binary_values_that_cannot_be_opened_are_left_out(tmp_path):
    import tensorflow as tf

    steps = tf.train.SequenceExample()
    steps.context.feature["item"].bytes_list.value.append(b"i")
    steps.feature_lists.feature_list["user_id"].feature.add().bytes_list.value.append(b"ann")
    text, _ = written(
        tmp_path, values=[steps.SerializeToString(), b"\xffann", b"\x0a\x05ann", b"plain\ntext"], key=b"k"
    )
    assert "ann" not in text
    assert json.loads(text)["inputs"]["examples"][1:] == [
        {"binary_bytes": 4},
        {"binary_bytes": 5},
        "plain\ntext",
    ] or ("plain\\ntext" in text)


def test_the_key_outlives_the_process_and_is_its_owners_alone(tmp_path):
    key = tmp_path / "key"
    first = RequestLog(RequestLogConfig(str(tmp_path / "a"), key_file=str(key)))
    second = RequestLog(RequestLogConfig(str(tmp_path / "b"), key_file=str(key)))
    assert first.pseudonym(b"ann") == second.pseudonym(b"ann")
    assert stat.S_IMODE(os.stat(key).st_mode) == 0o600
    key.chmod(0o640)
    with pytest.raises(ValueError, match="mode 0640. Use `chmod 600`"):
        RequestLog(RequestLogConfig(str(tmp_path / "c"), key_file=str(key)))
    key.chmod(0o600)
    (tmp_path / "link").symlink_to(key)
    with pytest.raises(ValueError, match="cannot be read"):
        RequestLog(RequestLogConfig(str(tmp_path / "c"), key_file=str(tmp_path / "link")))
    key.write_bytes(b"short")
    with pytest.raises(ValueError, match="at least 16 bytes"):
        RequestLog(RequestLogConfig(str(tmp_path / "c"), key_file=str(key)))
    for log in (first, second):
        log.close()


@pytest.mark.parametrize("kind", ["symbolic link", "hard link", "pipe"])
def test_no_line_goes_where_somebody_else_points(tmp_path, kind):
    target, path = tmp_path / "precious", tmp_path / "requests.jsonl"
    target.write_text("precious")
    if kind == "symbolic link":
        path.symlink_to(target)
    elif kind == "hard link":
        os.link(target, path)
    else:
        os.mkfifo(path)
    import numpy as np

    log = RequestLog(RequestLogConfig(str(path), 1.0, key=b"k"))
    log.write("m", 1, "s", {"x": np.zeros(1)}, {})
    log.close()
    assert target.read_text() == "precious"
    assert log.dropped == 1


def test_a_log_that_others_could_read_is_closed_to_them(tmp_path):
    path = tmp_path / "requests.jsonl"
    path.write_text("")
    path.chmod(0o644)
    written(tmp_path, values=[b"a"], key=b"k")
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600


def test_large_requests_do_not_wait_in_memory(tmp_path):
    import numpy as np

    log = RequestLog(RequestLogConfig(str(tmp_path / "log"), 1.0, key=b"k", max_bytes=1_000_000))
    log.write("m", 1, "s", {"x": np.full(1, b"x" * 2_000_000, object)}, {})
    assert log.dropped == 1
    log._waiting_bytes = 64 * 1024 * 1024
    log.write("m", 1, "s", {"x": np.zeros(1)}, {})
    assert log.dropped == 2
    log.close()


def test_the_flags_name_a_key_beside_the_log():
    from tfrec_fusion.serving.server.flags import parse_flags

    flags = ["--model_base_path=/m", "--request_log_file=/l", "--request_log_user_fields=user,visitor"]
    config = parse_flags([*flags, "--request_log_drop_fields=text"]).request_log()
    assert (config.key_file, config.user_fields, config.drop_fields) == (
        "/l.key",
        ("user", "visitor"),
        ("text",),
    )
    assert parse_flags([*flags, "--request_log_key_file=/k"]).request_log().key_file == "/k"
