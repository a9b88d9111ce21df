"""Prefixes of asymmetric encoders through a run that trains the encoder: training, index and requests.

The query's prefix is the items' and one word more, so that asking for `tea` must give the vector of the item
that is called `red tea`: a prefix that is lost, doubled or on the wrong side at any place parts the two.
"""

import json
import pathlib

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
import yaml

from pipeline.cli.main import main
from pipeline.config.pipeline_config import load_config
from tests.tiny_bert import WIDTH, write_tiny_bert
from tfrec_fusion.config import TextConfig
from tfrec_fusion.features.text_vectors import load_encoder
from tfrec_fusion.layers import load_tokenizer
from tfrec_fusion.serving.client.client import Client
from tfrec_fusion.serving.server.embedded import EmbeddedServer

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

COLOURS, THINGS = ("red", "blue"), ("tea", "tool", "lamp", "cup")
NAMES = [f"{colour} {thing}" for colour in COLOURS for thing in THINGS]
ITEM, QUERY = "passage : ", "passage : red "


def write_tables(folder: pathlib.Path) -> None:
    """Thirty users who choose what is red, or what is blue."""
    rng = np.random.default_rng(0)
    rows = [
        (f"u{user}", f"i{4 * (user % 2) + thing}", 100 * step + user)
        for user in range(30)
        for step, thing in enumerate(rng.permutation(4))
    ]
    pd.DataFrame(rows, columns=["user", "item", "timestamp"]).to_csv(folder / "orders.csv", index=False)
    items = pd.DataFrame({"item": [f"i{number}" for number in range(8)], "name": NAMES})
    items.to_csv(folder / "items.csv", index=False)
    new = pd.DataFrame({"item": ["new", "twin"], "name": ["blue red tea", "red tea"]})
    items.loc[5, "name"] = "tool blue tool"
    pd.concat([items, new]).to_csv(folder / "now.csv", index=False)


def write_config(folder: pathlib.Path) -> str:
    encoder = write_tiny_bert(folder / "bert", ["passage", ":", *COLOURS, *THINGS])
    prompts = {"prompts": {"query": QUERY, "passage": ITEM}}
    pathlib.Path(encoder, "config_sentence_transformers.json").write_text(json.dumps(prompts))
    # Nothing but the encoder learns enough to be kept.
    training = {"epochs": 1, "batch_size": 16, "learning_rate": 1e-5, "refit": False}
    retrieval = {"tower": {"dim": 4, "history_encoder": "mean"}, "training": training}
    values = {
        "name": "prompts",
        "root": str(folder / "runs"),
        "data": {
            "interactions": {"path": "orders.csv", "user": "user", "item": "item"},
            "items": {"path": "items.csv", "id": "item", "title": "name", "text": ["name"]},
        },
        "split": {"method": "leave_last_out"},
        "text": {"encoder": encoder, "max_length": 8, "stage": "lora", "lora_rank": 2, "epochs": 3}
        | {"learning_rate": 0.05, "top_n": None},
        "retrieval": {**retrieval, "collaborative_dim": 0, "content_dim": 0},
        "ranking": None,
        "evaluation": {
            "baselines": dict.fromkeys(("popularity", "als", "content_knn"), "off"),
            "thresholds": {"recall@10": 0.0},
        },
        "serving": {"queries": []},
    }
    (folder / "prompts.yaml").write_text(yaml.safe_dump(values))
    return str(folder / "prompts.yaml")


def served(file: str) -> dict[str, np.ndarray]:
    """Text vectors by what was asked: of items in the index, of an item's text, of a query."""
    home = load_config(file).home
    found: dict[str, np.ndarray] = {}
    with EmbeddedServer({"retrieval": str(home / "serving" / "retrieval")}) as server:
        server.wait_ready(120)
        with Client.connect(f"http://127.0.0.1:{server.rest_port}", "retrieval") as client:
            for item in ("i0", "i5", "new", "twin"):
                asked = {"item_id": [item], "text": [""]}
                found[item] = np.array(client.predict(asked, signature_name="embed_item"))[0, -WIDTH:]
            for text in ("red tea", "blue red tea", "tool blue tool"):
                asked = {"item_id": [""], "text": [text]}
                found[text] = np.array(client.predict(asked, signature_name="embed_item"))[0, -WIDTH:]
            found["?tea"] = np.array(client.predict({"text": ["tea"]}, signature_name="embed_text"))[0]
            found["best"] = np.array([item.item_id for item in client.recommend(text="tea", k=2)])
    return found


def test_every_side_has_its_prefix(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_tables(tmp_path)
    file = write_config(tmp_path)
    assert main(["run", file]) == 0
    first = served(file)
    assert main(["index", file, "--items", "now.csv"]) == 0
    now = served(file)
    near = {"atol": 5e-3}  # activations of blocks that are not trained are kept in float16
    for found in (first, now):
        np.testing.assert_allclose(found["?tea"], found["red tea"], atol=1e-5)
        np.testing.assert_allclose(found["i0"], found["red tea"], **near)
    np.testing.assert_allclose(now["new"], now["blue red tea"], **near)
    np.testing.assert_allclose(now["i5"], now["tool blue tool"], **near)
    np.testing.assert_array_equal(now["twin"], now["i0"])
    np.testing.assert_array_equal(now["i0"], first["i0"])
    assert set(now["best"]) == {"i0", "twin"}
    # The encoder was trained, and other words have other vectors: none of this holds by itself.
    text = TextConfig(str(tmp_path / "bert"), max_length=8)
    tokens = load_tokenizer(text.encoder, max_length=8)(tf.constant([f"{ITEM}red tea", "red tea"]))
    with_prefix, without = load_encoder(text)(tokens).numpy()
    assert np.abs(with_prefix - without).max() > 0.05
    assert np.abs(first["i0"] - with_prefix).max() > 0.02
    assert np.abs(now["new"] - now["i0"]).max() > 0.05
