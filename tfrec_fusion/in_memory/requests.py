"""Requests to fitted models, and their answers as DataFrames.

What may be asked is specified in `export.request`; a request goes through the very operations of the
signature that a server would run.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import tensorflow as tf

from tfrec_fusion.datasets.ids import ids
from tfrec_fusion.datasets.json_rows import column
from tfrec_fusion.datasets.tables import IdRule
from tfrec_fusion.export.request import INPUTS, RequestError, is_blank, refusal
from tfrec_fusion.in_memory.fitted import Fitted
from tfrec_fusion.naming import find_input
from tfrec_fusion.serving.client.explanations import Explanations, read_explanations

__all__ = ["Requests", "as_ids", "as_written", "is_list", "is_missing"]

ROWS = 1024  # of a request at once
COLUMNS = ["user_id", "item_id", "rank", "score", "title"]
LISTS_OF_IDS = ("history", "exclude", "allow", "item_ids")


def is_list(value: Any) -> bool:
    """Whether a value stands for several."""
    return not isinstance(value, (str, bytes)) and isinstance(value, Iterable)


class Requests:
    """Asks fitted models.

    Args:
        fitted: the models.
        whole_numbers: of `user` and `item`, those whose ids are given and answered as whole numbers.
    """

    def __init__(self, fitted: Fitted, whole_numbers: Sequence[str] = ()):
        self.fitted = fitted
        self.whole_numbers = frozenset(whole_numbers)
        self.kind = fitted.kinds[0]

    def recommend(self, user: Any, k: int, inputs: Mapping[str, Any]) -> pd.DataFrame:
        """The best items for each user, history or text; see `Recommender.recommend`."""
        several = next((name for name in ("text", "history") if _is_many(name, inputs.get(name))), None)
        users = list(user) if is_list(user) else [user] * (len(list(inputs[several])) if several else 1)
        return pd.concat(self._answers(users, k, inputs), ignore_index=True)

    def search(self, text: Any, k: int, inputs: Mapping[str, Any]) -> pd.DataFrame:
        """The items that words mean; see `Recommender.search`."""
        if self.fitted.config.text is None:
            raise RequestError(
                "Searching needs items with text. Received: a recommender fitted without. Name columns"
                " of text"
                " with `data.items.text`, and leave `text` as it is."
            )
        words = [text] if isinstance(text, str) else list(text)
        blank = [word for word in words if not isinstance(word, str) or is_blank(word)]
        if blank or not words:
            raise RequestError(f"`text` must say something. Received: {blank[0] if blank else text!r}.")
        parts = self._answers([None] * len(words), k, {**inputs, "text": words})
        if isinstance(text, str):
            return parts[0]
        parts = [part.assign(text=word)[["text", *COLUMNS]] for part, word in zip(parts, words, strict=True)]
        return pd.concat(parts, ignore_index=True)

    def _answers(self, users: Sequence[Any], k: int, inputs: Mapping[str, Any]) -> list[pd.DataFrame]:
        """One answer a user."""
        if not users:
            raise RequestError("`user` must hold at least one id. Received: an empty list.")
        answers = self._ask(self.kind, "recommend", len(users), {**inputs, "user_id": users, "k": k})
        self._warn(answers)
        names = ("item_ids", "scores", "titles", "num_results")
        return [
            self._frame(user, items[:count], scores[:count], titles[:count])
            for user, items, scores, titles, count in zip(
                users, *(answers[name] for name in names), strict=True
            )
        ]

    def rank(
        self, user: Any, items: Any, texts: Any, label: str | None, inputs: Mapping[str, Any]
    ) -> pd.DataFrame:
        """Candidates in their order; see `Recommender.rank`."""
        if self.fitted.ranking is None:
            raise RequestError(
                "Ranking needs the ranking model. Received: a recommender fitted with `ranking` none."
            )
        if is_list(user):
            raise RequestError(
                f"`user` must be one id. Received: {user!r}. Ask for one user after the other."
            )
        head = label or self.fitted.head
        if head not in self.fitted.labels:
            known = ", ".join(self.fitted.labels)
            raise RequestError(f"`label` must be one of {known}. Received: {label!r}.")
        candidates = list(items) if items is not None else []
        words = [texts] if isinstance(texts, str) else list(texts or [])
        if not candidates and not words:
            raise RequestError("`items` or `texts` must hold at least one candidate. Received: none.")
        if candidates and words and len(candidates) != len(words):
            raise RequestError(
                "`items` and `texts` must be equally many, '' where one is missing. Received:"
                f" {len(candidates)} and"
                f" {len(words)}."
            )
        kind = "recommender" if "recommender" in self.fitted.kinds else "ranking"
        given = {**inputs, "user_id": [user], "item_ids": candidates, "texts": words}
        answers = self._ask(kind, "rank", 1, given)
        self._warn(answers)
        weighed = label is None and inputs.get("label_weights") is not None
        scores = answers["score" if weighed else head][0]
        order = np.argsort(-scores, kind="stable")
        shown = np.array(self._strings("item", candidates) or [""] * len(words), object)
        return self._frame(user, shown[order], scores[order], answers["titles"][0][order])

    def similar(self, item: Any, k: int, inputs: Mapping[str, Any]) -> pd.DataFrame:
        """Items like others; see `Recommender.similar`."""
        items = list(item) if is_list(item) else [item]
        kind = "recommender" if "recommender" in self.fitted.kinds else "retrieval"
        answers = self._ask(kind, "similar", len(items), {**inputs, "item_id": items, "k": k})
        lost = sorted({key for key in answers["unknown_items"][:, 0] if key})
        if lost and not inputs.get("text"):
            raise RequestError(
                f"`item` must be one of the {len(self.fitted.catalogue) - 1:,} items. Received:"
                f" {', '.join(map(repr, lost[:5]))}. Give a new item's `text`, or `search` for it."
            )
        self._warn(answers)
        parts = []
        for row, one in enumerate(items):
            count = answers["num_results"][row]
            columns = (answers[name][row][:count] for name in ("item_ids", "scores", "titles"))
            frame = self._frame(None, *columns).drop(columns="user_id")
            if is_list(item):
                frame.insert(0, "similar_to", one)
            parts.append(frame)
        return pd.concat(parts, ignore_index=True)

    def explain(self, user: Any, items: Any, texts: Any, inputs: Mapping[str, Any]) -> Explanations:
        """What scores are sums of; see `Recommender.explain`."""
        if is_list(user):
            raise RequestError(
                f"`user` must be one id. Received: {user!r}. Ask for one user after the other."
            )
        candidates, words = (
            [] if given is None else list(given) if is_list(given) else [given] for given in (items, texts)
        )
        if not candidates and not words:
            raise RequestError("`items` or `texts` must hold at least one item. Received: none.")
        given = {**inputs, "user_id": [user], "item_ids": candidates, "texts": words}
        answers = self._ask(self.kind, "explain", 1, given)
        return read_explanations(
            {name: values.tolist() for name, values in answers.items()}, None if user is None else [user]
        )[0]

    def _ask(self, kind: str, signature: str, rows: int, given: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Outputs of a signature, by name, a row a request."""
        spec = self.fitted.spec(kind, signature)
        values = self._columns(spec, rows, given)
        function = self.fitted.function(kind, signature)
        parts: dict[str, list[np.ndarray]] = {}
        for start in range(0, rows, ROWS):
            chunk = {
                name: tf.constant(
                    _rectangle(value[start : start + ROWS]) if spec[name].shape.rank == 2
                    else value[start : start + ROWS] if spec[name].shape.rank else value,
                    spec[name].dtype,
                )
                for name, value in values.items()
            }  # fmt: skip
            try:
                answer = function(**chunk)
            except tf.errors.InvalidArgumentError as error:
                rule = refusal(error.message)
                if rule is None:
                    raise
                raise RequestError(f"{rule} Change it, or leave it out.") from error
            for name, value in answer.items():
                parts.setdefault(name, []).append(_text(value.numpy()))
        return {name: _stacked(some) for name, some in parts.items()}

    def _columns(
        self, spec: Mapping[str, tf.TensorSpec], rows: int, given: Mapping[str, Any]
    ) -> dict[str, Any]:
        """A value for every input: what was given, else its default."""
        known = {find_input(name, spec): value for name, value in given.items() if value is not None}
        unknown = [name for name in known if name not in spec]
        if unknown:
            raise RequestError(
                f"This model takes no {', '.join(map(repr, unknown))}. It takes: {', '.join(spec)}."
                " Leave it out."
            )
        values: dict[str, Any] = {}
        for name, tensor in spec.items():
            value, axes = known.get(name), tensor.shape.rank
            if axes == 0:
                value = self._default(name) if value is None else value
                _check(name, value)
                values[name] = value
                continue
            value = INPUTS[name].as_sent(value) if name in INPUTS else value
            listed = _each(name, value, rows, axes)
            if name in ("user_id", "item_id"):
                listed = self._strings("user" if name == "user_id" else "item", listed)
            elif name in LISTS_OF_IDS:
                listed = [self._strings("item", row) for row in listed]
            elif axes == 2:
                listed = [[str(one) for one in row] for row in listed]
            values[name] = listed
        limit = getattr(self.fitted.serving(self.kind), "max_k", None)
        if "k" in values and limit is not None and values["k"] > limit:
            raise RequestError(f"`k` must be {INPUTS['k'].range_in_words(limit)}. Received: {values['k']}.")
        return values

    def _default(self, name: str) -> Any:
        """What stands for a setting that is not given, as the model or the contract says."""
        decides = getattr(self.fitted.serving(self.kind), "default_of", None)
        return INPUTS[name].default if decides is None else decides(name)

    def _strings(self, role: str, values: Sequence[Any]) -> list[str]:
        """Ids as the tables' are read; "" for none."""
        tables = self.fitted.known.tables
        rule: IdRule = tables.user_ids if role == "user" else tables.item_ids
        return as_ids(values, rule, f"ids of {role}s")

    def _frame(self, user: Any, items: np.ndarray, scores: np.ndarray, titles: np.ndarray) -> pd.DataFrame:
        shown = [user.item() if isinstance(user, np.generic) else user] * len(items)
        keys = list(items)
        if "item" in self.whole_numbers and all(key.lstrip("-").isdigit() for key in keys):
            keys = [int(key) for key in keys]
        frame = pd.DataFrame(
            {
                "user_id": pd.Series(shown, dtype=object if user is None else None),
                "item_id": keys,
                "rank": np.arange(1, len(items) + 1),
                "score": np.asarray(scores, np.float32),
                "title": list(titles),
            }
        )
        return frame[COLUMNS]

    def _warn(self, answers: Mapping[str, np.ndarray]) -> None:
        """Says what of a request is not known."""
        for name, what in (("unknown_items", "items"), ("unknown_categories", "categories")):
            unknown = sorted({value for value in answers.get(name, np.array([])).ravel() if value})
            if unknown:
                words = ", ".join(map(repr, unknown[:5])) + (" and others" if len(unknown) > 5 else "")
                warnings.warn(f"These {what} are not known and count nothing: {words}.", stacklevel=4)


def as_ids(values: Iterable[Any], rule: IdRule, where: str) -> list[str]:
    """Ids as a table's are read; "" for None, NaN and NA.

    Args:
        values: as they were given.
        rule: as in `Tables`.
        where: what they are, for messages.
    """
    listed = [None if is_missing(value) else as_written(value) for value in values]
    try:
        array = pa.array([value.item() if isinstance(value, np.generic) else value for value in listed])
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        array = column(listed)
    return [value or "" for value in ids(array, rule, where).to_pylist()]


def is_missing(value: Any) -> bool:
    """Whether a value is None, NaN, NaT or NA."""
    return pd.api.types.is_scalar(value) and bool(pd.isna(value))


def as_written(value: Any) -> Any:
    """A string without halves of characters, which nothing can encode; another value as it is."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


def _is_many(name: str, value: Any) -> bool:
    """Whether an input of one row holds several rows."""
    if value is None or not is_list(value):
        return False
    if name == "text":
        return True
    return any(is_list(entry) for entry in value)


def _each(name: str, value: Any, rows: int, axes: int) -> list[Any]:
    """An input's value for each row."""
    if value is None:
        return [[] if axes == 2 else "" for _ in range(rows)]
    if axes == 1 and not is_list(value):
        return [value] * rows
    if axes == 2 and not is_list(value):
        raise RequestError(f"`{name}` must be a list. Received: {value!r}.")
    listed = list(value)
    if axes == 2 and not any(is_list(entry) for entry in listed):
        return [listed] * rows
    if len(listed) != rows:
        raise RequestError(
            f"`{name}` must have one entry for each of the {rows} rows. Received: {len(listed)}."
        )
    return [list(entry) if axes == 2 else entry for entry in listed]


def _check(name: str, value: Any) -> None:
    if INPUTS[name].dtype == "bool":
        if not isinstance(value, (bool, np.bool_)):
            raise RequestError(f"`{name}` must be True or False. Received: {value!r}.")
        return
    INPUTS[name].check(value)


def _rectangle(rows: Sequence[Sequence[str]]) -> np.ndarray:
    """Lists as rows of one width, padded with "" on the right."""
    array = np.full((len(rows), max(map(len, rows), default=0)), "", object)
    for position, row in enumerate(rows):
        array[position, : len(row)] = row
    return array


def _text(values: np.ndarray) -> np.ndarray:
    if values.dtype != object:
        return values
    decoded = [value.decode("utf-8", "replace") for value in values.ravel()]
    return np.array(decoded, object).reshape(values.shape)


def _stacked(parts: list[np.ndarray]) -> np.ndarray:
    """Chunks of rows end to end; lists are padded to the widest."""
    if parts[0].ndim == 2:
        width = max(part.shape[1] for part in parts)
        empty = "" if parts[0].dtype == object else 0
        parts = [
            np.pad(part, ((0, 0), (0, width - part.shape[1])), constant_values=empty)
            if part.shape[1] < width
            else part
            for part in parts
        ]
    return np.concatenate(parts)
