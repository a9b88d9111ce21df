"""One browser, and one server and page for all tests of the page: of both models, and of the old one."""

import contextlib

import pytest


@pytest.fixture(scope="session")
def old_model(data, profiles, tmp_path_factory):
    """The base path of a retrieval model from before explanations."""
    from tests.serving.page_models import write_old

    root = tmp_path_factory.mktemp("old") / "retrieval"
    write_old(root, data, profiles)
    return str(root)


@pytest.fixture(scope="session")
def served(data, profiles, old_model, tmp_path_factory):
    """The models' data, and their server."""
    from tests.serving.page_models import write_whole
    from tfrec_fusion.serving import EmbeddedServer

    root = tmp_path_factory.mktemp("served") / "recommender"
    named = write_whole(root, data, profiles)
    models = {"recommender": str(root), "retrieval": old_model}
    with EmbeddedServer(models, grpc_port=None, poll_seconds=0) as server:
        yield named, f"http://127.0.0.1:{server.rest_port}"


@pytest.fixture(scope="session")
def page(served, tmp_path_factory):
    from tests.serving.page_models import IDS, PIXEL
    from tfrec_fusion.serving.page.pictures import Pictures
    from tfrec_fusion.serving.page.server import PageServer

    folder = tmp_path_factory.mktemp("posters")
    (folder / "one.png").write_bytes(PIXEL)
    pictures = Pictures({IDS[1]: "one.png", IDS[2]: "gone.png"}, folder)
    with PageServer(served[1], ["recommender", "retrieval"], port=0, pictures=pictures) as running:
        running.prepare_explanations().join()
        yield running


@pytest.fixture(scope="session")
def old_page(old_model):
    """The page of the old model alone, which is there in seconds."""
    from tfrec_fusion.serving import EmbeddedServer
    from tfrec_fusion.serving.page.server import PageServer

    with (
        EmbeddedServer({"retrieval": old_model}, grpc_port=None, poll_seconds=0) as server,
        PageServer(f"http://127.0.0.1:{server.rest_port}", ["retrieval"], port=0) as running,
    ):
        yield running


@pytest.fixture(scope="session")
def tab(tmp_path_factory):
    from tests.serving import browser as browsers

    with browsers.browser(tmp_path_factory.mktemp("profile")) as running:
        yield running


@pytest.fixture
def opened(page, tab):
    """The page as it is first seen; a test that causes an error in the browser fails."""
    with _first_seen(page, tab):
        yield tab


@pytest.fixture
def old_opened(old_page, tab):
    """The same of the old model's page."""
    with _first_seen(old_page, tab):
        yield tab


@contextlib.contextmanager
def _first_seen(page, tab):
    from tests.serving.page_actions import SETTLED

    tab.size(1280, 900)
    tab.open(page.url, SETTLED)
    tab.run("localStorage.clear()")
    yield
    assert tab.problems == []


@pytest.fixture(scope="session")
def clients(served):
    """A client of each model."""
    from tfrec_fusion.serving import Client

    with Client.connect(served[1], "recommender") as whole, Client.connect(served[1], "retrieval") as old:
        yield {"recommender": whole, "retrieval": old}
