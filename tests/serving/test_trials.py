"""Experiments and exploration in the embedded server, by REST and gRPC, and in the client."""

import json
import time

import numpy as np
import pytest

from tests.serving.conftest import Caller
from tests.serving.saved_models import write_recommender
from tfrec_fusion.experiments import Arm, Experiment, ExperimentError, Exploration, ips
from tfrec_fusion.impressions import ImpressionLog, ImpressionLogConfig, collect, read_impressions
from tfrec_fusion.serving import (
    Client,
    InProcessTransport,
    InvalidRequest,
    ModelConfig,
    RequestError,
    VersionPolicy,
)
from tfrec_fusion.serving.protocol.status import StatusError
from tfrec_fusion.serving.server.embedded import EmbeddedServer
from tfrec_fusion.serving.server.flags import parse_flags

RANKER = Experiment("ranker", (Arm("old", 0.5, 1), Arm("new", 0.5, 2)))
GREEDY = Experiment("explore", (Arm("off", 0.5, explore=False), Arm("on", 0.5)))
BODY = {"history": [[]], "text": [""], "exclude": [[]]}
PATH = "/v1/models/m:predict"


def users_of(experiment, arm, count=3):
    return [f"u{n}" for n in range(100) if experiment.arm(f"u{n}").name == arm][:count]


def until(done):
    """Versions beside the first that answers are loaded while it does."""
    for _ in range(200):
        if done():
            return
        time.sleep(0.05)
    raise AssertionError


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """Two versions of the same recommender."""
    base = tmp_path_factory.mktemp("versions")
    for version in ("1", "2"):
        write_recommender(base / version)
    return base


@pytest.fixture
def trying(base, tmp_path):
    """A server that routes, explores in one arm of another experiment, and logs."""
    model = ModelConfig("m", str(base), VersionPolicy("all"))
    with EmbeddedServer(
        [model],
        grpc_port=0,
        impressions=ImpressionLogConfig(str(tmp_path / "log")),
        experiments=(RANKER, GREEDY),
        exploration=Exploration(top=3, width=5.0, max_cost=0.5, floor=0.1),
    ) as server:
        until(lambda: all(one.state == "AVAILABLE" for one in server.manager.status("m")))
        yield server


def test_each_user_has_an_arm_and_its_version(trying, tmp_path):
    users = [f"u{n}" for n in range(12)]
    with Client.connect(f"http://127.0.0.1:{trying.rest_port}", "m") as client:
        answers = {user: client.recommend(user, k=2) for user in users}
    with Client.connect(f"grpc://127.0.0.1:{trying.grpc_port}", "m") as client:
        again = {user: client.recommend(user, k=2) for user in users}
    trying.stop()
    collect(str(tmp_path / "log"), str(tmp_path / "table"))
    rows = read_impressions(str(tmp_path / "table")).to_pylist()
    for user in users:
        own, greedy = RANKER.arm(user), GREEDY.arm(user)
        for answer in (answers[user], again[user]):
            logged = [row for row in rows if row["request_id"] == answer.request_id]
            assert {row["version"] for row in logged} == {own.version}
            assert {row["arm"] for row in logged} == {f"ranker={own.name};explore={greedy.name}"}
            assert [row["item"] for row in logged] == [item.item_id for item in answer]
            if greedy.name == "off":
                assert answer.propensities == () and [item.item_id for item in answer] == ["a", "b"]
            else:
                assert [row["propensity"] for row in logged] == pytest.approx(answer.propensities)
                assert 0 < answer.propensities[0] < 1
            titles = {"a": "Alien", "b": "Brazil", "c": "Cube"}
            assert all(
                (titles[one.item_id], ord("d") - ord(one.item_id)) == (one.title, one.score) for one in answer
            )


def test_headers_say_which_arm_and_may_choose_it(trying):
    ask = Caller(trying.rest_port)
    (old,) = users_of(RANKER, "old", 1)
    body = {"signature_name": "recommend", "inputs": {"user_id": [old], "k": 1, **BODY}}
    assert ask(PATH, body).headers["x-experiment-arm"].startswith("ranker=old;explore=")
    sent = ask(PATH, body, headers={"X-Experiment-Arm": "ranker=new;colour=blue"}).headers["x-experiment-arm"]
    assert sent.startswith("ranker=new;explore=") and sent.endswith(";colour=blue")
    wrong = ask(PATH, body, headers={"X-Experiment-Arm": "ranker=best"})
    assert wrong.status == 400 and "The arms of ranker are old, new. Received: best." in wrong.error
    pinned = ask("/v1/models/m/versions/1:predict", body)
    assert pinned.status == 200 and "x-experiment-arm" not in pinned.headers
    nobody = ask(PATH, {**body, "inputs": {**body["inputs"], "user_id": [""]}})
    assert nobody.status == 200 and "x-experiment-arm" not in nobody.headers
    other = ask(PATH, {"signature_name": "embed_text", "inputs": {"text": ["word"]}})
    assert other.status == 200 and other.json["outputs"] == [[4.0, 1.0]]


def test_users_of_different_arms_are_asked_for_one_by_one(trying):
    mixed = [users_of(RANKER, arm, 1)[0] for arm in ("old", "new")]
    for address in (f"http://127.0.0.1:{trying.rest_port}", f"grpc://127.0.0.1:{trying.grpc_port}"):
        with (
            Client.connect(address, "m") as client,
            pytest.raises(InvalidRequest, match="must have the same arm"),
        ):
            client.recommend(mixed, k=1)


def test_what_is_explored_is_what_is_logged(base):
    """IPS on the server's own propensities tells how often each item comes first, by another's draws."""
    with (
        EmbeddedServer(
            {"m": base}, exploration=Exploration(top=3, width=3.0, max_cost=1.0, floor=0.05)
        ) as server,
        Client.connect(f"http://127.0.0.1:{server.rest_port}", "m") as client,
    ):
        ones = [client.recommend("ann", k=1) for _ in range(400)]
        first = np.array([one[0].item_id for one in ones])
        chances = np.array([one.propensities[0] for one in ones])
        assert len(client.recommend(["ann"] * 17, k=3)[0].propensities) == 0  # a batch
        assert [one.item_id for one in client.recommend("ann", k=3, exclude=["a"])] in (
            ["b", "c"],
            ["c", "b"],
        )
    assert set(first) == {"a", "b", "c"}
    for item in "abc":
        shown = (first == item).astype(float)
        estimate = ips(shown, chances, shown)  # a policy that always shows it: reward 1 whenever it is shown
        assert abs(estimate.value - 1) < 4 * (estimate.high - estimate.low) / 3.92


def test_a_catalogue_smaller_than_what_is_explored(base):
    """The model refuses more than its three items: 16, 8 and 4 are tried once, then 2."""
    exploration = Exploration(top=16, width=5.0, max_cost=1.0, floor=0.05)
    with (
        EmbeddedServer({"m": base}, exploration=exploration) as server,
        Client.connect(f"http://127.0.0.1:{server.rest_port}", "m") as client,
    ):
        assert len(client.recommend("ann", k=3).propensities) == 3
        assert {client.recommend("ann", k=1)[0].item_id for _ in range(40)} == {"a", "b"}
        with pytest.raises(InvalidRequest, match="must have at least k columns"):
            client.recommend("ann", k=4)


def test_a_version_that_is_not_there_leaves_its_users_to_the_others(base, caplog):
    gone = Experiment("ranker", (Arm("old", 0.5, 1), Arm("new", 0.5, 7)))
    with EmbeddedServer([ModelConfig("m", str(base), VersionPolicy("all"))], experiments=(gone,)) as server:
        ask = Caller(server.rest_port)
        for user in users_of(gone, "new", 2):
            answer = ask(PATH, {"signature_name": "recommend", "inputs": {"user_id": [user], "k": 1, **BODY}})
            assert answer.status == 200 and "x-experiment-arm" not in answer.headers
    assert caplog.text.count("Users of arm new of ranker are answered without it") == 1


def test_what_cannot_be_tried_is_told(base, tmp_path):
    twice = (RANKER, Experiment("pictures", (Arm("a", 0.5, 1), Arm("b", 0.5, 2))))
    with pytest.raises(StatusError, match="At most one experiment may say which version"):
        EmbeddedServer({"m": base}, experiments=twice)
    with pytest.raises(StatusError, match="different names"):
        EmbeddedServer({"m": base}, experiments=(GREEDY, GREEDY))
    many = [Experiment(f"{'x' * 60}{n}", (Arm("a", 0.5), Arm("b", 0.5))) for n in range(4)]
    with pytest.raises(StatusError, match="at most 200 characters together. Received: 255"):
        EmbeddedServer({"m": base}, experiments=many)
    paths = {name: tmp_path / f"{name}.json" for name in ("experiments", "exploration")}
    paths["experiments"].write_text(
        json.dumps({"r": {"arms": {"a": 0.5, "b": {"share": 0.5, "explore": False}}}})
    )
    paths["exploration"].write_text('{"max_cost": 0.01}')
    flags = parse_flags([f"--{name}_file={path}" for name, path in paths.items()] + ["--model_base_path=/m"])
    assert flags.experiments()[0].arms[1].explore is False and flags.exploration().max_cost == 0.01
    paths["exploration"].write_text('{"cost": 1}')
    with pytest.raises(StatusError, match="Exploration has the keys"):
        flags.exploration()
    paths["experiments"].write_text("{")
    with pytest.raises(StatusError, match="cannot be read"):
        flags.experiments()
    with pytest.raises(ExperimentError, match="`explore` must be true or false"):
        Arm("a", 0.5, explore=1)


def test_clients_assign_arms_where_no_server_does(models, tmp_path):
    transport = InProcessTransport(models / "recommender" / "1")
    log = ImpressionLog(ImpressionLogConfig(str(tmp_path / "log")))
    with Client(transport, impressions=log, experiments=[RANKER, GREEDY]) as client:
        client.recommend("u1", k=1)
        client.recommend(["u1", b"u1"], k=1)
        client.recommend("u1", k=1, arm="mine=a")
        client.recommend(history=["a"], k=1)
        with pytest.raises(RequestError, match="must have the same arm"):
            client.recommend([f"u{n}" for n in range(9)], k=1)
    log.close()
    collect(str(tmp_path / "log"), str(tmp_path / "table"))
    arms = [row["arm"] for row in read_impressions(str(tmp_path / "table")).to_pylist()]
    own = f"ranker={RANKER.arm('u1').name};explore={GREEDY.arm('u1').name}"
    assert sorted(arms) == sorted([own, own, own, "mine=a", ""])
