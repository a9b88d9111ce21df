"""`tfrec experiment plan` and `read`, on an impressions log and on a table of somebody's."""

import json

import numpy as np
import pandas as pd
import pytest

from pipeline.cli.main import main
from tests.experiments.test_outcomes import impressions
from tfrec_fusion.impressions import Feedback, ImpressionLog, ImpressionLogConfig, collect


@pytest.fixture(scope="module")
def orders(tmp_path_factory):
    """A table as somebody's shop writes it: semicolons, times in words of their own, 0 and 1."""
    rng = np.random.default_rng(0)
    variant = np.array(["A", "B"])[rng.integers(0, 2, 3000)]
    table = pd.DataFrame(
        {
            "customer": [f"00{number}" for number in range(3000)],
            "variant": variant,
            "bought": (rng.random(3000) < np.where(variant == "B", 0.3, 0.2)).astype(int),
            "when": pd.Timestamp("2026-11-01") + pd.to_timedelta(rng.random(3000) * 10, unit="D"),
        }
    )
    table["when"] = table.when.dt.strftime("%d.%m.%Y %H:%M:%S")
    path = tmp_path_factory.mktemp("orders") / "orders.csv"
    table.to_csv(path, sep=";", index=False)
    return path


OWN = ["--unit", "customer", "--arm", "variant", "--metric", "bought", "--id", "customer", "--time", "when"]


def test_a_table_of_somebodys(orders, tmp_path, capsys):
    page, readout = tmp_path / "page.html", tmp_path / "readout.json"
    words = ["experiment", "read", str(orders), *OWN, "--effect", "bought=0.05"]
    assert (
        main([*words, "--arms", "A=0.5", "--arms", "B=0.5", "--page", str(page), "--json", str(readout)]) == 0
    )
    printed = capsys.readouterr().out
    assert "bought of B is higher than that of A (however often one looked)." in printed
    assert "WRONG" not in printed and "however often you look: [+0." in printed
    (one,) = json.loads(readout.read_text())["results"]
    assert one["verdict"] == "higher" and one["comparison"]["value"] == pytest.approx(0.3, abs=0.05)
    text = page.read_text()
    assert "bought of B is higher than that of A" in text and "<svg" in text and text.count("<tr>") == 5


def test_shares_that_are_not_met_make_it_unbelievable(orders, capsys):
    assert main(["experiment", "read", str(orders), *OWN, "--arms", "A=0.9", "--arms", "B=0.1"]) == 0
    printed = capsys.readouterr().out
    assert "WRONG  Sample-ratio mismatch" in printed and "Not to be believed" in printed


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--unit", "user", "--metric", "bought"], "has no column 'user'"),
        (
            [*OWN[:4], "--metric", "variant", "--id", "", "--time", ""],
            "must be a number. Received: '[AB]' in 'variant'",
        ),
        ([*OWN, "--arms", "A"], "`--arms` must be NAME=NUMBER. Received: 'A'"),
        ([*OWN, "--arms", "A=0.5", "--arms", "C=0.5"], "Received: 'B' in"),
        ([*OWN, "--effect", "sold=1"], "`effect` must name metrics"),
        ([*OWN, "--confidence", "95"], "`confidence` must be above 0 and below 1. Received: 95"),
        ([*OWN[:-2]], "has no column 'time'"),
    ],
)
def test_what_cannot_be_read_is_told(orders, words, message, capsys):
    assert main(["experiment", "read", str(orders), *words]) == 1
    error = " ".join(capsys.readouterr().err.split())
    assert __import__("re").search(message, error), error


def test_no_file(capsys):
    assert main(["experiment", "read", "nowhere/*.parquet"]) == 1
    assert "where there are none" in capsys.readouterr().err


def test_impressions_as_they_were_logged(tmp_path, capsys):
    """From the log through `collect`, with an experiment's file, whose `read` says what matters."""
    table = impressions(200, lift=0.4)
    with ImpressionLog(ImpressionLogConfig(str(tmp_path / "log"))) as log:
        for request, rows in table.groupby("request_id"):
            log.shown(
                request, [rows["item"].tolist()], users=[rows.user.iloc[0]], model="m", arm=rows.arm.iloc[0]
            )
            log.feedback(
                [
                    Feedback.of({"request_id": request, "item": item, "kind": "click"})
                    for item in rows["item"][rows.click > 0]
                ]
            )
    collect(str(tmp_path / "log"), str(tmp_path / "impressions"))
    file = tmp_path / "experiments.json"
    arms = {"old": 0.5, "new": {"share": 0.5, "version": 2}}
    file.write_text(json.dumps({"ranker": {"arms": arms, "read": {"effect": {"click/rows": 0.1}}}}))
    assert main(["experiment", "read", str(tmp_path / "impressions"), "--experiments", str(file)]) == 0
    printed = capsys.readouterr().out
    assert "click/rows of new is higher than that of old (however often one looked)." in printed
    assert main(["experiment", "plan", "--table", str(tmp_path / "impressions"), "--lift", "0.1"]) == 0
    assert "metric 0." in capsys.readouterr().out
    assert main(["experiment", "read", str(tmp_path), "--experiments", str(file), "--experiment", "x"]) == 1
    assert "must name one of ranker. Received: 'x'" in capsys.readouterr().err


def test_plans(capsys):
    """z(0.975) + z(0.8) = 2.8016: 2 · 2 · 2.8016² · 0.04 · 0.96 / 0.002² units."""
    assert main(["experiment", "plan", "--rate", "0.04", "--lift", "0.05", "--per-day", "10000"]) == 0
    printed = capsys.readouterr().out
    assert "one look at the end: a difference of 0.002 takes 301,397 units, 30.1 days" in printed
    assert main(["experiment", "plan", "--mean", "10", "--std", "5", "--units", "3000"]) == 0
    assert "3,000 units find a difference of 0.5115 (5.1% of the metric)" in capsys.readouterr().out
    for words, message in (
        (["--rate", "0.04"], "one of `--effect`"),
        (["--lift", "0.1"], "Give `--table`"),
        (["--rate", "4", "--units", "10"], "`--rate` must be above 0 and below 1"),
        (["--rate", "0.1", "--units", "10", "--shares", "half"], "`--shares` must be numbers"),
        (["--rate", "0.1", "--lift", "0"], "`effect` must be a number other than 0"),
    ):
        assert main(["experiment", "plan", *words]) == 1
        assert message in capsys.readouterr().err
