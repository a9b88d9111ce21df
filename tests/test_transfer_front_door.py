"""From tables of two domains to a served model of a third, in Python and by command."""

import json

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
import yaml

from pipeline.cli.main import main
from pipeline.config.pipeline_config import load_config
from pipeline.definition.trainers import own_code
from pipeline.onboarding.text_checks import check_warm_start
from pipeline.report.card import _start
from pipeline.studies.ablation import variants
from pipeline.studies.pretraining import check_domains
from tfrec_fusion import Recommender
from tfrec_fusion.config import ConfigError
from tfrec_fusion.config.pretrained import DESCRIPTION, WEIGHTS

WORDS = ("tea", "coffee", "hammer", "saw", "rose", "tulip")
SETTINGS = {
    "text": {"encoder": "subwords", "dim": 16, "max_length": 8},
    "retrieval": {
        "tower": {"dim": 8, "history_encoder": "mean", "dropout": 0.0},
        "training": {"epochs": 2, "batch_size": 16, "learning_rate": 1e-2},
        "collaborative_dim": 0,
    },
    "split": {"history_length": 6, "long_history": 8},
}


def tables(seed, users=40):
    """Users who stay with a word."""
    rng = np.random.default_rng(seed)
    items = pd.DataFrame({"sku": [f"{seed}-{number}" for number in range(36)]})
    items["name"] = [f"{WORDS[number % 6]} number {number} of {seed}" for number in range(36)]
    rows = [
        (f"u{user}", f"{seed}-{6 * place + user % 6}", 1_600_000_000 + 1000 * step + user)
        for user in range(users)
        for step, place in enumerate(rng.permutation(6)[:5])
    ]
    return {"interactions": pd.DataFrame(rows, columns=["who", "sku", "at"]), "items": items}


def written(folder, name, seed, **changes):
    """A configuration of such tables as a file."""
    for table, frame in tables(seed).items():
        frame.to_csv(folder / f"{name}_{table}.csv", index=False)
    values = {
        "name": name,
        "root": str(folder / "runs"),
        "data": {
            "interactions": {"path": f"{name}_interactions.csv", "user": "who", "item": "sku", "time": "at"},
            "items": {"path": f"{name}_items.csv", "id": "sku", "title": "name", "text": ["name"]},
        },
        "ranking": "none",
        **SETTINGS,
        **changes,
    }
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(values))
    return str(folder / f"{name}.yaml")


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """A folder with configurations of three domains, and a tower of the first two."""
    folder = tmp_path_factory.mktemp("domains")
    files = [written(folder, name, seed) for name, seed in (("one", 1), ("two", 2), ("three", 3))]
    assert main(["pretrain", *files[:2], "--output", str(folder / "tower"), "--epochs", "2"]) == 0
    return folder


def test_a_tower_is_pretrained_by_command(pretrained, capsys):
    values = json.loads((pretrained / "tower" / DESCRIPTION).read_text())
    assert [one["name"] for one in values["domains"]] == ["one", "two"]
    assert values["figures"]["epochs"] == 2 and values["domains"][0]["items"] == 36
    # What names the folder is relative to the YAML file, and another tower in it trains again.
    path = written(pretrained, "started", 3, retrieval={**SETTINGS["retrieval"], "warm_start": "tower"})
    config = load_config(path)
    (source,) = own_code(config, "retrieval").items()
    assert source[0] == str(pretrained / "tower") and len(source[1]) == 16
    assert config.retrieval.tower.text_adaptor == "experts"
    (finding,) = check_warm_start(config)
    assert finding.state == "ok" and "pretrained by version" in finding.seen
    (wrong,) = check_warm_start(load_config(path, ["split.history_length=9"]))
    assert wrong.state == "wrong" and "split.history_length" in wrong.seen
    assert not [name for name in variants(config) if name.startswith("history=")]
    assert variants(config)["text=none"].retrieval.warm_start is None
    assert main(["run", path, "--set", "retrieval.warm_start=nowhere"]) == 1
    assert "must be a folder that `tfrec pretrain` wrote" in capsys.readouterr().err


def test_the_card_says_where_a_model_started(pretrained):
    start = {"folder": "tower", **json.loads((pretrained / "tower" / DESCRIPTION).read_text())}
    words = _start(start)
    assert words.startswith("tower: text adaptor and mean history encoder, pretrained by version")
    assert "one (36 items, 40 users," in words


@pytest.mark.parametrize(
    ("names", "changes", "rule"),
    [
        (("one", "one"), {}, "each given once.*'one' more than once"),
        (
            ("one", "copy"),
            {},
            "Each domain must be given once. Received: 'copy' and 'one', which read the same",
        ),
        (("one", "two"), {"text": "none"}, "must have texts.*'two', with `text: none`"),
        (
            ("one", "two"),
            {"retrieval": {"tower": {"dim": 4}}},
            r"`retrieval.tower.dim` 8 of one and 4 of two",
        ),
    ],
)
def test_domains_that_do_not_go_together(pretrained, tmp_path, names, changes, rule):
    files = [written(tmp_path, "one", 1)]
    if names[1] == "copy":
        values = yaml.safe_load((tmp_path / "one.yaml").read_text())
        (tmp_path / "copy.yaml").write_text(yaml.safe_dump({**values, "name": "copy"}))
        files.append(str(tmp_path / "copy.yaml"))
    else:
        files.append(files[0] if names[1] == "one" else written(tmp_path, "two", 2, **changes))
    with pytest.raises(ConfigError, match=rule):
        check_domains([load_config(file) for file in files])


@pytest.mark.slow
def test_python_pretrains_starts_and_serves_as_usual(pretrained, tmp_path):
    domains = {"a": tables(1), "b": tables(2)}
    with pytest.raises(
        ConfigError, match="has the keys interactions, items, users and data. Received: texts"
    ):
        Recommender(verbose=0, **SETTINGS).pretrain({"a": {**domains["a"], "texts": 1}}, tmp_path / "t")
    found = Recommender(verbose=0, **SETTINGS).pretrain(domains, tmp_path / "tower")
    assert [one["name"] for one in found["domains"]] == ["a", "b"]
    assert (tmp_path / "tower" / WEIGHTS).is_file()
    retrieval = {**SETTINGS["retrieval"], "warm_start": str(tmp_path / "tower")}
    third = tables(3)
    zero = Recommender(
        verbose=0, ranking="none", **{**SETTINGS, "retrieval": {**retrieval, "training": {"epochs": 0}}}
    )
    zero.fit(third["interactions"], third["items"])
    assert len(zero.recommend("u1", 5)) == 5
    embeddings = zero._state.retrieval.item_tower.id_embedding.embeddings.numpy()
    assert not embeddings.any()
    plain, warm = (
        Recommender(verbose=0, ranking="none", **{**SETTINGS, "retrieval": one}).fit(
            third["interactions"], third["items"]
        )
        for one in (SETTINGS["retrieval"], retrieval)
    )
    warm.save(tmp_path / "saved")
    (tmp_path / "tower" / WEIGHTS).unlink()  # what is fitted needs it no more
    pd.testing.assert_frame_equal(
        Recommender.load(tmp_path / "saved").recommend("u1", 5), warm.recommend("u1", 5)
    )
    spec = [model._state.spec("retrieval", "recommend") for model in (plain, warm)]
    assert spec[0] == spec[1]
    warm.export(tmp_path / "warm")
    signature = tf.saved_model.load(str(tmp_path / "warm")).signatures["recommend"]
    assert set(signature.structured_input_signature[1]) == set(spec[0])
