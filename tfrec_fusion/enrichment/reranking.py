"""Orders candidates, and says why, by asking a language model once, for so long and no longer.

Whatever it answers, the result is the same candidates in some order: numbers that it makes up are passed
    over, those
that it leaves out keep their order behind the others.
"""

from __future__ import annotations

import dataclasses
import json
import re
import threading
from collections.abc import Sequence
from typing import Any

import httpx

from tfrec_fusion.config.enrichment import EndpointConfig
from tfrec_fusion.enrichment.answers import Answer
from tfrec_fusion.enrichment.endpoint import Endpoint, EndpointError, NotAnswered
from tfrec_fusion.enrichment.prompts import is_suspicious, messages, record
from tfrec_fusion.enrichment.templates import RERANKING
from tfrec_fusion.enrichment.verdicts import USED, judge

__all__ = ["Reranked", "rerank"]

TOKENS_EACH, TOKENS_MORE = 40, 60
WHY = 200  # characters
_ONE = re.compile(r'"number"\s*:\s*"?(\d+)"?\s*(?:,\s*"why"\s*:\s*("(?:[^"\\]|\\.)*"))?')


@dataclasses.dataclass(frozen=True)
class Reranked:
    """Candidates in a new order.

    Attributes:
        order: positions of the given candidates, from 0, the best first; each once.
        reasons: position → why, in a sentence.
    """

    order: tuple[int, ...]
    reasons: dict[int, str]


def rerank(
    titles: Sequence[str],
    asked: str,
    taste: str,
    config: EndpointConfig,
    seconds: float,
    transport: httpx.BaseTransport | None = None,
) -> Reranked:
    """Asks for an order of candidates.

    Args:
        titles: what the candidates are called, in the order of their scores. One that reads like instructions
            is not sent, and keeps its order behind the others.
        asked: what somebody asks for; may be empty.
        taste: what is known of their taste; may be empty.
        config: who is asked.
        seconds: for everything together.
        transport: in place of the network.

    Raises:
        NotAnswered: where that brought no order in time.
        EndpointError: where the endpoint answers nothing at all.
    """
    sent = [position for position, title in enumerate(titles) if title.strip() and not is_suspicious([title])]
    fields: dict[str, Any] = {"Asked for": asked, "Taste": taste}
    fields |= {f"Candidate {number}": titles[position] for number, position in enumerate(sent, 1)}
    settings = dataclasses.replace(
        config, max_tokens=max(config.max_tokens, TOKENS_EACH * len(sent) + TOKENS_MORE)
    )
    if not sent:
        raise NotAnswered("There is no candidate to ask about.")
    told = record(fields)
    answer = _ask(messages(RERANKING, told), settings, seconds, transport)
    chosen = {number: why for number, why in _read(answer.text) if 1 <= number <= len(sent)}
    if not chosen:
        raise NotAnswered("The language model gave no order of the candidates.")
    order = [sent[number - 1] for number in chosen]
    order += [position for position in range(len(titles)) if position not in set(order)]
    reasons = {}
    for number, why in chosen.items():
        judged = judge(why, RERANKING, told, WHY)
        if judged.verdict in USED:
            reasons[sent[number - 1]] = judged.text
    return Reranked(tuple(order), reasons)


def _ask(
    question: Sequence[dict[str, str]],
    config: EndpointConfig,
    seconds: float,
    transport: httpx.BaseTransport | None,
) -> Answer:
    """One answer within so many seconds: a thread is left behind where looking up a name or a handshake
    hangs."""
    outcome: list[Answer | EndpointError] = []

    def ask() -> None:
        try:
            with Endpoint(config, transport=transport) as endpoint:
                outcome.append(endpoint.ask_once(question, seconds))
        except EndpointError as error:
            outcome.append(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds)
    if not outcome:
        raise NotAnswered(f"no answer within {seconds:g} s")
    if isinstance(outcome[0], EndpointError):
        raise outcome[0]
    return outcome[0]


def _read(text: str) -> list[tuple[int, str]]:
    """Numbers with reasons, in the order of an answer, each once: JSON, or what can be read of it."""
    found: dict[int, str] = {}
    for entry in _entries(text):
        number, why = (entry.get("number"), entry.get("why")) if isinstance(entry, dict) else (entry, "")
        if isinstance(number, str) and number.isdecimal():
            number = int(number[:9])
        if isinstance(number, int) and not isinstance(number, bool):
            found.setdefault(number, why if isinstance(why, str) else "")
    return list(found.items())


def _entries(text: str) -> list[Any]:
    decoder = json.JSONDecoder()
    for match in re.finditer(r"[\[{]", text):
        try:
            value, _ = decoder.raw_decode(text, match.start())
        except (ValueError, RecursionError):
            continue
        value = value.get("order", []) if isinstance(value, dict) else value
        if isinstance(value, list) and value:
            return value
    # An answer that was cut short: the candidates that were written out whole.
    return [
        {"number": int(number[:9]), "why": json.loads(why) if why else ""}
        for number, why in _ONE.findall(text.replace("\n", " "))
    ]
