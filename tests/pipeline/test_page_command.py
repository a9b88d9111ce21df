"""`tfrec ui` and the pictures of the items, for the page to try a model."""

import json
import socket
import subprocess
import sys
import urllib.request

import pytest

from pipeline.cli.main import main
from pipeline.data.pictures import item_pictures
from pipeline.onboarding.page import serve_page
from tfrec_fusion.config import ConfigError
from tfrec_fusion.datasets.tables import Interactions, Items, Tables

PNG = b"\x89PNG\r\n\x1a\n"


def tables(folder, rows, **changes):
    (folder / "items.csv").write_text("id,title,photo\n" + rows)
    return Tables(Interactions(path=""), Items(str(folder / "items.csv"), id="id"), **changes)


def test_pictures_are_read_as_the_tables_ids_are(tmp_path):
    (tmp_path / "one.png").write_bytes(PNG)
    rows = "0012,One,one.png\n7,Seven,https://img.example/7.jpg\n9,Nine,\n7,Again,one.png\n,No id,one.png\n"
    found = item_pictures(tables(tmp_path, rows, item_ids="number"), "photo")
    assert found.find("12").content == PNG and found.find("0012") is None
    assert found.find("7").address == "https://img.example/7.jpg"  # the first row counts
    assert found.find("9") is None and len(found) == 2
    assert found.origins == ("https://img.example",)


def test_a_column_that_is_not_there_is_said(tmp_path):
    with pytest.raises(
        ConfigError, match=r"`serving.pictures` must name a column .*'poster'.* has: id, title, photo"
    ):
        item_pictures(tables(tmp_path, "1,One,one.png\n"), "poster")


def test_too_many_servers_are_said(tmp_path):
    rows = "".join(f"{n},Item,https://host{n}.example/a.png\n" for n in range(51))
    with pytest.raises(ConfigError, match="`serving.pictures`: Pictures may lie on 50 servers at most"):
        item_pictures(tables(tmp_path, rows), "photo")


def test_a_port_that_is_taken_is_said():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with (
            pytest.raises(ConfigError, match=rf"`--ui_port` must be a free port. Received: {port} .*0 takes"),
            serve_page("http://127.0.0.1:9", ["retrieval"], port, None),
        ):
            pass


def test_a_server_that_does_not_answer_is_said(capsys):
    assert main(["ui", "--url", "http://127.0.0.1:9"]) == 1
    assert "127.0.0.1:9 cannot be reached" in capsys.readouterr().err


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    from tests.serving.saved_models import write_recommender
    from tfrec_fusion.serving import EmbeddedServer

    folder = tmp_path_factory.mktemp("served") / "recommender"
    write_recommender(folder / "1")
    with EmbeddedServer({"recommender": str(folder)}, poll_seconds=0) as running:
        yield f"http://127.0.0.1:{running.rest_port}"


def test_a_model_that_is_not_served_is_said(server, capsys):
    assert main(["ui", "--url", server, "--model", "recommender", "--model", "films"]) == 1
    assert f"`--model` must name models that {server} serves. Received: films." in capsys.readouterr().err


@pytest.mark.e2e
def test_a_page_for_a_server_that_runs(server):
    command = [sys.executable, "-m", "pipeline.cli", "ui", "--url", server, "--ui_port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline()
            address = line.removeprefix("Try it at ").partition(" ")[0]
            with urllib.request.urlopen(f"{address}settings.json") as answer:
                settings = json.load(answer)
        finally:
            process.terminate()
    assert settings["models"] == ["recommender"] and settings["url"] == server
