"""Impressions and feedback through the embedded server, by every door; nobody's answer is changed."""

import asyncio
import json

import pytest

from tests.serving.conftest import Caller
from tfrec_fusion.impressions import ImpressionLog, ImpressionLogConfig, collect, read_impressions
from tfrec_fusion.impressions.contract import FeedbackError
from tfrec_fusion.serving import AsyncClient, Client, InProcessTransport, InvalidRequest, RequestError
from tfrec_fusion.serving.server.embedded import EmbeddedServer
from tfrec_fusion.serving.server.flags import parse_flags


def table_of(folder, tmp_path):
    collect(str(folder), str(tmp_path / "table"))
    return read_impressions(str(tmp_path / "table")).to_pylist()


@pytest.fixture
def logging_server(models, tmp_path):
    config = ImpressionLogConfig(str(tmp_path / "log"))
    with EmbeddedServer({"recommender": models / "recommender"}, grpc_port=0, impressions=config) as server:
        yield server


def test_answers_carry_ids_that_feedback_joins(logging_server, tmp_path):
    url = f"http://127.0.0.1:{logging_server.rest_port}"
    with Client.connect(url, "recommender") as client:
        one = client.recommend("ann", k=2, arm="layout=b")
        several = client.recommend(["ann", "bob"], k=1)
        sent = client.feedback(one.request_id, one[1].item_id, "click")
        assert client.feedback(one.request_id, one[1].item_id, "click", event_id=sent.event_id).value == 1.0
        client.feedback(several[1].request_id, several[1][0].item_id, "dwell", value=4.5)
        with pytest.raises(FeedbackError, match="`kind` must be one of"):
            client.feedback(one.request_id, "a", "stare")

    async def ask():
        async with AsyncClient.connect(url, "recommender") as client:
            answer = await client.recommend("bob", k=1)
            await client.feedback(answer.request_id, answer[0].item_id, "like")
            return answer

    later = asyncio.run(ask())
    with Client.connect(f"grpc://127.0.0.1:{logging_server.grpc_port}", "recommender") as client:
        by_grpc = client.recommend("ann", k=1)
        with pytest.raises(RequestError, match="over REST"):
            client.feedback(by_grpc.request_id, "a", "click")
    logging_server.stop()
    rows = table_of(tmp_path / "log", tmp_path)
    assert {row["request_id"] for row in rows} == {one.request_id, *(a.request_id for a in several),
                                                   later.request_id, by_grpc.request_id}  # fmt: skip
    first, second = (row for row in rows if row["request_id"] == one.request_id)
    assert [first["item"], second["item"]] == [item.item_id for item in one]
    assert (first["click"], second["click"], second["position"], second["arm"]) == (0.0, 1.0, 2, "layout=b")
    assert (first["model"], first["version"], first["propensity"]) == ("recommender", 1, 1.0)
    assert first["score"] == pytest.approx(one[0].score)
    assert {row["dwell"] for row in rows if row["request_id"] == several[1].request_id} == {4.5}
    assert len({row["user"] for row in rows}) == 2
    assert "ann" not in json.dumps([row["user"] for row in rows])


def test_the_clients_id_is_kept_and_a_bad_one_is_not(logging_server, tmp_path):
    ask = Caller(logging_server.rest_port)
    body = {"signature_name": "recommend", "inputs": {"user_id": ["ann"], "k": 1}}
    path = "/v1/models/recommender:predict"
    answer = ask(path, body, headers={"X-Request-Id": "page-7", "X-Experiment-Arm": "a b"})
    assert answer.headers["x-request-id"] == "page-7"
    odd = ask(path, body, headers={"X-Request-Id": "no good", "X-Experiment-Arm": "b"})
    assert odd.headers["x-request-id"] not in ("", "no good")
    for event, status in [
        ({"request_id": "page-7", "item": "a", "kind": "click"}, 200),
        ({"events": [{"request_id": "page-7", "item": "a", "kind": "like"}] * 2}, 200),
        ({"events": []}, 400),
        ([1], 400),
        ("{", 400),
        ("[" * 50_000, 400),
        ({"request_id": "page-7", "item": "a", "kind": "stare"}, 400),
        ({"events": [{"request_id": "page-7", "item": "a", "kind": "like"}, 7]}, 400),
    ]:
        reply = ask("/v1/feedback", event)
        assert reply.status == status, (event, reply.body)
        assert ("accepted" if status == 200 else "error") in reply.json
    assert ask("/v1/feedback").status == 405
    logging_server.stop()
    lines = [
        json.loads(line) for file in sorted((tmp_path / "log").glob("feedback-*")) for line in file.open()
    ]
    assert [line["kind"] for line in lines] == ["click", "like", "like"]


def test_a_server_without_a_log_answers_as_tf_serving(call):
    plain = call("/v1/feedback", {"request_id": "r", "item": "a", "kind": "click"})
    assert plain.error == "Malformed request: POST /v1/feedback"
    assert "x-request-id" not in plain.headers
    listed = call("/v1/models/half:predict", {"instances": [1.0]}, headers={"X-Request-Id": "r"})
    assert "x-request-id" not in listed.headers


def test_a_client_without_such_a_server_logs_itself(models, server, tmp_path):
    with ImpressionLog(ImpressionLogConfig(str(tmp_path / "log"))) as log:
        client = Client(InProcessTransport(models / "recommender" / "1"), impressions=log)
        answer = client.recommend("ann", k=2)
        client.feedback(answer.request_id, answer[0].item_id, "purchase", value=19.9)
    rows = table_of(tmp_path / "log", tmp_path)
    assert [(row["item"], row["purchase"]) for row in rows] == [
        (answer[0].item_id, 19.9), (answer[1].item_id, 0.0)]  # fmt: skip
    plain = Client.connect(f"http://127.0.0.1:{server.rest_port}", "recommender")
    with plain, pytest.raises(InvalidRequest, match="Malformed request"):
        plain.feedback("r", "a", "click")
    with pytest.raises(RequestError, match="model in this process"):
        Client(InProcessTransport(models / "recommender" / "1")).feedback("r", "a", "click")


def test_the_servers_flags(tmp_path):
    common = ["--model_base_path=/m"]
    assert parse_flags(common).impressions() is None
    flags = [*common, f"--impressions_folder={tmp_path}/log", "--impressions_max_bytes=5000"]
    assert parse_flags(flags).impressions() == ImpressionLogConfig(f"{tmp_path}/log", "", 5000)
