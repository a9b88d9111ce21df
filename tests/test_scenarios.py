"""Each scenario's tables and configuration, from files to a served answer, asked in this process."""

import numpy as np
import pandas as pd
import pytest

from pipeline.config.pipeline_config import CONFIGS, load_config
from pipeline.config.yaml_reading import read_yaml
from pipeline.onboarding.scenarios import write_scenario
from tfrec_fusion import Recommender
from tfrec_fusion.config import ConfigError
from tfrec_fusion.datasets.scenarios import SCENARIOS, write
from tfrec_fusion.serving.client.client import Client
from tfrec_fusion.serving.client.in_process import InProcessTransport

SMALL = {"tower": {"dim": 16, "history_encoder": "mean"}, "training": {"refit": False}}
FOLDER = CONFIGS / "scenarios"
pytestmark = pytest.mark.filterwarnings("ignore")


def settings_of(name):
    """The keys of a configuration that a `Recommender` takes, and the file of each table."""
    raw = read_yaml((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    data, paths = dict(raw["data"]), {}
    for table in ("interactions", "items", "users"):
        if table in data:
            keys = dict(data[table])
            paths[table] = keys.pop("path")
            data[table] = keys
    if "graph" in data:
        (kind,) = set(data["graph"]) & {"items", "users"}
        (edges,) = data["graph"][kind]
        paths[f"{kind[:-1]}_edges"] = edges["path"]
        named = {key: value for key, value in edges.items() if key != "path"}
        data["graph"] = {**data["graph"], kind: [{**named, "path": edges["path"]}]}
    data.pop("reader", None)
    settings = {key: value for key, value in raw.items() if key not in ("name", "data")}
    settings["retrieval"] = {**SMALL, **settings.get("retrieval", {})}
    if name != "shop":  # the others ask the retrieval model alone
        settings["ranking"] = "none"
    return {**settings, "data": data}, paths


def fitted(name, folder):
    """A recommender of a scenario, and its tables' files."""
    files = write(name, folder)
    settings, paths = settings_of(name)
    given = {table: folder / path for table, path in paths.items()}
    model = Recommender(seed=1, epochs=1, verbose=0, **settings)
    if name == "friends":
        return model.fit_friends(given["user_edges"], given["items"]), files
    return model.fit(**given), files


@pytest.fixture
def served(request, tmp_path):
    """The recommender, a client of what it exports, and the tables."""
    model, files = fitted(request.param, tmp_path / "tables")
    model.export(tmp_path / "model" / "1", "ranking" if request.param == "shop" else "retrieval")
    client = Client(InProcessTransport(tmp_path / "model" / "1"))
    return model, client, {name: pd.read_csv(file) for name, file in files.items()}


def test_there_is_a_configuration_for_each():
    assert {file.stem for file in FOLDER.glob("*.yaml")} == set(SCENARIOS)


def test_a_scenario_that_there_is_not_and_a_folder_that_is_in_use(tmp_path):
    with pytest.raises(ConfigError, match=r"no scenario 'opera'\. Name one of: shop, news"):
        write_scenario("opera", str(tmp_path))
    write_scenario("music", str(tmp_path))
    with pytest.raises(ConfigError, match=r"without music.yaml, which may hold changes.*Name another one"):
        write_scenario("music", str(tmp_path))


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_configuration_is_read_by_the_pipeline(name, tmp_path):
    write_scenario(name, str(tmp_path))
    config = load_config(str(tmp_path / f"{name}.yaml"), [f"root={tmp_path}/runs"])
    assert config.name == name
    tables = [getattr(config.data, kind) for kind in ("interactions", "items", "users")]
    paths = [table.path for table in tables if table]
    paths += [edges.path for kind in ("items", "users") for edges in getattr(config.data.graph, kind, ())]
    assert set(paths) == {str(file) for file in tmp_path.glob("*.csv")}


def test_tables_are_the_same_for_a_seed(tmp_path):
    for name in SCENARIOS:
        one, other, different = (write(name, tmp_path / str(n), seed) for n, seed in enumerate((0, 0, 1)))
        for table in one:
            assert one[table].read_bytes() == other[table].read_bytes()
        assert any(one[table].read_bytes() != different[table].read_bytes() for table in one)


@pytest.mark.slow
@pytest.mark.parametrize("served", ["shop"], indirect=True)
def test_a_shop_orders_by_what_a_click_is_worth(served):
    model, client, tables = served
    products = tables["products"].set_index("sku")
    shown = products.index[:20].tolist()
    clicks = model.rank("u1", shown, label="click").set_index("item_id")["score"]
    assert clicks.between(0, 1).all()
    worth = (clicks * products.loc[clicks.index, "bid"]).sort_values(ascending=False)
    assert worth.index.tolist() != clicks.sort_values(ascending=False).index.tolist()
    served_clicks = client.rank(user_id="u1", item_ids=worth.index.tolist())["click"]
    np.testing.assert_allclose(served_clicks, clicks[worth.index], atol=1e-4)
    assert {"click", "purchase"} <= set(client.rank(user_id="u1", item_ids=shown))
    assert len(model.recommend("u1", k=5)) == 5


@pytest.mark.slow
@pytest.mark.parametrize("served", ["news", "jobs", "courses", "friends"], indirect=True)
def test_an_answer_is_served(served):
    model, client, tables = served
    catalogue = next(tables[name] for name in ("articles", "jobs", "courses", "members") if name in tables)
    user = {"articles": "v1", "jobs": "p1", "courses": "p1", "members": "m1"}
    ids = catalogue.iloc[:, 0]
    asked = next(user[name] for name in user if name in tables)
    answer = client.recommend(asked, k=5)
    assert len(answer) == 5 and {one.item_id for one in answer} <= set(ids)
    assert asked not in {one.item_id for one in answer}
    # Words find what they mean, in this case items of their topic.
    topic = catalogue.iloc[1, 2].split()[0]
    found = client.recommend(text=topic, k=5)
    assert sum(topic in catalogue.set_index(ids).loc[one.item_id].iloc[2] for one in found) >= 3
    assert model.evaluate(k=[10])["users"] > 10


@pytest.mark.slow
@pytest.mark.parametrize("served", ["music"], indirect=True)
def test_a_known_song_comes_again_and_a_request_may_say_no(served):
    _, client, tables = served
    played = set(tables["plays"].query("listener == 'l1'")["song"])
    assert {one.item_id for one in client.recommend("l1", k=5)} & played
    assert not {one.item_id for one in client.recommend("l1", k=5, include_seen=False)} & played


@pytest.mark.slow
@pytest.mark.parametrize("served", ["travel"], indirect=True)
def test_a_request_says_the_season(served):
    _, client, tables = served
    scores = [
        {one.item_id: one.score for one in client.recommend("g1", k=90, season=season)}
        for season in ("winter", "summer")
    ]
    assert scores[0].keys() == scores[1].keys() and scores[0] != scores[1]
    low = client.recommend("g1", k=9, season="summer", categories=["low"])
    bands = tables["hotels"].set_index("hotel")["price_band"]
    assert {bands[one.item_id] for one in low} == {"low"}
