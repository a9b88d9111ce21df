"""The client against a server in this process: what it retries, what it gives up, what it counts."""

import datetime
import time

import pytest

from tests.enrichment.fake_endpoint import Reply, says, serving
from tfrec_fusion.config import ConfigError, EndpointConfig, EnrichmentConfig, from_dict
from tfrec_fusion.enrichment import endpoint as module
from tfrec_fusion.enrichment.budget import Budget, most_tokens
from tfrec_fusion.enrichment.endpoint import BudgetSpent, Endpoint, EndpointError, NotAnswered

QUESTION = [{"role": "system", "content": "Write."}, {"role": "user", "content": "A chair"}]


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(module, "FIRST_PAUSE", 0.01)


def config(fake, **changes):
    return EndpointConfig(**{"base_url": fake.url, "model": "writer", "timeout_seconds": 2.0, **changes})


def test_a_question_is_sent_as_the_interface_says_and_the_answer_read():
    with serving(lambda request, number: says("Ein Stuhl 🪑")) as fake, Endpoint(config(fake)) as endpoint:
        answer = endpoint.ask(QUESTION)
    assert (answer.text, answer.finish, answer.read, answer.written) == ("Ein Stuhl 🪑", "stop", 20, 10)
    assert fake.requests == [
        {"model": "writer", "messages": QUESTION, "max_tokens": 160, "temperature": 0.0, "seed": 1}
    ]
    assert "Authorization" not in fake.headers[0]


def test_what_an_endpoint_wants_otherwise_can_be_said():
    extra = {"max_tokens": None, "max_completion_tokens": 9, "temperature": 1}
    with (
        serving(lambda request, number: "good") as fake,
        Endpoint(config(fake, extra=extra, seed=None)) as endpoint,
    ):
        endpoint.ask(QUESTION)
    assert fake.requests == [
        {"model": "writer", "messages": QUESTION, "temperature": 1, "max_completion_tokens": 9}
    ]
    with pytest.raises(ConfigError, match="must not hold messages"):
        EndpointConfig(model="m", extra={"messages": []})


@pytest.mark.parametrize(
    "fault",
    [
        Reply(429, {"error": {"message": "slow down"}}, {"Retry-After": "0.05"}),
        Reply(500, b"<html>oops</html>"),
        Reply(503, {"error": "busy"}),
        Reply(200, b'{"choices": [{"mess'),
        Reply(200, b'{"choices": []}'),
        Reply(200, {"error": {"message": "late"}}),
        Reply(200, b"[]"),
        Reply(200, {"choices": [{"message": {"content": "x" * 500}}]}, cut=100),
        Reply(200, b"[" * 100_000),
    ],
)
def test_what_may_pass_is_tried_again(fault):
    with (
        serving(lambda request, number: fault if number < 2 else "good") as fake,
        Endpoint(config(fake)) as endpoint,
    ):
        assert endpoint.ask(QUESTION).text == "good"
        assert endpoint.retried == 2
    assert len(fake.requests) == 3


def test_retry_after_is_waited_for():
    with (
        serving(
            lambda request, number: Reply(429, {}, {"Retry-After": "0.4"}) if number == 0 else "good"
        ) as fake,
        Endpoint(config(fake)) as endpoint,
    ):
        start = time.monotonic()
        endpoint.ask(QUESTION)
        assert time.monotonic() - start >= 0.4


def test_a_wait_that_is_too_long_ends_the_asking():
    with (
        serving(lambda request, number: Reply(429, {}, {"Retry-After": "3600"})) as fake,
        Endpoint(config(fake)) as endpoint,
        pytest.raises(EndpointError, match="wait 3,600 s, more than"),
    ):
        endpoint.ask(QUESTION)
    assert len(fake.requests) == 1


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("12", 12.0), ("0", 0.0), ("-5", 0.0), ("nan", None), ("soon", None), (None, None), ("inf", None),
        ("Wed, 21 Oct 2026 07:28:30 GMT", 30.0), ("Wed, 21 Oct 2026 07:00:00 GMT", 0.0),
    ],
)  # fmt: skip
def test_retry_after_as_seconds_and_as_a_date(value, seconds):
    now = datetime.datetime(2026, 10, 21, 7, 28, tzinfo=datetime.timezone.utc)
    assert module._retry_after(value, lambda: now) == seconds


def test_no_answer_in_time_is_given_up_after_all_tries():
    with (
        serving(lambda request, number: time.sleep(0.5) or "late") as fake,
        Endpoint(config(fake, timeout_seconds=0.1, retries=1)) as endpoint,
        pytest.raises(NotAnswered, match=r"after 2 tries: no answer within 0\.1 s"),
    ):
        endpoint.ask(QUESTION)


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (
            Reply(401, {"error": {"message": "Incorrect API key provided: sk-geheim"}}),
            "the key is not accepted. Check",
        ),
        (Reply(404, {"error": {"message": "no such model"}}), "Received: 'wrong'. It has: writer, other"),
        (Reply(429, {"error": {"code": "insufficient_quota", "message": "pay"}}), "is used up"),
        (Reply(302, b"", {"Location": "http://elsewhere/"}), "no answer of an OpenAI-compatible endpoint"),
    ],
)
def test_what_no_try_will_mend_is_said_once_and_without_the_key(reply, words, monkeypatch):
    monkeypatch.setenv("A_KEY", "sk-geheim")
    with (
        serving(lambda request, number: reply) as fake,
        Endpoint(config(fake, model="wrong", key_variable="A_KEY")) as endpoint,
        pytest.raises(EndpointError) as error,
    ):
        endpoint.ask(QUESTION)
    assert words in str(error.value)
    assert "geheim" not in str(error.value)
    assert not isinstance(error.value, NotAnswered)
    assert fake.headers[0]["Authorization"] == "Bearer sk-geheim"
    assert len(fake.requests) == 1


def test_one_question_that_is_not_taken_says_nothing_of_others():
    too_long = Reply(400, {"error": {"message": "context length exceeded"}})
    with (
        serving(lambda request, number: too_long) as fake,
        Endpoint(config(fake)) as endpoint,
        pytest.raises(NotAnswered, match="context length exceeded"),
    ):
        endpoint.ask(QUESTION)
    assert len(fake.requests) == 1


def test_nobody_listens():
    settings = EndpointConfig(base_url="http://127.0.0.1:9/v1", model="m", retries=1)
    with Endpoint(settings) as endpoint, pytest.raises(NotAnswered, match="cannot be reached"):
        endpoint.ask(QUESTION)


@pytest.mark.parametrize("key", [None, "", "  ", "with\nbreak", "schlüssel"])
def test_a_missing_key_is_told_by_the_name_of_its_variable(key, monkeypatch):
    monkeypatch.delenv("A_KEY", raising=False)
    if key is not None:
        monkeypatch.setenv("A_KEY", key)
    with pytest.raises(EndpointError, match="variable A_KEY must hold"):
        Endpoint(EndpointConfig(model="m", key_variable="A_KEY"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"base_url": "ftp://x"}, "must be an address"),
        ({"base_url": "http://me:secret@x/v1"}, "no user name and no password"),
        ({"model": " "}, "must name the endpoint's model"),
        ({"key_variable": "sk-proj-123"}, "not repeated here"),
        ({"concurrency": 0}, "at least 1"),
    ],
)
def test_settings_that_cannot_be_used(changes, words):
    with pytest.raises(ConfigError, match=words) as error:
        from_dict(EnrichmentConfig, {"endpoint": {"model": "m", **changes}}, "enrich")
    assert "secret" not in str(error.value)
    assert "sk-proj" not in str(error.value)


def test_a_budget_in_money_needs_prices():
    with pytest.raises(ConfigError, match="price_in"):
        from_dict(EnrichmentConfig, {"endpoint": {"model": "m"}, "budget_money": 1.0})


def budget(**limits):
    return Budget(
        EnrichmentConfig(EndpointConfig(model="m", max_tokens=10, price_in=1e6, price_out=2e6), **limits)
    )


def test_a_try_is_not_sent_when_it_could_cost_more_than_is_left():
    most = most_tokens(QUESTION) + 10
    with serving(lambda request, number: says("good", read=7, written=3)) as fake:
        spending = budget(budget_tokens=most + 9)
        with Endpoint(config(fake, max_tokens=10, price_in=1e6, price_out=2e6), spending) as endpoint:
            endpoint.ask(QUESTION)
            assert (spending.spent.tokens, spending.spent.money) == (10, 7 * 1.0 + 3 * 2.0)
            with pytest.raises(BudgetSpent):
                endpoint.ask(QUESTION)
    assert len(fake.requests) == 1


def test_what_an_endpoint_does_not_count_is_counted_as_the_most_that_it_can_be():
    with serving(lambda request, number: says("good", read=None)) as fake, Endpoint(config(fake)) as endpoint:
        answer = endpoint.ask(QUESTION)
    assert (answer.read, answer.written) == (most_tokens(QUESTION), 160)


def test_a_try_that_may_have_been_paid_for_is_booked():
    spending = budget()
    with (
        serving(
            lambda request, number: Reply(200, b"{") if number == 0 else says("good", read=1, written=1)
        ) as fake,
        Endpoint(config(fake, max_tokens=10), spending) as endpoint,
    ):
        endpoint.ask(QUESTION)
    assert spending.spent.tokens == most_tokens(QUESTION) + 10 + 2


def test_no_more_requests_a_minute_than_allowed():
    with (
        serving(lambda request, number: "good") as fake,
        Endpoint(config(fake, requests_per_minute=300)) as endpoint,
    ):
        start = time.monotonic()
        for _ in range(3):
            endpoint.ask(QUESTION)
    assert time.monotonic() - start >= 0.4
