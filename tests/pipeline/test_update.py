"""The pushed model of the films learns on from rows that were appended, in a copy of its run."""

import json
import shutil

import pandas as pd
import pytest

from pipeline.cli.main import main
from pipeline.config.pipeline_config import load_config
from pipeline.data.pushed_versions import latest_version
from pipeline.data.run_summary import LOCK
from pipeline.updating import updates, watching
from tfrec_fusion import files
from tfrec_fusion.config import ConfigError
from tfrec_fusion.in_memory.comparing import Comparison

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.shared_run("films")]


@pytest.fixture(scope="module")
def later(config_file, first, tmp_path_factory):
    """A copy of the films' run, with five more days: a new film and a new user among them."""
    folder = tmp_path_factory.mktemp("later")
    for file in config_file.parent.iterdir():
        if file.is_file():
            shutil.copy(file, folder)
    home = folder / "runs" / "films"
    source = load_config(str(config_file)).home
    for name in ("serving", "summaries", "text_vectors"):
        shutil.copytree(source / name, home / name)
    shutil.copy(source / "summary.json", home)
    films = pd.read_parquet(folder / "films.parquet")
    new = films.iloc[[0]].assign(film="f-new", title="The comet of Space", plot="A comet and another rocket")
    pd.concat([films, new]).to_parquet(folder / "films.parquet")
    shown = films[films["theme"] == "Space"]["film"].tolist()
    rows = [
        (f"u{user}", "f-new" if step == 4 else shown[(user + 3 * step) % len(shown)],
         f"2024-01-{11 + step:02d}T{user % 24:02d}:00:00", 4)
        for user in (*range(0, 60, 3), 999) for step in range(5)
    ]  # fmt: skip
    with (folder / "interactions.csv").open("a") as table:
        table.writelines(",".join(map(str, row)) + "\n" for row in rows)
    config = folder / "films.yaml"
    config.write_text(config.read_text().replace(f"root: {config_file.parent}", f"root: {folder}"))
    return config


def test_rows_and_drift_since_the_run(later, capsys):
    """600 interactions were read by the run, 105 have come; a film that is new is chosen in the last days."""
    found = watching.look(load_config(str(later)), watching.Limits())
    assert (found.before, found.rows, len(found.reasons)) == (600, 705, 1)
    assert main(["drift", str(later), "--periods", "3", "--max-distance", "0.1"]) == 2
    assert "item popularity: distance" in capsys.readouterr().out
    written = json.loads((load_config(str(later)).home / "drift.json").read_text())
    first, *_, last = written["periods"]
    assert first["new_items"] == 0 < last["new_items"] and last["ndcg"] is not None


def test_an_update_is_judged_and_pushed_or_says_why_not(later, first, capsys):
    config = load_config(str(later))
    assert first["retrieval"]["pushed"]
    before = latest_version(config.push_folder / "retrieval")
    code = main(["update", str(later)])
    said = capsys.readouterr().out
    report = json.loads((config.home / "update.json").read_text())
    assert report["new_rows"] > 0 and report["new_items"] == 1 and report["users"] > 0
    assert report["rows"] == 705 and bool(report["ranking"]) == bool(first["ranking"]["pushed"])
    served = latest_version(config.push_folder / "retrieval")
    if report["pushed"]:
        assert code == 0 and str(served) == report["pushed"] != str(before)
        assert report["reasons"] == [] and "pushed to" in said
        kinds = ["retrieval", "ranking", "recommender"] if report["ranking"] else ["retrieval"]
        assert list(report["versions"]) == kinds
        with pytest.raises(ConfigError, match="Received: none"):  # and it is the base of the next one
            updates.run_update(config)
    else:
        assert code == 2 and served == before and report["reasons"] and "not pushed" in said
    assert not list(config.home.glob(".update-*"))


def test_a_kill_before_all_is_written_starts_from_the_earlier_model_again(later, monkeypatch):
    """What a kill after it leaves is in `test_pending_push`."""
    config = load_config(str(later))
    before = latest_version(config.push_folder / "retrieval")
    shutil.rmtree(config.home / "update", ignore_errors=True)
    monkeypatch.setattr(updates.storage, "save", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    monkeypatch.setattr(updates, "_export", lambda *_: [])
    monkeypatch.setattr(Comparison, "reasons", lambda *_: [])
    with pytest.raises(KeyboardInterrupt):
        updates.run_update(config, epochs=1)
    assert not (config.home / "update").exists() and not list(config.home.glob(".update-*"))
    assert latest_version(config.push_folder / "retrieval") == before
    with files.lock(config.home / LOCK, "tfrec run"), pytest.raises(files.AtWork, match="tfrec run"):
        updates.run_update(config)


def test_an_update_needs_the_settings_of_the_run(later):
    with pytest.raises(ConfigError, match="settings that the pushed model was trained with"):
        updates.run_update(load_config(str(later), ["retrieval.tower.dim=8"]))
    with pytest.raises(ConfigError, match="share from 0 to 1"):
        updates.run_update(load_config(str(later)), replay=20)
