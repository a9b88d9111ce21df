"""A catalogue in Japanese from tables to answers: `tfrec init`, `validate`, `run`, and questions to what was
pushed."""

import json
import pathlib

import pytest
import yaml

from benchmarks.planted_languages import planted
from pipeline.cli import main as cli
from tfrec_fusion import Recommender
from tfrec_fusion.serving import Client, InProcessTransport

QUERY = "登山用のテントと寝袋"  # mountains, a tent and a sleeping bag: the second topic


def topic_share(data, answered):
    rows = [int(item[1:]) for item in answered]
    return sum(data.topics[row] == 1 for row in rows) / len(rows)


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["frozen", "full"])
def test_in_memory(stage):
    data = planted("Japanese", items=120, users=60)
    columns = {
        "interactions": {"user": "user", "item": "item", "time": "time"},
        "items": {"id": "item", "title": "title", "text": ["title"]},
    }
    text = {"encoder": "subwords", "dim": 128, "max_length": 16, "stage": stage, "epochs": 1}
    split = {"method": "leave_last_out"}
    model = Recommender(seed=1, epochs=3, verbose=0, data=columns, text=text, ranking="none", split=split)
    model.fit(data.choices, data.items)
    found = model.search(QUERY, k=5)
    assert topic_share(data, found.item_id) >= 0.6


@pytest.mark.e2e
@pytest.mark.slow
def test_from_tables_to_answers(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    data = planted("Japanese", items=120, users=60)
    pathlib.Path("shop").mkdir()
    data.choices.to_csv("shop/orders.csv", index=False)
    data.items.to_csv("shop/products.csv", index=False)
    assert cli.main(["init", "shop"]) == 0
    said = capsys.readouterr().out
    assert "Japanese" in said and "subwords" in said
    written = yaml.safe_load(pathlib.Path("shop.yaml").read_text(encoding="utf-8"))
    assert written["text"]["encoder"] == "subwords"
    assert cli.main(["validate", "shop.yaml"]) == 0
    settings = ["retrieval.training.epochs=3", "ranking=null", "text.dim=256", "serving.queries=[]"]
    options = [option for setting in settings for option in ("--set", setting)]
    assert cli.main(["run", "shop.yaml", *options]) in (0, 2)  # 2: no better than popularity, and not pushed
    summary = json.loads(next(tmp_path.rglob("summary.json")).read_text(encoding="utf-8"))
    with Client(InProcessTransport(f"{summary['retrieval']['model']}/Format-Serving")) as client:
        found = client.recommend(text=QUERY, k=5)
        assert topic_share(data, [one.item_id for one in found]) >= 0.6
        assert client.recommend("somebody", text=" \u200b", k=5) == client.recommend("somebody", k=5)
