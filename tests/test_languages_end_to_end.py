"""A catalogue in Japanese from tables to answers: `tfrec init`, `validate`, `run` with texts that a language
model writes, `index`, and questions to what was pushed."""

import json
import pathlib

import pandas as pd
import pytest
import yaml

from benchmarks.planted_languages import planted
from pipeline.cli import main as cli
from pipeline.config.pipeline_config import load_config
from tests.enrichment.fake_endpoint import serving
from tfrec_fusion import Recommender
from tfrec_fusion.serving.client.client import Client
from tfrec_fusion.serving.server.embedded import EmbeddedServer

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
    """Every second title is a number, of which a language model writes what it is: of these the served model
    knows what was generated, and no more. So it does of an item that comes after training."""
    monkeypatch.chdir(tmp_path)
    data = planted("Japanese", items=120, users=60)
    numbered = {f"品番 {row}": title for row, title in enumerate(data.items.title) if row % 2}
    titles = [f"品番 {row}" if row % 2 else title for row, title in enumerate(data.items.title)]
    items = data.items.assign(title=titles)
    pathlib.Path("shop").mkdir()
    data.choices.to_csv("shop/orders.csv", index=False)
    items.to_csv("shop/products.csv", index=False)
    assert cli.main(["init", "shop"]) == 0
    said = capsys.readouterr().out
    assert "Japanese" in said and "subwords" in said
    values = yaml.safe_load(pathlib.Path("shop.yaml").read_text(encoding="utf-8"))
    assert values["text"]["encoder"] == "subwords"

    def write(request, number):
        record = request["messages"][1]["content"].splitlines()
        if record[1].startswith("Asked for"):
            order = [{"number": place, "why": "山で使う。"} for place in range(len(record) - 3, 0, -1)]
            return json.dumps({"order": order})
        title = record[1].removeprefix("title: ")
        return (
            QUERY if record[1].startswith("Chosen") else numbered.get(title, f"{title}。よく選ばれています。")
        )

    with serving(write) as fake:
        endpoint = {"base_url": fake.url, "model": "writer"}
        values |= {"enrich": {"users": True, "endpoint": endpoint}, "ranking": None}
        values["text"]["dim"] = 256
        values["retrieval"] = {"training": {"epochs": 3, "refit": False}}
        values["evaluation"] = {
            "baselines": {name: "show" for name in ("popularity", "als", "content_knn")},
            "thresholds": {"recall@10": 0.0},
        }
        values["serving"] = {"queries": []}
        pathlib.Path("shop.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
        assert cli.main(["validate", "shop.yaml"]) == 0
        assert cli.main(["run", "shop.yaml"]) == 0
        numbered["品番 999"] = "電動ドリルと工具箱のセット"
        now = pd.concat([items, pd.DataFrame({"item": ["new"], "title": ["品番 999"]})])
        now.to_csv("now.csv", index=False)
        asked = len(fake.requests)
        assert cli.main(["index", "shop.yaml", "--items", "now.csv"]) == 0
        assert len(fake.requests) == asked + 1
        home = load_config("shop.yaml").home
        with EmbeddedServer({"retrieval": str(home / "serving" / "retrieval")}) as server:
            server.wait_ready(120)
            url = f"http://127.0.0.1:{server.rest_port}"
            with Client.connect(url, "retrieval") as client:
                found = [one.item_id for one in client.recommend(text=QUERY, k=5)]
                assert topic_share(data, found) >= 0.6
                assert any(int(item[1:]) % 2 for item in found)
                assert client.recommend(text="電動ドリル、工具箱", k=1)[0].item_id == "new"
                somebody = client.recommend("somebody", k=5)
                assert client.recommend("somebody", text=" \u200b", k=5) == somebody
            ask = ["--model", "retrieval", "--url", url, "--config", "shop.yaml", "-k", "5"]
            capsys.readouterr()
            assert cli.main(["recommend", "--text", QUERY, "--llm", *ask]) == 0
            said = capsys.readouterr().out
            assert [line.split()[2] for line in said.splitlines()[:5]] == found[::-1]
            assert "山で使う" in said
            assert cli.main(["recommend", "--user", "u1", "--profile", *ask]) == 0
            assert "nothing was written" not in capsys.readouterr().err
    assert cli.main(["batch", "shop.yaml", "--output", "everybody"]) == 0
    assert pd.read_parquet("everybody").shape[0] >= 60
    assert cli.main(["forget", "shop.yaml", "--user", "u1"]) == 0
    assert (home / "enrichment" / "answers.jsonl").is_file()
    assert not [*(home / "enrichment").rglob("users*")]
