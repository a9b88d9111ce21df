"""Settings of texts that a language model writes: which endpoint, what it is told, and what it may cost."""

from __future__ import annotations

import dataclasses
import re
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from annotated_types import Interval

from tfrec_fusion.config.reading import ConfigError, Settings

Template = Literal["generic", "films", "products", "articles"]
TextUse = Literal["after", "before", "instead"]
Amount = Annotated[float, Interval(ge=0)]
Positive = Annotated[int, Interval(ge=1)]


@dataclasses.dataclass(frozen=True)
class EndpointConfig(Settings):
    """An OpenAI-compatible endpoint (`POST /chat/completions`): a service, or a server on this machine.

    Attributes:
        base_url: what stands before `/chat/completions`, usually ending in `/v1`.
        model: the model's name there.
        key_variable: the environment variable that holds the key; null for an endpoint that wants none. The
            key itself stands in no configuration, file or message.
        temperature, seed, max_tokens: sent with each request; `max_tokens` of an answer at most.
        extra: more keys of each request's body, or other values of its own; null leaves a key out, as in
            `{max_tokens: null, max_completion_tokens: 160}`.
        timeout_seconds: for one try.
        retries: tries after the first, of what may pass: 429, 408, 5xx, a broken connection, an answer cut
            short.
        max_wait_seconds: the longest pause before a retry; an endpoint that asks for a longer one
            (`Retry-After`) ends the asking.
        concurrency: requests at once.
        requests_per_minute: sent at most; null for no limit but the endpoint's own.
        price_in, price_out: money for a million tokens read and written, in any one currency.
    """

    base_url: str = "http://127.0.0.1:8080/v1"
    model: str = ""
    key_variable: str | None = None
    temperature: Annotated[float, Interval(ge=0, le=2)] = 0.0
    seed: Annotated[int, Interval(ge=0, lt=2**31)] | None = 1
    max_tokens: Annotated[int, Interval(ge=1, le=32_768)] = 160
    extra: dict[str, Any] = dataclasses.field(default_factory=dict)
    timeout_seconds: Annotated[float, Interval(gt=0, le=3600)] = 60.0
    retries: Annotated[int, Interval(ge=0, le=100)] = 5
    max_wait_seconds: Annotated[float, Interval(gt=0, le=3600)] = 60.0
    concurrency: Annotated[int, Interval(ge=1, le=256)] = 4
    requests_per_minute: Annotated[float, Interval(gt=0)] | None = None
    price_in: Amount = 0.0
    price_out: Amount = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if fixed := sorted({"model", "messages", "stream", "n"} & set(self.extra)):
            raise ConfigError(
                f"`enrich.endpoint.extra` must not hold {', '.join(fixed)}, which each request has as it"
                f" must be."
                " Remove it."
            )
        parts = urlsplit(self.base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(
                "`enrich.endpoint.base_url` must be an address such as http://127.0.0.1:8080/v1. Received:"
                f" {self.base_url!r}."
            )
        if parts.username or parts.password:
            raise ConfigError(
                "`enrich.endpoint.base_url` must hold no user name and no password. Received: one that"
                " does. Put the key into an environment variable and name it with `key_variable`."
            )
        if not self.model.strip():
            raise ConfigError(
                "`enrich.endpoint.model` must name the endpoint's model. Received: ''. Give it the name"
                " that the endpoint lists under /models."
            )
        if self.key_variable is not None and not re.fullmatch(
            r"[A-Za-z_][A-Za-z0-9_]{0,100}", self.key_variable
        ):
            raise ConfigError(
                "`enrich.endpoint.key_variable` must be the name of an environment variable, such as"
                " OPENAI_API_KEY. Received: something else, which is not repeated here, since it may be the"
                " key itself."
            )


@dataclasses.dataclass(frozen=True)
class EnrichmentConfig(Settings):
    """What a language model writes about items, and on request about users, before the text tower reads it.

    Attributes:
        endpoint: who writes.
        template: what kind of thing the items are; decides what the model is asked for.
        instructions: in place of the template's own.
        columns: of the items table, what the model is told; empty: title, text, categories and lists. Each
            must be one of the table's columns that `data.items` names.
        chosen_with: how many titles of items that the same users chose the model is told, from training
            interactions alone; 0 for none.
        column: what the new text is called beside the items' own columns.
        use: whether the text tower reads it `after` the items' own texts, `before` them, or `instead` of
            them. An item without an answer keeps its own texts.
        max_characters: a longer answer is cut after a sentence.
        suspicious: what becomes of an item whose texts read like instructions to a language model ("ignore
            the above …"): `skip` does not ask about it, `ask` does. Both count it.
        users: whether the users' histories (titles, in order, no ids) are sent too, and summarised.
        user_history: of a history the latest titles, so many at most.
        budget_tokens: read and written together in one run, at most; null for no limit.
        budget_money: the same in money; needs the endpoint's prices.
        min_share: of the items, the share that must have an answer (an item that is skipped as suspicious
            counts as answered) for a run to go on.
        folder: keeps the answers; null: `enrichment` beside the run's other results, or nothing in Python.
    """

    endpoint: EndpointConfig
    template: Template = "generic"
    instructions: str | None = None
    columns: tuple[str, ...] = ()
    chosen_with: Annotated[int, Interval(ge=0, le=100)] = 0
    column: str = "generated"
    use: TextUse = "after"
    max_characters: Annotated[int, Interval(ge=20, le=100_000)] = 800
    suspicious: Literal["skip", "ask"] = "skip"
    users: bool = False
    user_history: Annotated[int, Interval(ge=1, le=1000)] = 20
    budget_tokens: Positive | None = None
    budget_money: Amount | None = None
    min_share: Annotated[float, Interval(ge=0, le=1)] = 0.9
    folder: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.column.strip():
            raise ConfigError("`enrich.column` must be a name. Received: ''. Leave it out for `generated`.")
        if self.instructions is not None and not self.instructions.strip():
            raise ConfigError(
                "`enrich.instructions` must say what is to be written. Received: an empty text. Leave it"
                " out for the template's own."
            )
        if self.budget_money is not None and not (self.endpoint.price_in or self.endpoint.price_out):
            raise ConfigError(
                "`enrich.budget_money` needs `enrich.endpoint.price_in` and `price_out`. Received: both 0."
                " Name them, or limit with `budget_tokens`."
            )
