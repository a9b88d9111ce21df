"""Which requests are answered on the event loop, and what a handler survives."""

import time

import pytest

from tests.serving.conftest import error_body
from tfrec_fusion.serving.server import rest_handler
from tfrec_fusion.serving.server.config_file import ModelConfig
from tfrec_fusion.serving.server.monitoring import Metrics
from tfrec_fusion.serving.server.rest_handler import RestHandler
from tfrec_fusion.serving.server.session import LoadedModel
from tfrec_fusion.serving.server.versions import ModelManager

PATH = b"/v1/models/half:predict"
BODY = b'{"instances": [1]}'


@pytest.fixture
def handler(models):
    manager = ModelManager([ModelConfig("half", str(models / "half"))], LoadedModel, poll_seconds=0)
    manager.start()
    manager.wait_available(timeout=30)
    yield RestHandler(manager, Metrics())
    manager.stop()


def until_quick(handler):
    for _ in range(2000):
        handler.handle(b"POST", PATH, BODY, handler.is_quick(b"POST", PATH, BODY))
        if handler.is_quick(b"POST", PATH, BODY):
            return True
    return False


def test_a_small_model_is_answered_on_the_loop_once_it_is_known_to_be_quick(handler):
    assert not handler.is_quick(b"POST", PATH, BODY)
    assert handler.is_quick(b"GET", b"/v1/models/half")
    assert until_quick(handler)


def test_one_slow_answer_is_enough_to_leave_the_loop(handler, monkeypatch):
    assert until_quick(handler)
    inner = rest_handler.inference.predict

    def sleepy(*arguments, **options):
        time.sleep(0.03)
        return inner(*arguments, **options)

    monkeypatch.setattr(rest_handler.inference, "predict", sleepy)
    handler.handle(b"POST", PATH, BODY, True)
    assert not handler.is_quick(b"POST", PATH, BODY)


def test_a_fault_of_ours_answers_one_request_with_500(handler, monkeypatch):
    monkeypatch.setattr(rest_handler.inference, "predict", lambda *arguments, **options: 1 / 0)
    assert handler.handle(b"POST", PATH, BODY) == (500, error_body("ZeroDivisionError: division by zero"))
    monkeypatch.undo()
    assert handler.handle(b"POST", PATH, BODY)[0] == 200


def test_paths_are_remembered_within_bounds(handler, monkeypatch):
    monkeypatch.setattr(rest_handler, "_MAX_ROUTES", 10)
    for number in range(100):
        handler.handle(b"POST", b"/v1/models/m%d:predict" % number, BODY)
        handler.handle(b"GET", b"/v1/models/half/versions/%d" % number, b"")
        handler.handle(b"GET", b"/v1/models/half/labels/" + b"x" * 600 + b"%d" % number, b"")
    assert (
        0 < len(handler._routes) <= 10
    )  # and nothing is kept of models that are not there, nor of long paths
    assert all(b"/half/versions/" in target for _, target in handler._routes)
    assert handler._inline._costs == {}
