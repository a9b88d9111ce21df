"""A client of an OpenAI-compatible endpoint: one question, one answer, with retries that heed
`Retry-After`."""

from __future__ import annotations

import datetime
import email.utils
import ipaddress
import json
import math
import os
import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

import httpx
import tenacity

from tfrec_fusion.config.enrichment import EndpointConfig
from tfrec_fusion.enrichment.answers import Answer
from tfrec_fusion.enrichment.budget import Budget, Cost, cost_of, most_tokens
from tfrec_fusion.errors import TfrecError

__all__ = ["BudgetSpent", "Endpoint", "EndpointError", "NotAnswered"]

PASSING = (408, 409, 425, 429, 500, 502, 503, 504, 520, 522, 524, 529)
MAX_BYTES = 8 << 20  # of an answer
FIRST_PAUSE = 0.5
SHOWN = 300  # characters of what an endpoint says
QUOTA = ("insufficient_quota", "billing_hard_limit_reached", "quota_exceeded")


class EndpointError(TfrecError, RuntimeError):
    """An endpoint that answers nothing at all: a key, a model or an address that is not right."""


class NotAnswered(EndpointError):
    """One question without an answer, after all retries; others may fare better."""


class BudgetSpent(EndpointError):
    """A question that was not sent, since it could have cost more than is left."""


class _Passing(Exception):
    """What may go better the next time.

    Args:
        message: what happened.
        pause: seconds that the endpoint asked for.
        charged: whether the endpoint may have done the work.
    """

    def __init__(self, message: str, pause: float | None = None, charged: bool = False):
        super().__init__(message)
        self.pause, self.charged = pause, charged


class Endpoint:
    """Asks. Safe to use from several threads; a context manager.

    Args:
        config: where, how patiently, and at what price.
        budget: what may be spent; None for no limit.
        transport: in place of the network, as httpx takes it.

    Raises:
        EndpointError: if the environment variable of the key holds none.
    """

    def __init__(
        self,
        config: EndpointConfig,
        budget: Budget | None = None,
        transport: httpx.BaseTransport | None = None,
    ):
        self.config, self.budget = config, budget
        self.retried = 0
        self._key = _read_key(config)
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        self._client = httpx.Client(
            base_url=config.base_url.rstrip("/") + "/",
            headers=headers,
            timeout=config.timeout_seconds,
            limits=httpx.Limits(max_connections=config.concurrency + 1),
            transport=transport,
            # A proxy of this machine's environment has no business with a server on it.
            trust_env=not _is_loopback(httpx.URL(config.base_url).host),
        )
        self._turn = threading.Lock()
        self._not_before = 0.0
        self._stopped = threading.Event()

    def __enter__(self) -> Endpoint:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def stop_waiting(self) -> None:
        """Ends all pauses: what waits for its turn or a retry is not sent; what was sent goes on."""
        self._stopped.set()

    def close(self) -> None:
        """Ends pauses and connections."""
        self.stop_waiting()
        self._client.close()

    def ask(self, messages: Sequence[dict[str, str]]) -> Answer:
        """Asks until there is an answer.

        Args:
            messages: `role` and `content` each.

        Raises:
            BudgetSpent: before a try that could cost more than is left.
            NotAnswered: where no try brought an answer, or the endpoint does not take this question.
            EndpointError: where none will.
        """
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(_Passing),
            stop=tenacity.stop_after_attempt(self.config.retries + 1),
            wait=self._pause,
            sleep=self._sleep,
            before_sleep=self._count_retry,
        )
        try:
            return retrying(self._try, messages, self.config.timeout_seconds)
        except tenacity.RetryError as error:
            last = error.last_attempt.exception()
            tries = self.config.retries + 1
            raise NotAnswered(f"No answer after {tries} {'try' if tries == 1 else 'tries'}: {last}") from last

    def ask_once(self, messages: Sequence[dict[str, str]], seconds: float) -> Answer:
        """Asks once, for so long at most.

        Raises:
            NotAnswered: where that brought no answer.
            EndpointError: where no try would.
        """
        try:
            return self._try(messages, seconds)
        except _Passing as error:
            raise NotAnswered(str(error)) from error

    def _try(self, messages: Sequence[dict[str, str]], seconds: float) -> Answer:
        self._wait_for_turn()
        reserved = self.budget.reserve(messages) if self.budget else None
        if self.budget and reserved is None:
            raise BudgetSpent("The budget does not reach for another question.")
        actual = Cost()
        try:
            self._sleep(0.0)  # the asking may have ended while others were waited for
            answer = self._send(messages, seconds)
            actual = cost_of(answer.read, answer.written, self.config)
            return answer
        except _Passing as error:
            actual = reserved.most if error.charged and reserved else Cost()
            raise
        finally:
            if self.budget and reserved:
                self.budget.settle(reserved, actual)

    def _send(self, messages: Sequence[dict[str, str]], seconds: float) -> Answer:
        body = {
            "model": self.config.model,
            "messages": list(messages),
            "max_tokens": self.config.max_tokens,
            "temperature": self.config.temperature,
            "seed": self.config.seed,
            **self.config.extra,
        }
        body = {name: value for name, value in body.items() if value is not None}
        deadline = time.monotonic() + seconds
        try:
            with self._client.stream("POST", "chat/completions", json=body, timeout=seconds) as response:
                content = _read_until(response, deadline)
        except httpx.ConnectError as error:
            raise _Passing(f"{self.config.base_url} cannot be reached ({error})") from error
        except httpx.TimeoutException as error:
            raise _Passing(f"no answer within {seconds:g} s", charged=True) from error
        except (httpx.RemoteProtocolError, httpx.NetworkError, httpx.DecodingError) as error:
            raise _Passing(f"the connection broke ({error})", charged=True) from error
        except (httpx.InvalidURL, httpx.HTTPError) as error:
            raise EndpointError(f"{self.config.base_url} cannot be asked: {error}.") from error
        if response.status_code != 200:
            self._refuse(response, content)
        return self._read(content, messages)

    def _read(self, content: bytes, messages: Sequence[dict[str, str]]) -> Answer:
        try:
            values = json.loads(content)
            choice = values["choices"][0]
            message = choice["message"]
        except (ValueError, KeyError, IndexError, TypeError, RecursionError) as error:
            raise _Passing(
                f"an answer that cannot be read ({self._shown(content)!r})", charged=True
            ) from error
        text = message.get("content") if isinstance(message, dict) else None
        if isinstance(text, list):  # parts
            text = "".join(str(part.get("text", "")) for part in text if isinstance(part, dict))
        usage = values.get("usage")
        usage = usage if isinstance(usage, dict) else {}
        read, written = usage.get("prompt_tokens"), usage.get("completion_tokens")
        finish = choice.get("finish_reason")
        return Answer(
            text=text if isinstance(text, str) else "",
            finish=finish if isinstance(finish, str) else None,
            refusal=bool(isinstance(message, dict) and message.get("refusal")),
            # Whoever does not count is taken to have used all that could have been used.
            read=_count_or(read, most_tokens(messages)),
            written=_count_or(written, self.config.max_tokens),
        )

    def _refuse(self, response: httpx.Response, content: bytes) -> None:
        """Raises what a status means."""
        code, said, kind = response.status_code, *self._said(content)
        words = f"{self.config.base_url} answered {code}{f' ({said})' if said else ''}"
        if kind in QUOTA or code == 402:
            raise EndpointError(
                f"{words}: what was paid for is used up. Renew it; what was answered is kept."
            )
        if code in (401, 403):
            name = self.config.key_variable
            way = (
                f"Check the environment variable {name}, which `enrich.endpoint.key_variable` names."
                if name
                else "Name the environment variable of your key with `enrich.endpoint.key_variable`."
            )
            raise EndpointError(f"{words}: the key is not accepted. {way}")
        if code == 404:
            raise EndpointError(f"{words}. {self._models()}")
        if code in PASSING:
            pause = _retry_after(response.headers.get("retry-after"))
            if pause is not None and pause > self.config.max_wait_seconds:
                raise EndpointError(
                    f"{words} and asks to wait {pause:,.0f} s, more than `enrich.endpoint.max_wait_seconds`"
                    f" ({self.config.max_wait_seconds:g}). Try again later; what was answered is kept."
                )
            raise _Passing(words, pause)
        if code in (400, 413, 422):
            raise NotAnswered(f"{words}: it does not take this question.")
        raise EndpointError(
            f"{words}, which is no answer of an OpenAI-compatible endpoint. Check `base_url`."
        )

    def _models(self) -> str:
        """Which models there are, where the endpoint says so."""
        rule = f"The model must be one of the endpoint's. Received: {self.config.model!r}."
        try:
            values = self._client.get("models", timeout=min(10.0, self.config.timeout_seconds)).json()
            names = [str(one["id"]) for one in values["data"]][:10]
        except (httpx.HTTPError, ValueError, KeyError, TypeError):
            return (
                f"{rule} It lists none: check `model` and `enrich.endpoint.base_url`, which mostly ends in"
                " /v1."
            )
        if self.config.model in names:
            return f"{rule} It lists that one: check `enrich.endpoint.base_url`, which usually ends in /v1."
        return f"{rule} It has: {', '.join(names) or 'none'}."

    def _said(self, content: bytes) -> tuple[str, str]:
        """An error's message and code."""
        try:
            values = json.loads(content)
            error = values.get("error", values)
            if isinstance(error, str):
                return self._shown(error), ""
            text = str(error.get("message") or "")
            return self._shown(text), str(error.get("code") or error.get("type") or "")
        except (ValueError, AttributeError, RecursionError):
            return self._shown(content), ""

    def _shown(self, text: str | bytes) -> str:
        """The beginning of what an endpoint said, without the key, which some repeat."""
        words = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
        if self._key:
            words = words.replace(self._key, "…")
        words = " ".join(words.split())
        return words if len(words) <= SHOWN else f"{words[:SHOWN]}…"

    def _pause(self, state: tenacity.RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked = error.pause if isinstance(error, _Passing) else None
        most = self.config.max_wait_seconds
        pause = tenacity.wait_random_exponential(multiplier=FIRST_PAUSE, max=most)(state)
        if asked is None:
            return pause
        with self._turn:  # the others wait as well
            self._not_before = max(self._not_before, time.monotonic() + asked)
        return max(asked, pause)

    def _count_retry(self, _: tenacity.RetryCallState) -> None:
        self.retried += 1

    def _wait_for_turn(self) -> None:
        rate = self.config.requests_per_minute
        with self._turn:
            now = time.monotonic()
            start = max(now, self._not_before)
            if rate is not None:
                self._not_before = start + 60.0 / rate
        self._sleep(start - now)

    def _sleep(self, seconds: float) -> None:
        if self._stopped.wait(max(0.0, seconds)):
            raise NotAnswered("The asking was ended.")


def _read_key(config: EndpointConfig) -> str | None:
    if config.key_variable is None:
        return None
    key = os.environ.get(config.key_variable, "").strip()
    if not key or not key.isascii() or not key.isprintable():
        seen = "an empty one, or none" if not key else "one with signs that no key has"
        raise EndpointError(
            f"The environment variable {config.key_variable} must hold the endpoint's key"
            f" (`enrich.endpoint.key_variable`). Received: {seen}. Set it, or set `key_variable: null` for"
            f" an endpoint"
            " without keys."
        )
    return key


def _read_until(response: httpx.Response, deadline: float) -> bytes:
    """The body, while there is time: httpx limits the time between two pieces, not of all of them."""
    parts, size = [], 0
    for part in response.iter_bytes():
        size += len(part)
        if size > MAX_BYTES:
            raise _Passing(f"an answer of more than {MAX_BYTES:,} bytes", charged=True)
        if time.monotonic() > deadline:
            raise httpx.ReadTimeout("the answer took too long", request=response.request)
        parts.append(part)
    return b"".join(parts)


def _retry_after(value: str | None, now: Callable[[], datetime.datetime] | None = None) -> float | None:
    """Seconds of a `Retry-After`: a number, or a date; None where it says nothing that can be used."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            moment = email.utils.parsedate_to_datetime(value)
        except (ValueError, TypeError):
            return None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=datetime.timezone.utc)
        seconds = (moment - (now or _now)()).total_seconds()
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.timezone.utc)


def _count_or(value: Any, otherwise: int) -> int:
    is_count = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**9
    return value if is_count else otherwise


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
