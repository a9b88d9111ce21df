"""`tfrec recommend`, `tfrec rank` and the clients against a served model: what it does not know is said."""

import json
import pathlib
import shlex

import httpx
import numpy as np
import pandas as pd
import pyarrow
import pytest

from pipeline.cli import main as cli
from tfrec_fusion.serving.client.client import Client
from tfrec_fusion.serving.client.errors import ServingError
from tfrec_fusion.serving.launcher import question

pytestmark = [pytest.mark.slow, pytest.mark.shared_run("saved")]


@pytest.fixture
def tfrec(server, capsys):
    def run(line):
        command, *words = shlex.split(line)
        code = cli.main([command, *words, "--url", f"http://127.0.0.1:{server.rest_port}"])
        out, err = capsys.readouterr()
        return code, out, err

    return run


def test_an_unknown_user_gets_what_is_popular_and_is_told(tfrec, profiles):
    code, out, err = tfrec("recommend --user nobody -k 3")
    assert (code, len(out.splitlines())) == (0, 3)
    assert "'nobody' is not a known user; what follows is what is popular\n" in err
    _, _, err = tfrec("recommend --user nobody --text robot")
    assert "what follows goes by the text alone" in err
    assert "not a known" not in tfrec(f"recommend --user '{profiles.ids[1]}'")[2]


def test_unknown_ids_are_named(tfrec, data):
    code, out, err = tfrec("recommend --history 99999 -k 2")
    assert (code, len(out.splitlines())) == (0, 2)
    assert "--history: '99999' is in no catalogue; what follows is what is popular" in err
    _, _, err = tfrec(
        f"recommend --history '{data.ids[1]}' --exclude 'notanid,{data.ids[2]}' --exclude '\"a, b\"'"
    )
    assert "--exclude: 'notanid', 'a, b' are in no catalogue; nothing to leave out" in err
    code, out, err = tfrec("recommend --user x --allow nothing")
    assert (code, out) == (1, "")
    assert "--allow: 'nothing' is in no catalogue" in err and "no item is left" in err


def test_an_unknown_category_is_an_error_with_the_near_ones(tfrec):
    code, out, err = tfrec("recommend --text robot --category 'Circle 11'")
    assert (code, out) == (1, "")
    assert "no item has the category 'Circle 11'; near: 'circle 1'" in err
    assert "there are: 'circle 1', 'circle 2'" in tfrec("recommend --text robot --category Nonsense")[2]
    code, out, err = tfrec("recommend --text robot --category 'circle 2' --category 'no such'")
    assert code == 0 and out and "'no such'" in err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("-k 0", "`k` must be an integer at least 1. Received: 0. Leave it out for 10 items."),
        ("-k 100000", "`k` must be from 1 to 1000. Received: 100000."),
        ("--diversity 3", "`diversity` must be a number from 0 to 1. Received: 3.0."),
        ("--probes -1", "`probes` must be an integer at least 1, or 0 for as many as"),
        (
            "--model recommender --candidates 5000",
            "`candidates` must be from 1 to 1000, or 0 for 100 items. Received: 5000.",
        ),
        (
            "--model recommender --rank-weight 2",
            (
                "`rank_weight` must be a number from 0 to 1, 0 for the weight that validated best, or -1 for"
                " not at all"
            ),
        ),
        ("--rank-weight 0.5", "--rank-weight need `--model recommender`"),
        ("--context colour=red", "The signature recommend has no input 'colour'"),
        ("--exclude '\"a\"b'", "Ids must be separated by commas"),
        ("--context colour", "`--context` must be NAME=VALUE. Received: 'colour'."),
    ],
)
def test_what_is_out_of_range_is_an_error(tfrec, flags, message):
    code, out, err = tfrec(f"recommend --text robot {flags}")
    assert (code, out) == (1, "")
    assert message in err


@pytest.mark.parametrize("text", ["\u00a0\u00a0", "\u200b", " \t", "\ufeff\u2003"])
def test_white_space_is_no_question(tfrec, text):
    code, _, err = tfrec(f"recommend --text '{text}'")
    assert code == 1 and "Nothing was asked" in err
    assert "There is nothing to rank" in tfrec(f"rank --user 1 --text '{text}'")[2]


def test_unknown_candidates_are_named(tfrec, data):
    code, out, err = tfrec(f"rank --user nobody --items '99999,{data.ids[1]}' --text 'a robot' --text ' '")
    assert (code, len(out.splitlines())) == (0, 4)
    assert "--items: '99999' is in no catalogue; scored as an unknown item" in err
    assert "'nobody' is not a known user; what follows holds for a user without history" in err
    assert "--text: 1 of white space alone left out" in err


def test_ids_may_be_integers_arrays_and_columns(server, data):
    item = str(data.ids[3])
    for client in (
        Client.connect(f"http://127.0.0.1:{server.rest_port}", "recommender"),
        Client.connect(f"grpc://127.0.0.1:{server.grpc_port}", "recommender"),
    ):
        with client:
            wanted = client.recommend(history=[item], k=4)
            for history in (np.array([item]), pd.Series([item]), pyarrow.array([item]), (item,), {item}):
                assert client.recommend(history=history, k=np.int64(4)) == wanted
            for user in (7, np.int32(7), np.str_("7")):
                answer = client.recommend(user, exclude=np.array([[5]])[0], k=2)
                assert answer.known_user is False and answer.unknown_items == ("5",)
            many = client.recommend(np.array([7, 8]), exclude=[np.array([5]), []], k=2)
            assert [answer.unknown_items for answer in many] == [("5",), ()]
            scores = client.rank(user_id=np.int64(7), item_ids=np.array([item, "1234"], object))
            assert scores.unknown_items == ("1234",) and set(scores) == {"rating", "click", "titles"}
            with pytest.raises(ValueError, match="`user_id` takes strings or integers. Received: 4.5"):
                client.recommend(4.5)
            with pytest.raises(ServingError, match="must be from 1 to 1000"):
                client.recommend("x", k=2000)


@pytest.mark.parametrize("name", ["retrieval", "recommender", "ranking"])
def test_the_printed_curl_line_gives_an_answer(server, name):
    url = f"http://127.0.0.1:{server.rest_port}"
    with Client.connect(url, name) as client:
        line = question(client, url, name)
    _, _, body, address = shlex.split(line)
    answer = httpx.post(address, content=body, timeout=60).json()["outputs"]
    assert answer["titles"][0] and all(answer["titles"][0])
    if name != "ranking":
        assert answer["num_results"] == [3]


def test_batch_leaves_no_padding(saved, data):
    from pipeline.runner.batch import Recommend

    step = Recommend(saved["recommender"], 40)
    step.setup()
    (answer,) = step.process(["user 1"])
    assert 0 < len(answer["items"]) <= len(data.ids) - 1
    assert all(item["item_id"] and np.isfinite(item["score"]) for item in answer["items"])


def test_the_report_asks_with_the_contracts_defaults(saved, data):
    from pipeline.report.asking import Model

    model = Model(saved["recommender"])
    answer = model.ask("recommend", user_id=["user 1", "nobody"], k=3)
    assert answer["num_results"].tolist() == [3, 3] and answer["known_user"].tolist() == [True, False]
    assert pathlib.Path(saved["recommender"]).is_dir()


def test_explain_says_what_a_score_is_made_of(tfrec, data):
    item = str(data.ids[3])
    code, out, _ = tfrec(f"explain --user 'user 3' --item {item!r} --text robot -k 2")
    assert code == 0 and out.startswith(f"{item}  {data.titles[3]}  ")
    assert "\n  sum of: " in out
    code, out, err = tfrec(f"explain --user nobody --items 'nowhere,{item}' --language de")
    assert code == 0 and "nicht empfohlen: in keinem Katalog" in out
    assert "'nobody' is not a known user" in err and "--items: 'nowhere' is in no catalogue" in err
    code, out, _ = tfrec(f"explain --model ranking --user 'user 3' --item {item!r} --label click --json")
    (one,) = json.loads(out)
    assert sum(one["parts"].values()) == pytest.approx(one["score"], abs=1e-5) and one["sentence"]
    code, out, _ = tfrec("explain --user 'user 3' --item-text 'a robot in love' --model recommender")
    assert code == 0 and out.startswith("new  a robot in love  ")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--user 1", "There is nothing to explain. Give --item, or --item-text"),
        ("--item 1 --candidates 5", "`explain` of the retrieval model has no --candidates"),
        ("--item 1 --model ranking -k 5", "`explain` of the ranking model has no -k"),
        ("--item 1 --model ranking --label stars", "`label` must be rating or click. Received: stars"),
        ("--item 1 --count -1", "`count` must be an integer from 0 to 100000"),
    ],
)
def test_what_cannot_be_explained_is_an_error(tfrec, flags, message):
    code, out, err = tfrec(f"explain {flags}")
    assert (code, out) == (1, "")
    assert message in err


def test_similar_items_by_command(tfrec, data):
    code, out, _ = tfrec(f"similar --item '{data.ids[3]}' -k 4 --text-weight 0.5 --exclude '{data.ids[4]}'")
    assert (code, len(out.splitlines())) == (0, 4) and f" {data.ids[4]} " not in out
    code, out, err = tfrec("similar --item nowhere")
    assert (code, out) == (1, "") and "--item: 'nowhere' is in no catalogue; give --text" in err
    assert tfrec("similar --text 'space robot' --category 'circle 1' -k 2")[0] == 0
    code, _, err = tfrec("similar -k 3")
    assert code == 1 and "Like which item? Give --item, or --text" in err
    code, _, err = tfrec(f"similar --item '{data.ids[3]}' --category Circle")
    assert code == 1 and "no item has the category 'Circle'; near: 'circle " in err
