"""The whole pipeline on a small shop of films: pushed, served, cached, refused, resumed, interrupted."""

import json
import pathlib
import re
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest

from pipeline.cli.main import main
from pipeline.config.pipeline_config import load_config, tables_of
from pipeline.report import analysis
from pipeline.report.page import write_report
from pipeline.runner.local import run
from pipeline.runner.summary import StepFailed
from tests.serving.server_processes import free_ports, wait_for
from tfrec_fusion.datasets.digests import source_digest
from tfrec_fusion.serving.client.client import Client
from tfrec_fusion.serving.client.in_process import InProcessTransport
from tfrec_fusion.serving.server.embedded import EmbeddedServer

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.shared_run("films")]


def states(summary):
    return {component["name"]: component["state"] for component in summary["components"]}


def versions(summary, kind):
    return sorted(path.name for path in (pathlib.Path(summary["serving"]) / kind).iterdir())


def test_both_models_are_pushed_and_the_summary_says_why(first, config_file):
    for kind in ("retrieval", "ranking"):
        assert first[kind]["blessed"]
        assert first[kind]["servable"]["ok"]
        assert versions(first, kind) == [pathlib.Path(first[kind]["pushed"]).name]
    assert versions(first, "recommender") == [pathlib.Path(first["recommender"]["pushed"]).name]
    assert first["recommender"]["build"]["head"] in ("rating", "click")
    overall = first["retrieval"]["metrics"]["overall"]
    assert overall["ndcg@10"] > overall["popularity_ndcg@10"] + 0.1
    assert {"item_activity=common", "user_activity=regular"} <= set(first["retrieval"]["metrics"])
    assert (
        first["ranking"]["metrics"]["overall"]["rmse"]
        < first["ranking"]["metrics"]["overall"]["baseline_rmse"]
    )
    assert first["text"]["encoded"] == first["text"]["distinct_texts"] == 18
    assert first["data"]["tables"]["interactions"] == {"kept": 600, "read": 600, "rejected": 0}
    written = json.loads((load_config(str(config_file)).home / "summary.json").read_text())
    assert written["retrieval"]["pushed"] == first["retrieval"]["pushed"]
    assert all(
        component["seconds"] >= 0 and component["peak_memory_mb"] > 0 for component in written["components"]
    )


def test_what_was_pushed_answers_words_users_and_new_items(first):
    folder = pathlib.Path(first["serving"])
    with EmbeddedServer(
        {kind: str(folder / kind) for kind in ("retrieval", "ranking", "recommender")}
    ) as server:
        server.wait_ready(120)
        url = f"http://127.0.0.1:{server.rest_port}"
        with Client.connect(url, "retrieval") as client:
            found = client.recommend(text="astronauts travel to another planet", k=6)
            assert all("Space" in item.title for item in found)
            liked = client.recommend(user_id="u1", k=1)
            assert "Love" in liked[0].title
            assert client.recommend(user_id="u1", exclude=[liked[0].item_id], k=1)[0] != liked[0]
            of_war = client.recommend(user_id="u1", categories=["War"], k=6)
            assert len(of_war) == 6
            assert all("War" in item.title for item in of_war)
        with Client.connect(url, "recommender") as client:
            alone = client.recommend(user_id="u1", k=1, rank_weight=-1.0)
            assert alone[0].item_id == liked[0].item_id
            spread = client.recommend(user_id="u1", k=6, diversity=0.9, include_seen=True)
            assert len({item.title.split(" of ")[1] for item in spread}) > 1
            assert client.rank(user_id="u1", item_ids=["f0"]).keys() == {"rating", "click", "titles"}
        with Client.connect(url, "ranking") as client:
            scores = client.rank(user_id="u1", item_ids=["f0", ""], texts=["", "A bride and a kiss"])
            assert len(scores["rating"]) == 2
            assert scores["titles"][1] == "A bride and a kiss"


def test_the_report_is_one_page_that_needs_nothing_else(first, config_file, monkeypatch):
    monkeypatch.setattr(analysis, "USERS_ASKED", 10)  # fewer than there are, as on larger data
    config = load_config(str(config_file))
    place = write_report(config)
    page = place.read_text()
    outside = re.findall(
        r"""(?:src|href)=["'](?!#|data:)([^"']+)|url\(["']?(?!#|data:)([^)"']+)|@import""", page
    )
    assert outside == []
    assert "{{" not in page
    assert page.count("<svg") == len(list((place.parent / "pictures").glob("*.png"))) == 8
    assert f"{first['retrieval']['metrics']['overall']['ndcg@10']:.4f}" in page
    users = re.findall(r'<h3>(u\d+) <span class="quiet">\(', page)
    assert len(users) == 6 + 4  # the sample, and those whom the two models serve most differently
    card = (place.parent / "model_card.md").read_text()
    assert source_digest(tables_of(config)) in card
    assert "- **Licence**: apache-2.0" in card
    assert f"pushed as version {pathlib.Path(first['retrieval']['pushed']).name}" in card


def test_a_second_run_does_nothing_again(first, config_file):
    start = time.monotonic()
    again = run(load_config(str(config_file)))
    assert time.monotonic() - start < 60
    assert set(states(again).values()) <= {"cached", "done"}
    ran = [name for name, state in states(again).items() if state == "done" and "Baseline" not in name]
    assert ran == []
    for kind in ("retrieval", "ranking"):
        assert again[kind]["pushed"] == first[kind]["pushed"]
        assert versions(again, kind) == versions(first, kind)


def test_a_broken_model_is_not_pushed_and_the_reason_is_told(first, config_file):
    """Towers alone, hardly trained at all: worse than popularity, and worse than the model blessed before."""
    settings = ["retrieval.training.learning_rate=1e-12", "retrieval.collaborative_dim=0"]
    broken = run(load_config(str(config_file), settings))
    assert not broken["retrieval"]["blessed"]
    assert broken["retrieval"]["pushed"] is None
    assert any("last blessed model" in reason for reason in broken["retrieval"]["reasons"])
    assert versions(broken, "retrieval") == versions(first, "retrieval")
    assert broken["ranking"]["pushed"] == first["ranking"]["pushed"]  # untouched, and still there
    assert broken["recommender"]["build"] == {"built": False, "reason": "retrieval not blessed"}
    assert versions(broken, "recommender") == versions(first, "recommender")
    assert states(broken)["RetrievalTrainer"] == "done"
    assert states(broken)["RankingTrainer"] == "cached"


def test_a_run_goes_on_at_the_step_that_failed(first, config_file, monkeypatch):
    import tfrec_fusion.training.fitting

    config = load_config(str(config_file), ["ranking.training.epochs=2", "serving.recommender=false"])

    def failing(*_, **__):
        raise RuntimeError("the disk is on fire")

    monkeypatch.setattr(tfrec_fusion.training.fitting, "fit", failing)
    with pytest.raises(
        StepFailed, match=r"(?s)RankingTrainer failed: RuntimeError: the disk is on fire.*The stack is in"
    ):
        run(config)
    monkeypatch.undo()
    resumed = run(config)
    assert states(resumed)["RankingTrainer"] == "done"
    assert states(resumed)["TablesExampleGen"] == states(resumed)["ItemsTransform"] == "cached"


def test_changed_items_are_encoded_again_and_no_others(first, config_file):
    films = pd.read_parquet(config_file.parent / "films.parquet")
    other = config_file.parent / "other"
    other.mkdir()
    for name in ("interactions.csv", "users.csv"):
        (other / name).write_bytes((config_file.parent / name).read_bytes())
    films.loc[3, "plot"] = "Something else entirely"
    films.to_parquet(other / "films.parquet")
    (other / "films.yaml").write_text(config_file.read_text())
    changed = run(
        load_config(
            str(other / "films.yaml"),
            ["retrieval.training.epochs=1", "ranking.training.epochs=1", "serving.recommender=false"],
        )
    )
    assert changed["text"]["encoded"] == 1
    assert changed["text"]["reused"] == 17 + 1  # its twin keeps the old text


@pytest.fixture(scope="module")
def refused(config_file):
    """A first run, without text and ranking, whose towers are not trained at all."""
    settings = ["text=none", "name=plain", "ranking=null", "evaluation.baselines.als=show"]
    towers = [
        "retrieval.training.epochs=1",
        "retrieval.training.learning_rate=1e-12",
        "retrieval.collaborative_dim=0",
    ]
    towers.append("evaluation.thresholds={recall@5: 0.9}")
    return run(load_config(str(config_file), [*settings, *towers]))


def test_text_none_and_ranking_null_run_without_them(refused):
    assert refused["text"] is None
    assert "TextEmbeddings" not in states(refused)
    assert "RankingTrainer" not in states(refused)
    assert "ranking" not in refused
    assert refused["retrieval"]["servable"]["ok"]


def test_a_first_run_that_refuses_its_model_ends_in_a_baseline_that_answers(refused, config_file):
    retrieval, overall = refused["retrieval"], refused["retrieval"]["metrics"]["overall"]
    assert retrieval["pushed"] is None
    assert not retrieval["blessed"]
    assert any("retrieval.training.epochs=30" in line for line in retrieval["advice"])
    assert any(f"ndcg@5 of ALS: {overall['als_ndcg@5']:.4f}" in line for line in retrieval["shown"])
    baseline = retrieval["baseline"]
    best = max(("popularity", "als"), key=lambda name: overall[f"{name}_ndcg@5"])
    assert (baseline["baseline"], baseline["ndcg"]) == (best, overall[f"{best}_ndcg@5"])
    assert baseline["servable"]["ok"]
    folder = pathlib.Path(refused["serving"])
    assert versions(refused, "retrieval") == [pathlib.Path(baseline["pushed"]).name]
    with EmbeddedServer({"retrieval": str(folder / "retrieval")}) as server:
        server.wait_ready(120)
        with Client.connect(f"http://127.0.0.1:{server.rest_port}", "retrieval") as client:
            for asked in ({"user_id": "u1"}, {"user_id": "somebody"}, {"history": ["f1", "f2"]}):
                found = client.recommend(**asked, k=5)
                assert len({item.item_id for item in found}) == 5
                assert all(item.title for item in found)
    page = write_report(load_config(str(config_file), ["text=none", "name=plain", "ranking=null"]))
    assert "served in its place" in page.read_text()
    assert "the best baseline of the run" in (page.parent / "model_card.md").read_text()


def tfrec(*arguments):
    return [sys.executable, "-m", "pipeline.cli", *arguments]


def test_a_refused_model_is_served_to_be_looked_at(refused, config_file):
    """`tfrec serve --candidate` as a process: the model itself answers, and not the baseline in its place."""
    port, page_port = free_ports(2)
    url, page = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{page_port}"
    sets = [f"--set={one}" for one in ("text=none", "name=plain", "ranking=null")]
    command = tfrec("serve", str(config_file), "--candidate", "--engine=embedded", f"--rest_api_port={port}")
    command += ["--ui", f"--ui_port={page_port}"]
    with subprocess.Popen([*command, *sets], stderr=subprocess.PIPE, text=True) as process:
        try:
            wait_for(url, "retrieval", process, 120)
            with Client.connect(url, "retrieval") as served:
                answers = [served.recommend(user, k=5) for user in ("u1", "u2", "somebody")]
            wait_for(page, "retrieval", process, 30)  # the page's server sends it on
        finally:
            process.terminate()
        _, error = process.communicate(timeout=60)
    assert "Not blessed, to be looked at only: retrieval." in error and "Traceback" not in error
    with Client(InProcessTransport(f"{refused['retrieval']['model']}/Format-Serving")) as candidate:
        expected = [candidate.recommend(user, k=5) for user in ("u1", "u2", "somebody")]
    for answer, same in zip(answers, expected, strict=True):
        assert [item.item_id for item in answer] == [item.item_id for item in same]
        # JSON has nine digits of a score.
        assert [item.score for item in answer] == pytest.approx([item.score for item in same], abs=1e-6)
    with Client(InProcessTransport(refused["retrieval"]["baseline"]["pushed"])) as baseline:
        assert answers[0] != baseline.recommend("u1", k=5)


def test_ctrl_c_in_the_middle_leaves_nothing_half_written(first, config_file):
    command = tfrec(
        "run",
        str(config_file),
        "--set",
        "retrieval.training.epochs=500",
        "--set",
        "retrieval.training.patience=500",
    )
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell that runs the tests in the background hands down an ignored SIGINT.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.strip().startswith("RankingTrainer") or "RankingTrainer" in line:
            break
    time.sleep(3)
    process.send_signal(signal.SIGINT)
    try:
        out, error = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 130, (lines, out, error)
    assert "goes on at the step that was stopped" in error
    assert "Traceback" not in error
    for kind in ("retrieval", "ranking"):
        base = pathlib.Path(first["serving"]) / kind
        assert all((version / "saved_model.pb").exists() for version in base.iterdir())
        assert all(version.name.isdigit() for version in base.iterdir())
    again = run(load_config(str(config_file)))
    assert again["retrieval"]["blessed"]
    assert again["retrieval"]["pushed"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["text.encoder=/no/such/folder"], "/no/such/folder"),
        (["data.items.title=titel"], "no column 'titel'"),
        (["data.interactions.time=stars", "data.max_reject_share=0.01"], "has no interactions"),
        (["data.interactions.user=when", "data.interactions.item=user"], "unknown item"),
        (["data.items.text=[nulls]"], "text_nulls"),
    ],
    ids=["missing encoder", "missing column", "wrong time", "wrong ids", "text of nulls"],
)
def test_bad_input_is_told_in_one_message(first, config_file, tmp_path, changes, message, capfd):
    films = pd.read_parquet(config_file.parent / "films.parquet").assign(nulls=None)
    films["nulls"] = films["nulls"].astype("string")
    films.to_parquet(config_file.parent / "films_with_nulls.parquet")
    extra = ["data.items.path=films_with_nulls.parquet"] if "nulls" in str(changes) else []
    sets = [part for change in [*changes, *extra, f"root={tmp_path}"] for part in ("--set", change)]
    # Logs that a process writes to its file are in what is captured here; the command's own words come last.
    assert main(["run", str(config_file), *sets]) == 1
    told = capfd.readouterr().err[-3000:]
    assert message in told
    assert "--debug shows where" not in told  # what the command says of errors that are not the user's
    assert not list(tmp_path.glob("films/serving/*/*"))


def test_a_process_tells_bad_input_without_a_stack(config_file, tmp_path):
    command = tfrec("run", str(config_file), "--set", "data.items.title=titel", "--set", f"root={tmp_path}")
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 1
    assert "no column 'titel'" in done.stderr
    assert "Traceback" not in done.stderr + done.stdout


def test_a_root_that_cannot_be_written(config_file, tmp_path, capfd):
    (tmp_path / "file").write_text("in the way")
    assert main(["run", str(config_file), "--root", str(tmp_path / "file")]) == 1
    error = capfd.readouterr().err
    assert "`root` must be a folder that can be written" in error
    assert "Traceback" not in error
