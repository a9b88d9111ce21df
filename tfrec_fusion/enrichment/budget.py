"""A budget of tokens and money that is never exceeded: what a request may cost at most is set aside before it
is sent, and what it did cost is booked when it is answered."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterable, Sequence

from tfrec_fusion.config.enrichment import EndpointConfig, EnrichmentConfig

BYTES_PER_TOKEN = 4.0  # of English, about; only estimates that are shown go by it
OF_A_MESSAGE = 16  # tokens that a chat format adds to a message, at most

Messages = Sequence[dict[str, str]]


def most_tokens(messages: Messages) -> int:
    """The most tokens that messages can be: no tokenizer makes more of them than they have bytes."""
    return sum(len(message["content"].encode("utf-8", "replace")) + OF_A_MESSAGE for message in messages)


def likely_tokens(messages: Messages) -> int:
    """About how many tokens messages are."""
    size = sum(len(message["content"].encode("utf-8", "replace")) for message in messages)
    return round(size / BYTES_PER_TOKEN) + OF_A_MESSAGE // 2 * len(messages)


@dataclasses.dataclass(frozen=True)
class Cost:
    """Tokens read and written, and what they cost."""

    read: int = 0
    written: int = 0
    money: float = 0.0

    @property
    def tokens(self) -> int:
        """Both together."""
        return self.read + self.written

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.read + other.read, self.written + other.written, self.money + other.money)

    def __str__(self) -> str:
        money = f", {self.money:.4f} in money" if self.money else ""
        return f"{self.tokens:,} tokens ({self.read:,} read, {self.written:,} written{money})"


def cost_of(read: int, written: int, endpoint: EndpointConfig) -> Cost:
    """What tokens cost at an endpoint's prices."""
    return Cost(read, written, (read * endpoint.price_in + written * endpoint.price_out) / 1e6)


def estimate(requests: Iterable[Messages], endpoint: EndpointConfig) -> Cost:
    """What requests will cost, about: as if each answer was as long as it may be."""
    total = Cost()
    for messages in requests:
        total += cost_of(likely_tokens(messages), endpoint.max_tokens, endpoint)
    return total


@dataclasses.dataclass(frozen=True, eq=False)
class Reserved:
    """What was set aside for a try."""

    most: Cost


class Budget:
    """What one run may spend. Safe to use from several threads.

    Args:
        config: the limits and the prices.
    """

    def __init__(self, config: EnrichmentConfig):
        self.config = config
        self.spent = Cost()
        self._set_aside: dict[int, Cost] = {}
        self._changed = threading.Condition()

    def reserve(self, messages: Messages) -> Reserved | None:
        """Sets aside what one try may cost at most; None where that is more than is left.

        Where it is more only because of tries under way, waits for them: most cost less than they might.
        """
        endpoint = self.config.endpoint
        most = cost_of(most_tokens(messages), endpoint.max_tokens, endpoint)
        with self._changed:
            while not self._fits(most):
                if not self._set_aside:
                    return None
                self._changed.wait()
            reserved = Reserved(most)
            self._set_aside[id(reserved)] = most
            return reserved

    def settle(self, reserved: Reserved, actual: Cost) -> None:
        """Books what a try did cost in place of what was set aside for it."""
        with self._changed:
            del self._set_aside[id(reserved)]
            self.spent += actual
            self._changed.notify_all()

    def _fits(self, most: Cost) -> bool:
        total = sum(self._set_aside.values(), self.spent + most)
        tokens, money = self.config.budget_tokens, self.config.budget_money
        return (tokens is None or total.tokens <= tokens) and (money is None or total.money <= money)
