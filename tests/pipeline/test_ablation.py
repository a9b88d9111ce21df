"""The ablation: which variants there are, what their figures are, and what is not trained twice."""

import dataclasses
import json

import numpy as np
import pytest

from pipeline.cli import main as cli
from pipeline.studies.ablation import BASE, POPULARITY, ablate, prepared, table, variants
from pipeline.studies.offline_figures import figures
from tests.pipeline.small_shop import write_shop
from tfrec_fusion.config import ConfigError


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return write_shop(tmp_path_factory.mktemp("shop"))


def test_variants_change_one_part_each(config):
    found = variants(config)
    assert next(iter(found)) == BASE
    assert "text=frozen" not in found
    assert "fusion=gated" not in found
    assert "history=mean" not in found
    assert found["text=none"].text is None
    assert found["fusion=film"].retrieval.tower == dataclasses.replace(config.retrieval.tower, fusion="film")
    assert found["history=gru"].retrieval.tower.history_encoder == "gru"
    assert list(variants(config, ["history"])) == [BASE, "history=cnn", "history=gru", "history=transformer"]
    assert list(variants(config, ["fusion=film"])) == [BASE, "fusion=film"]


def test_figures_of_scores_that_are_known(config):
    data = prepared(config)
    # Each person's held-out items first: perfect accuracy.
    wanted = np.zeros((data.users.max() + 1, len(data.catalogue)))
    np.add.at(wanted, (data.users, data.test["item_index"]), 1)
    perfect = figures(lambda rows: wanted[data.users[rows]], data, config)
    assert perfect["ndcg@10"] == pytest.approx(1)
    assert perfect["recall@100"] == pytest.approx(1)
    # Everybody gets the same ten items at most, less what each has met.
    same = figures(lambda rows: np.tile(np.arange(25.0), (len(rows), 1)), data, config)
    assert same["coverage@10"] < perfect["coverage@10"] + 0.5
    assert 0 < same["ndcg@10"] < 1
    assert 0 <= same["gini@10"] < 1


@pytest.mark.slow
def test_every_variant_is_trained_and_none_twice(config):
    results = ablate(config, [1], ["text=none"], epochs=1)
    assert list(results["runs"]) == [POPULARITY, BASE, "text=none"]
    (with_text,), (without,) = results["runs"][BASE], results["runs"]["text=none"]
    assert with_text["epochs"] == without["epochs"] == 1
    # The projection of 16 numbers of text, and its gate, are what text adds.
    assert with_text["parameters"] - without["parameters"] >= 17 * 8
    said = []
    repeated = ablate(config, [1], ["text=none"], 1, lambda line, passing: passing or said.append(line))
    assert len(said) == 2
    assert all("from an earlier run" in line for line in said)
    assert repeated == results == json.loads((config.home / "ablation" / "results.json").read_text())


def test_the_table_shows_means_and_standard_errors():
    runs = {
        POPULARITY: [{"ndcg@10": 0.25, "gini@10": 0.9}],
        BASE: [
            {"ndcg@10": 0.5, "gini@10": 0.5, "parameters": 1234, "seconds": 8.0},
            {"ndcg@10": 0.25, "gini@10": 0.5, "parameters": 1234, "seconds": 9.2},
        ],
    }
    data = {"users": 5, "held_out": 7, "held_out_cold": 0, "items": 9}
    lines = table({"runs": runs, "data": data}).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells[0] == ["variant", "ndcg@10", "gini@10", "parameters", "seconds"]
    assert cells[2] == [POPULARITY, "0.2500", "0.900", "–", "–"]
    # The standard error of two values is half their distance.
    assert cells[3] == [BASE, "0.3750 ±0.1250", "0.500 ±0.000", "1,234", "9"]
    assert len({len(line) for line in lines[:4]}) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seeds": [1, 1]}, "must be different whole numbers"),
        ({"seeds": []}, "must be different whole numbers"),
        ({"epochs": 0}, "`--epochs` must be at least 1"),
        ({"only": ["fusion=flim"]}, "Did you mean `fusion=film`"),
    ],
)
def test_what_cannot_be_used_is_refused_before_anything_is_read(config, arguments, message):
    with pytest.raises(ConfigError, match=message):
        ablate(config, **arguments)


def test_text_variants_need_text(config):
    items = dataclasses.replace(config.data.items, text=())
    bare = dataclasses.replace(config, data=dataclasses.replace(config.data, items=items), text=None)
    assert not any(name.startswith("text") for name in variants(bare))
    with pytest.raises(ConfigError, match="no variant `text=frozen`"):
        variants(bare, ["text=frozen"])


def test_the_command_says_what_is_wrong(capsys):
    assert cli.main(["ablate", "movielens_100k", "--seeds", "-1"]) == 1
    assert "must be different whole numbers from 0. Received: [-1]" in capsys.readouterr().err
