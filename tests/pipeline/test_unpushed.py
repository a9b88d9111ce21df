"""Where nothing was pushed, every command says why and what to try, from what was missed and how the model
was trained."""

import dataclasses
import os

import pytest

from pipeline.cli.main import main
from pipeline.config.pipeline_config import EvaluationConfig, load_config
from pipeline.data.pushed_versions import MARK, serves_a_trained_model
from pipeline.evaluation.advice import advice
from pipeline.evaluation.fallback import ranked_baselines
from pipeline.evaluation.verdict import describe_shown
from pipeline.runner import unpushed
from tests.pipeline.small_shop import write_shop
from tfrec_fusion import files
from tfrec_fusion.config import ConfigError

RETRIEVAL = {
    "blessed": False,
    "missed": ["ndcg@10_gain_over_als_high"],
    "reasons": ["overall: ndcg@10 is significantly worse than ALS: -0.0208 over 90 users"],
    "metrics": {"overall": {"users": 90.0, "ndcg@10": 0.1026, "als_ndcg@10": 0.1234}},
}


def test_advice_comes_from_what_was_missed(tmp_path):
    config = write_shop(tmp_path)
    result = advice(config, "retrieval", RETRIEVAL, {"loss": [2, 1], "val_ndcg_10": [0.1, 0.2]})
    assert result == [
        "train longer: it was given 2 epochs of the usual 30 (`--set retrieval.training.epochs=30`)",
        "look for better settings: `tfrec tune CONFIG`",
        "see whether its texts are what misleads it: `--set text=none`",
        (
            "or accept that ALS is better (ndcg@10 0.1234, this model 0.1026): `--set"
            " evaluation.baselines.als=show`"
        ),
        "look at what was refused: `tfrec serve CONFIG --candidate`",
    ]
    assert advice(config, "retrieval", {**RETRIEVAL, "blessed": True}, {}) == []
    bounds = dataclasses.replace(config.evaluation, thresholds={"recall@100": 0.2})
    missed = {
        **RETRIEVAL,
        "missed": ["recall@100"],
        "metrics": {"overall": {"users": 90.0, "recall@100": 0.1}},
    }
    result = advice(dataclasses.replace(config, evaluation=bounds), "retrieval", missed, {})
    asked = "or ask for less: `--set evaluation.thresholds.recall@100=…` (now 0.2, it reached 0.1000)"
    assert asked in result
    few = {**RETRIEVAL, "metrics": {"overall": {"users": 4.0}}}
    assert any(
        "judge by more users: 4 had" in line for line in advice(config, "retrieval", few, {"loss": [1]})
    )


def test_every_advised_setting_can_be_set(tmp_path):
    """What a line tells users to type is read by the configuration."""
    config = write_shop(tmp_path)
    path = tmp_path / "shop.yaml"
    path.write_text(
        "name: shop\ndata: {interactions: {path: a, user: u, item: i, time: t}, items: {path: b, id: i,"
        " title: n}}\n"
    )
    for kind, missed in (
        (
            "retrieval",
            ["ndcg@10_gain_over_popularity_low", "ndcg@10_gain_over_als_high", "ndcg@10_change_high"],
        ),
        ("ranking", ["auc_gain_over_click_rate_high", "rmse_gain_over_biases"]),
    ):
        verdict = {**RETRIEVAL, "missed": missed}
        for line in advice(config, kind, verdict, {"loss": [1, 1]}):
            if "--set " in line:
                load_config(str(path), [line.split("--set ")[1].split("`")[0]])


def test_the_best_baseline_that_can_be_served_comes_first():
    metrics = {"popularity_ndcg@5": 0.1, "als_ndcg@5": 0.3, "text_none_ndcg@5": 0.9}
    assert ranked_baselines(metrics, ("popularity", "als", "content_knn", "text_none"), 5) == [
        "als",
        "popularity",
    ]
    assert ranked_baselines({"als_ndcg@5": float("nan")}, ("als",), 5) == ["popularity"]


def test_baselines_that_are_only_shown_are_shown():
    overall = {
        "ndcg@10": 0.1,
        "als_ndcg@10": 0.12,
        "als_ndcg@50": 0.2,
        "ndcg@10_gain_over_als": -0.02,
        "ndcg@10_gain_over_als_low": -0.03,
        "ndcg@10_gain_over_als_high": -0.01,
        "ndcg@50_gain_over_als": -0.02,
        "ndcg@10_gain_over_popularity": 0.02,
    }
    (line,) = describe_shown(overall, [("ndcg@10_gain_over_popularity_low", False)])
    assert (
        line
        == "ndcg@10 of ALS: 0.1200, which no threshold asks for; this model is -0.0200 [-0.0300, -0.0100]"
        " from it"
    )


YAML = (
    "name: shop\nroot: {root}\ndata: {{interactions: {{path: a, user: u, item: i, time: t}}, items: {{path:"
    " b, id: i, title: n}}}}\n"
)


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """A run that refused its retrieval model, with the candidate that it left."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "shop.yaml"
    path.write_text(YAML.format(root=tmp_path / "runs"))
    home = tmp_path / "runs" / "shop"
    model = home / "artifacts" / "RetrievalTrainer" / "model" / "7"
    (model / "Format-Serving" / "variables").mkdir(parents=True)
    (model / "Format-Serving" / "saved_model.pb").write_bytes(b"graph")
    verdict = {**RETRIEVAL, "pushed": None, "servable": {"ok": True}, "model": str(model), "shown": []}
    verdict["advice"] = ["look for better settings: `tfrec tune CONFIG`"]
    recommender = {
        "pushed": None,
        "build": {"built": False, "reason": "retrieval not blessed"},
        "servable": {"ok": False},
    }
    files.write_json(home / "summary.json", {"retrieval": verdict, "recommender": recommender})
    return path


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["serve", "{}"], "retrieval was not pushed: overall: ndcg@10 is significantly worse than ALS"),
        (["batch", "{}", "--output", "out"], "retrieval was not pushed: overall: ndcg@10"),
        (
            ["batch", "{}", "--output", "out", "--model", "recommender"],
            "recommender was not pushed: retrieval not blessed",
        ),
    ],
)
def test_commands_say_why_and_what_to_try(shop, capsys, command, words):
    assert main([part.format(shop) for part in command]) == 1
    error = capsys.readouterr().err
    assert words in error
    assert f"look for better settings: `tfrec tune {shop}`" in error


def test_a_client_is_told_by_the_runs_that_are_here(shop):
    for lines in (
        unpushed.seen_from_here("retrieval", str(shop)),
        unpushed.seen_from_here("retrieval", None),
    ):
        assert "retrieval was not pushed: overall: ndcg@10 is significantly worse than ALS" in lines[0]
        assert "tfrec tune" in lines[1]
    assert "`ranking: null` leaves it out" in unpushed.seen_from_here("ranking", str(shop))[0]
    assert "says which models it serves" in unpushed.seen_from_here("retrieval", None, "nowhere")[0]


def test_the_candidate_is_served_from_a_folder_of_its_own(shop):
    config = load_config(str(shop))
    models = unpushed.candidates(config)
    assert models == {"retrieval": str(config.home / "candidate" / "retrieval")}
    assert sorted(os.listdir(f"{models['retrieval']}/1")) == ["saved_model.pb", "variables"]
    assert unpushed.candidates(config) == models  # once more, over the first
    summary = unpushed.read_summary(config.home)
    summary["retrieval"]["pushed"] = "x"
    files.write_json(config.home / "summary.json", summary)
    with pytest.raises(ConfigError, match="pushed all of its models"):
        unpushed.candidates(config)
    (config.home / "summary.json").write_text('{"retrieval": ')
    with pytest.raises(ConfigError, match=r"summary.json must be what a run wrote.*Run `tfrec run` again"):
        unpushed.read_summary(config.home)


def test_a_stand_in_says_what_it_is_and_gives_way_to_a_trained_model(tmp_path):
    base = tmp_path / "serving" / "retrieval"
    for number in (5, 6):
        (base / str(number)).mkdir(parents=True)
        (base / str(number) / "saved_model.pb").touch()
    files.write_json(
        base / "6" / MARK, {"built": True, "baseline": "als", "k": 10, "ndcg": 0.5, "model_ndcg": 0.25}
    )
    assert (
        unpushed.stands_in(tmp_path)
        == "ALS, the best baseline of the run (ndcg@10 0.5000, the trained model 0.2500), as version 6"
    )
    assert serves_a_trained_model(base)
    files.write_json(base / "5" / MARK, {"baseline": "popularity", "k": 10})
    assert not serves_a_trained_model(base)


def test_ranking_may_be_left_out(shop):
    for override in ("ranking=null", "ranking=none"):
        config = load_config(str(shop), [override])
        assert config.kinds == ("retrieval",)
        assert not config.builds_recommender
    assert load_config(str(shop)).kinds == ("retrieval", "ranking")
    assert EvaluationConfig().push_baseline_when_none
