"""Two versions interleaved by the embedded server: what is answered, logged, collected and read out."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.cli.main import main
from tests.serving.conftest import Caller
from tests.serving.saved_models import write_recommender
from tests.serving.test_trials import BODY, PATH, until
from tfrec_fusion.experiments import Arm, Experiment, Exploration, team_draft
from tfrec_fusion.experiments.interleaving import coins
from tfrec_fusion.export.request import DIAGNOSES
from tfrec_fusion.impressions import ImpressionLog, ImpressionLogConfig, collect, read_impressions
from tfrec_fusion.serving import Client, InvalidRequest, ModelConfig, VersionPolicy
from tfrec_fusion.serving.server.embedded import EmbeddedServer
from tfrec_fusion.serving.server.interleaved import _OF_REQUEST, Interleaver

BOTH = Experiment("ranker", (Arm("old", 0.5, 1), Arm("new", 0.5, 2)), traffic=0.8, interleave=True)
COLOUR = Experiment("colour", (Arm("red", 0.5), Arm("blue", 0.5)))
TITLES = {"a": "Alien", "b": "Brazil", "c": "Cube"}
SCORES = {"ranker=old": {"a": 3.0, "b": 2.0, "c": 1.0}, "ranker=new": {"c": 30.0, "b": 20.0, "a": 10.0}}


def outputs(rows, scale):
    """As a signature answers: ids with padding, scores, a number for each, and what is no list."""
    width = max((len(row) for row in rows), default=0)
    ids = np.full((len(rows), width), b"", object)
    scores = np.zeros((len(rows), width), np.float32)
    for row, items in enumerate(rows):
        ids[row, : len(items)] = [item.encode() for item in items]
        scores[row, : len(items)] = scale * (1 + np.arange(len(items)))
    count = np.array([len(row) for row in rows], np.int32)
    return {"item_ids": ids, "scores": scores, "num_results": count, "known_user": count > 0}


lists = st.lists(st.sampled_from("abcdefgh"), unique=True, max_size=6)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(lists, lists), min_size=1, max_size=3), st.text("xyz09", min_size=1, max_size=5))
def test_it_is_the_draft_of_both_lists(pairs, request_id):
    first, second = (outputs([pair[side] for pair in pairs], scale) for side, scale in ((0, 1.0), (1, -1.0)))
    merged = Interleaver(BOTH, None, 16).merged(first, second, request_id)
    for row, pair in enumerate(pairs):
        own = request_id if len(pairs) == 1 else f"{request_id}.{row}"
        width = max(first["item_ids"].shape[1], second["item_ids"].shape[1])
        one = team_draft(*pair, max(1, width), coins("ranker", own))
        items = [item.decode() for item in merged["item_ids"][row] if item]
        assert items == list(one.items) and merged["num_results"][row] == len(items)
        assert set(items) <= set(pair[0]) | set(pair[1]) and len(set(items)) == len(items)
        for place, item in enumerate(items):
            team = (b"ranker=old", b"ranker=new").index(merged["arms"][row, place])
            answer = (first, second)[team]
            assert merged["scores"][row, place] == (1, -1)[team] * (1 + pair[team].index(item))
            assert answer["item_ids"][row, pair[team].index(item)].decode() == item
        assert not merged["scores"][row, len(items) :].any() and not any(merged["arms"][row, len(items) :])
    np.testing.assert_array_equal(merged["known_user"], first["known_user"])


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """Two versions that score three films the other way round."""
    base = tmp_path_factory.mktemp("versions")
    write_recommender(base / "1")
    write_recommender(base / "2", (10.0, 20.0, 30.0))
    return base


@pytest.fixture
def serving(base, tmp_path):
    with EmbeddedServer(
        [ModelConfig("m", str(base), VersionPolicy("all"))],
        grpc_port=0,
        impressions=ImpressionLogConfig(str(tmp_path / "log")),
        experiments=(BOTH, COLOUR),
        exploration=Exploration(top=3, width=5.0, max_cost=0.5, floor=0.1),
    ) as server:
        until(lambda: all(one.state == "AVAILABLE" for one in server.manager.status("m")))
        yield server


def test_what_is_shown_is_logged_and_read_out(serving, tmp_path, capsys):
    """Users click what the new version says first."""
    users = [f"u{n}" for n in range(40)]
    part = {user for user in users if BOTH.takes_part(user)}
    assert 0 < len(part) < len(users)
    answers = {}
    for address in (f"http://127.0.0.1:{serving.rest_port}", f"grpc://127.0.0.1:{serving.grpc_port}"):
        with Client.connect(address, "m") as client:
            for user in users:
                answer = client.recommend(user, k=2)
                answers[answer.request_id] = (user, answer)
                assert len(answer) == 2 and all(one.title == TITLES[one.item_id] for one in answer)
                if user not in part:
                    assert answer.arms == () and answer.propensities  # explored, as if nothing else ran
                    continue
                assert set(answer.arms) == set(SCORES) and answer.propensities == ()
                for one, arm in zip(answer, answer.arms, strict=True):
                    assert one.score == SCORES[arm][one.item_id]
    with Client.connect(f"http://127.0.0.1:{serving.rest_port}", "m") as client:
        for request_id, (_, answer) in answers.items():
            for one, arm in zip(answer, answer.arms, strict=False):
                if arm == "ranker=new":
                    client.feedback(request_id, one.item_id, "click")
    serving.stop()
    collect(str(tmp_path / "log"), str(tmp_path / "table"))
    rows = read_impressions(str(tmp_path / "table")).to_pylist()
    assert len(rows) == 2 * len(answers)
    for request_id, (user, answer) in answers.items():
        own = [row for row in rows if row["request_id"] == request_id]
        assert [row["item"] for row in own] == [one.item_id for one in answer]
        colour = f"colour={COLOUR.arm(user).name}"
        if user in part:
            assert [row["arm"] for row in own] == [f"{colour};{arm}" for arm in answer.arms]
            assert all(row["version"] == 0 and row["propensity"] is None for row in own)
        else:
            assert all(row["arm"] == colour and row["version"] == 2 for row in own)
    arms = {arm.name: {"share": 0.5, "version": arm.version} for arm in BOTH.arms}
    file = tmp_path / "experiments.json"
    file.write_text(json.dumps({"ranker": {"arms": arms, "interleave": True}}))
    given = ["experiment", "prefer", str(tmp_path / "table"), "--experiments", str(file)]
    assert main(given) == 0
    said = capsys.readouterr().out
    assert f"{len(part)} users clicked; {4 * (len(users) - len(part))} rows are of no list of both" in said
    assert "preference +1.000, from -1 (the arm old alone) to 1 (the arm new alone)" in said
    assert "The arm new is preferred." in said
    assert main(["experiment", "read", *given[2:]]) == 1
    assert "Read it with `tfrec experiment prefer`" in capsys.readouterr().err


def test_the_servers_names_are_the_contracts():
    """The serving image lacks what the contract is described by."""
    assert set(_OF_REQUEST) == {name for name in DIAGNOSES if name.startswith("unknown_")}


def test_who_is_answered_by_one_version(serving):
    ask = Caller(serving.rest_port)
    inside, outside = (
        [f"u{n}" for n in range(40) if BOTH.takes_part(f"u{n}") == part] for part in (True, False)
    )

    def sent(users, path=PATH, **headers):
        inputs = {"user_id": users, "k": 3, **{name: value * len(users) for name, value in BODY.items()}}
        return ask(path, {"signature_name": "recommend", "inputs": inputs}, headers=headers)

    one = sent(inside[:1])
    (arms,) = one.json["outputs"]["arms"]
    assert set(arms) == set(SCORES)
    assert (
        one.headers["x-experiment-arm"].startswith("colour=")
        and "ranker" not in one.headers["x-experiment-arm"]
    )
    chosen = sent(inside[:1], **{"X-Experiment-Arm": "ranker=old"})
    assert "arms" not in chosen.json["outputs"] and chosen.headers["x-experiment-arm"].startswith(
        "ranker=old"
    )
    assert "arms" not in sent(inside[:1], "/v1/models/m/versions/1:predict").json["outputs"]
    assert "arms" not in sent([""]).json["outputs"]
    alike = [user for user in inside if COLOUR.arm(user).name == "red"]
    assert len(sent(alike[:3]).json["outputs"]["arms"]) == 3
    other = next(user for user in outside if COLOUR.arm(user).name == "red")
    assert "must all take part in it, or none" in sent([alike[0], other]).error
    with (
        Client.connect(f"grpc://127.0.0.1:{serving.grpc_port}", "m") as client,
        pytest.raises(InvalidRequest, match="must all take part in it, or none"),
    ):
        client.recommend([alike[0], other], k=1)


def test_a_version_that_is_not_there(base, caplog):
    """Its users are answered by the other, and told of once."""
    missing = Experiment("ranker", (Arm("old", 0.5, 1), Arm("new", 0.5, 7)), interleave=True)
    with (
        EmbeddedServer({"m": base}, experiments=(missing,)) as server,
        Client.connect(f"http://127.0.0.1:{server.rest_port}", "m") as client,
    ):
        for _ in range(2):
            assert client.recommend("u1", k=1).arms == ()
    assert len([one for one in caplog.records if "are answered without it" in one.message]) == 1


def test_a_client_logs_who_put_what_there(base, tmp_path):
    """Where the server keeps no log."""
    everyone = Experiment("ranker", BOTH.arms, interleave=True)
    config = ImpressionLogConfig(str(tmp_path / "log"))
    model = ModelConfig("m", str(base), VersionPolicy("all"))
    with EmbeddedServer([model], experiments=(everyone,)) as server, ImpressionLog(config) as log:
        until(lambda: all(one.state == "AVAILABLE" for one in server.manager.status("m")))
        address = f"http://127.0.0.1:{server.rest_port}"
        with Client.connect(address, "m", impressions=log, experiments=(COLOUR, everyone)) as client:
            answer = client.recommend("u1", k=3)
    collect(config.folder, str(tmp_path / "table"))
    rows = read_impressions(str(tmp_path / "table")).to_pylist()
    colour = COLOUR.arm("u1").name
    assert [row["arm"] for row in rows] == [f"colour={colour};{arm}" for arm in answer.arms] and len(
        rows
    ) == 3
