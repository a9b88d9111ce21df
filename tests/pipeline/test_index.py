"""`tfrec index`: items that come, change and go are served by the model that was trained before."""

import json
import pathlib

import numpy as np
import pandas as pd
import pytest

from pipeline.cli.main import main
from pipeline.config.pipeline_config import load_config
from pipeline.definition.index_update import last_pushed
from tfrec_fusion.serving.client.client import Client
from tfrec_fusion.serving.server.embedded import EmbeddedServer

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.shared_run("films")]

GONE, CHANGED, TWIN = "f0", "f20", "f13"


@pytest.fixture(scope="module")
def films(first, config_file):
    """The films as they are now: one left, one has another plot, two are new."""
    table = pd.read_parquet(config_file.parent / "films.parquet")
    table = table[table.film != GONE].copy()
    table.loc[table.film == CHANGED, "plot"] = "A penguin who learns to ride a bicycle"
    new = pd.DataFrame(
        {
            "film": ["new1", "new2"],
            "title": ["Lanterns over the Harbour", table["title"][table.film == TWIN].iloc[0]],
            "plot": [
                "A lighthouse keeper repairs old clocks for sailors",
                table["plot"][table.film == TWIN].iloc[0],
            ],
            "theme": ["Sea", "Love"],  # the sea is no theme that the model was trained with
            "year": [2020.0, table["year"][table.film == TWIN].iloc[0]],
        }
    )
    path = config_file.parent / "now.parquet"
    pd.concat([new, table]).to_parquet(path)
    return path


@pytest.fixture(scope="module")
def rebuilt(films, first, config_file):
    assert main(["index", str(config_file), "--items", str(films)]) == 0
    return json.loads((load_config(str(config_file)).home / "index.json").read_text())


@pytest.fixture(scope="module")
def answers(rebuilt, first):
    """Clients of the version before and of the one after."""
    folder = pathlib.Path(first["serving"])
    bases = {}
    for kind in ("retrieval", "recommender"):
        for name, summary in (("before", first), ("after", rebuilt)):
            base = folder.parent / f"{kind}-{name}"
            base.mkdir()
            (base / "1").symlink_to(summary[kind]["pushed"], target_is_directory=True)
            bases[f"{kind}-{name}"] = str(base)
    with EmbeddedServer(bases) as server:
        server.wait_ready(120)
        yield {name: Client.connect(f"http://127.0.0.1:{server.rest_port}", name) for name in bases}


def scores(client, **asked):
    return {
        item.item_id: item.score
        for item in client.recommend(k=99, include_seen=True, **asked)
        if item.item_id
    }


def test_the_rebuilt_models_are_pushed_as_the_next_versions(rebuilt, first):
    for kind in ("retrieval", "recommender"):
        assert rebuilt[kind]["servable"]["ok"]
        assert int(pathlib.Path(rebuilt[kind]["pushed"]).name) > int(pathlib.Path(first[kind]["pushed"]).name)
        counts = {name: rebuilt[kind]["build"][name] for name in ("offered", "new", "removed")}
        assert counts == {"offered": 37, "new": 2, "removed": 1}
    # The text of `new2` is its twin's, known from training; the second model takes what the first encoded.
    assert sorted(rebuilt[kind]["build"]["texts_encoded"] for kind in ("retrieval", "recommender")) == [0, 2]


def test_an_item_that_was_never_in_the_catalogue_is_found_by_words(answers):
    for kind in ("retrieval", "recommender"):
        asked = {"rank_weight": -1.0} if kind == "recommender" else {}
        result = answers[f"{kind}-after"].recommend(
            text="somebody mends clocks in a lighthouse", k=1, **asked
        )
        assert (result[0].item_id, result[0].title) == ("new1", "Lanterns over the Harbour")
        result = answers[f"{kind}-after"].recommend(text="a penguin on a bicycle", k=1, **asked)
        assert result[0].item_id == CHANGED


def test_it_comes_to_whom_its_vector_suits(answers):
    """What says the same as a film of love stands among the films of love for who likes love, and for nobody
    else."""
    for user, likes in (("u1", True), ("u4", True), ("u0", False), ("u2", False)):
        result = answers["retrieval-after"].recommend(user_id=user, k=13, include_seen=True)
        assert ("new2" in [item.item_id for item in result]) == likes


def test_scores_of_what_did_not_change_stay(answers):
    for user in ("u1", "u2", "u5", "nobody"):
        before, after = (scores(answers[f"retrieval-{name}"], user_id=user) for name in ("before", "after"))
        seen = answers["retrieval-before"].recommend(user_id=user, k=99)
        if user != "nobody" and CHANGED not in {item.item_id for item in seen}:
            continue  # who met the changed film asks for something else now
        same = set(before) & set(after) - {CHANGED}
        assert len(same) == 34
        assert max(abs(before[item] - after[item]) for item in same) < 1e-6


def test_what_is_gone_never_comes(answers):
    for kind in ("retrieval", "recommender"):
        client = answers[f"{kind}-after"]
        for asked in (
            {"user_id": "u0"},
            {"text": "a rocket in space"},
            {"categories": ["Space"]},
            {"allow": [GONE]},
        ):
            assert GONE not in scores(client, **asked)
        assert GONE in scores(answers[f"{kind}-before"], user_id="u0")
    # It still tells what a user likes.
    before, after = (
        answers[f"retrieval-{name}"].recommend(history=[GONE], k=3) for name in ("before", "after")
    )
    assert {item.title.split(" of ")[1] for item in after} == {item.title.split(" of ")[1] for item in before}


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda t: t.drop(columns="plot"), [], "no column 'plot'"),
        (
            lambda t: pd.concat([t, t.iloc[:4]]),
            [],
            "4 of 41 rows of the items table (9.8%) cannot be used: 4 duplicate id",
        ),
        (lambda t: t.assign(title=None, plot=None), [], "must have a text (title, plot). Received: 0.0%"),
        (
            lambda t: pd.concat([t, pd.DataFrame({"film": ["mute"]})]),
            [],
            "Received: neither for 'mute' (1 items). Give them a text",
        ),
        (lambda t: t.iloc[:9], [], "without 29 of 36 (80.6%)"),
        (lambda t: t.iloc[:9], ["--max-removed-share", "1.5"], "from 0 to 1. Received: 1.5"),
        (
            lambda t: t,
            ["--set", "data.items.text=[title]"],
            "trained with (('title', 'plot')). Received: ('title',)",
        ),
        (lambda t: t, ["--set", "name=nobody"], "A retrieval model must have been pushed before"),
    ],
    ids=["columns", "duplicates", "no text", "mute", "truncated", "share", "configuration", "no model"],
)
def test_bad_input_is_told_and_nothing_is_pushed(
    rebuilt,
    films,
    config_file,
    tmp_path,
    capfd,
    change,
    options,
    message,
):
    table = change(pd.read_parquet(films))
    for column in ("title", "plot"):
        if column in table:
            table[column] = table[column].astype("string")
    table.to_parquet(tmp_path / "items.parquet")
    serving = pathlib.Path(rebuilt["serving"])
    versions = sorted(serving.glob("*/*"))
    assert main(["index", str(config_file), "--items", str(tmp_path / "items.parquet"), *options]) == 1
    error = capfd.readouterr().err
    assert message in error
    assert sorted(serving.glob("*/*")) == versions


def test_a_run_of_another_model_is_refused(first, config_file):
    from pipeline.callbacks.index_update import _settings
    from tfrec_fusion.config import ConfigError

    artifacts = last_pushed(load_config(str(config_file)), "retrieval")
    with pytest.raises(ConfigError, match="of the ranking model .* which has no index"):
        _settings(artifacts["RankingTrainer/model_run"], "retrieval")
    with pytest.raises(ConfigError, match="from an earlier release"):
        _settings(str(pathlib.Path(first["serving"])), "retrieval")
    assert np.isfinite(first["seconds"])
