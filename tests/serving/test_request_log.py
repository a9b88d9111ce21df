"""The request log: sampled, without names, rotated, never in the way."""

import errno
import json
import os
import stat
import time

import pytest

from tfrec_fusion.serving.client.grpc_client import GrpcClient
from tfrec_fusion.serving.client.rest_client import RestClient
from tfrec_fusion.serving.server.embedded import EmbeddedServer
from tfrec_fusion.serving.server.request_log import RequestLog, RequestLogConfig


def test_requests_are_logged_without_names(models, tmp_path):
    path = tmp_path / "log" / "requests.jsonl"
    path.parent.mkdir()
    config = RequestLogConfig(str(path), sampling_rate=1.0, key=b"k", drop_fields=("text",))
    with EmbeddedServer({"recommender": models / "recommender"}, grpc_port=0, request_log=config) as server:
        client = RestClient(f"http://127.0.0.1:{server.rest_port}", "recommender")
        client.recommend("ann", text="my secret wish", k=2)
        client.recommend("ann", k=1)
        client.recommend("bob", k=1)
        with GrpcClient(f"127.0.0.1:{server.grpc_port}", "recommender") as grpc_client:
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
