"""What clients ask and how they read the answer, written once for every transport, sync and async.

Each call is a generator: it yields `Ask`s, is sent the replies, and returns the result. A client drives it, by
blocking or by awaiting. Nothing here needs TensorFlow or NumPy.

TF Serving has no optional inputs. What a caller leaves out is therefore filled with its default, which the contract states
(`export.request`); another signature's inputs with the empty value of their type. Which inputs there are comes from the
model's own metadata, read once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from typing import Any

from tfrec_fusion.export.request import DIAGNOSES, INPUTS, RequestError, default_of, is_setting
from tfrec_fusion.naming import find_input
from tfrec_fusion.serving.client.values import plain, strings

_STRING_TYPES = ("DT_STRING",)
_FLOAT_TYPES = ("DT_FLOAT", "DT_DOUBLE", "DT_HALF", "DT_BFLOAT16")


@dataclasses.dataclass(frozen=True)
class Recommended:
    """One recommended item; `title` is empty where the model does not know titles."""

    item_id: str
    score: float
    title: str = ""


class Recommendations(list[Recommended]):
    """The answer to one request, best first, and what the model said of the request.

    Attributes:
        known_user: whether the user was in the training data; None where nobody was named or the model does not say.
        unknown_items: ids that were sent and are in no catalogue.
        unknown_categories: names that were sent and no item has.
    """

    known_user: bool | None = None
    unknown_items: tuple[str, ...] = ()
    unknown_categories: tuple[str, ...] = ()


class Scores(dict[str, Any]):
    """Scores by head, and `titles`: a list with one entry a candidate. `known_user` and `unknown_items` as in
    `Recommendations`; candidates that came by their text are not unknown."""

    known_user: bool | None = None
    unknown_items: tuple[str, ...] = ()


class ServingError(RuntimeError):
    """A request that was not answered.

    Attributes:
        code: the canonical code, for example NOT_FOUND; UNAVAILABLE where no server was reached.
        message: the server's own words.
        http_status: the HTTP status, or None where there was no HTTP answer.
    """

    def __init__(self, code: str, message: str, http_status: int | None = None):
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.http_status = http_status


@dataclasses.dataclass(frozen=True)
class TensorSpec:
    """An input or output of a signature: `DT_…` name of its type, its rank (None where unknown), and the size of
    its first axis (None where that varies: one entry a row)."""

    dtype: str
    rank: int | None
    first: int | None = None

    def empty(self, name: str = "") -> Any:
        """The value that stands for absence, for one row, of the input of that name."""
        names = {"DT_STRING": "string", "DT_FLOAT": "float32", "DT_INT32": "int32", "DT_BOOL": "bool"}
        return default_of(name, names.get(self.dtype, "float" if self.dtype in _FLOAT_TYPES else "int"))


@dataclasses.dataclass(frozen=True)
class SignatureSpec:
    """A signature's inputs and outputs by name."""

    inputs: dict[str, TensorSpec]
    outputs: dict[str, TensorSpec]


def read_metadata(metadata: Mapping[str, Any]) -> dict[str, SignatureSpec]:
    """Signatures by name, from the JSON that `GET /v1/models/NAME/metadata` answers."""

    def specs(tensors: Mapping[str, Any]) -> dict[str, TensorSpec]:
        return {name: _tensor_spec(tensor) for name, tensor in tensors.items()}

    definitions = metadata["metadata"]["signature_def"]["signature_def"]
    return {
        name: SignatureSpec(specs(definition.get("inputs", {})), specs(definition.get("outputs", {})))
        for name, definition in definitions.items()
        if not name.startswith("__")
    }


def _tensor_spec(tensor: Mapping[str, Any]) -> TensorSpec:
    shape = tensor.get("tensor_shape", {})
    if shape.get("unknown_rank"):
        return TensorSpec(tensor["dtype"], None)
    sizes = [int(dim.get("size", -1)) for dim in shape.get("dim", [])]
    return TensorSpec(tensor["dtype"], len(sizes), sizes[0] if sizes and sizes[0] >= 0 else None)


@dataclasses.dataclass(frozen=True)
class Ask:
    """One exchange with the server.

    Attributes:
        kind: `predict`, `metadata` or `status`.
        signature: the signature's name, for predict.
        inputs: columns by input name, or a bare value for a signature with one input.
        instances: rows, in place of `inputs`.
    """

    kind: str
    signature: str = ""
    inputs: Any = None
    instances: Sequence[Any] | None = None


Call = Generator[Ask, Any, Any]
"""A call in steps: yields `Ask`s, is sent each reply, returns the caller's result."""


class ServingMethods:
    """The methods that every client has. In an async client each returns an awaitable of the same result.

    Args:
        batch_size: the most rows that one request carries; longer lists are split.
        signatures: the model's signatures where they are known beforehand, else they are asked for once.
    """

    def __init__(self, batch_size: int = 1000, signatures: Mapping[str, SignatureSpec] | None = None):
        if batch_size < 1:
            raise ValueError(f"`batch_size` must be at least 1. Received: {batch_size}.")
        self.batch_size = batch_size
        self._signatures = dict(signatures) if signatures is not None else None
        self._signatures_given = signatures is not None

    def _run(self, call: Call) -> Any:
        """Drives a call to its end; the one thing in which clients differ."""
        raise NotImplementedError

    def predict(
        self,
        inputs: Any = None,
        *,
        instances: Sequence[Any] | None = None,
        signature_name: str = "",
    ) -> Any:
        """Runs any signature with values as they are.

        Args:
            inputs: columns: a dict of nested lists by input name, or a bare value where there is one input.
            instances: rows, in place of `inputs`.
            signature_name: empty for `serving_default`.

        Returns:
            For `inputs`, the outputs (a dict by name, or the bare value of the only one); for `instances`, one
            entry a row.

        Raises:
            ServingError: with the server's message.
        """
        if (inputs is None) == (instances is None):
            raise ValueError(
                "Give either `inputs` (columns) or `instances` (rows), not both and not neither."
            )
        return self._run(_single(Ask("predict", signature_name, inputs, instances)))

    def recommend(
        self,
        user_id: Any = None,
        *,
        history: Iterable[Any] | None = None,
        text: str | Sequence[str] | None = None,
        k: int = INPUTS["k"].default,
        exclude: Iterable[Any] | None = None,
        signature_name: str = "recommend",
        **inputs: Any,
    ) -> Any:
        """Asks for the best items for a user, a history, a free text, or any mixture of these.

        Args:
            user_id: one id, or a list of them for many rows. Ids may be strings, integers, or arrays and scalars of NumPy,
                here and wherever ids are given.
            history: ids of items, latest last; for many rows, a list of such lists.
            text: what is asked for, in words; for many rows, a list.
            k: how many items; cut off here where the signature has no such input.
            exclude: ids of items to leave out; for many rows, a list of lists.
            signature_name: the signature that recommends.
            **inputs: further inputs of the signature by name: those of `export.request.INPUTS`, and whatever context the
                model was trained with, by the column's own name: `**{"Device Type": "phone"}`.

        Returns:
            `Recommendations`: a list of `Recommended`, best first; for many rows, a list of such lists. Padding (an
            empty id) is left out, so a list may be shorter than `k`.

        Raises:
            ServingError: with the server's message.
            ValueError: the signature has no such input, a value is out of range, or nothing says how many rows there are.
        """
        given = {"user_id": user_id, "history": history, "text": text, "exclude": exclude, **inputs}
        return self._run(self._recommend(signature_name, k, _present(given)))

    def rank(
        self,
        user_id: Any = None,
        item_ids: Iterable[Any] | None = None,
        *,
        signature_name: str = "rank",
        **inputs: Any,
    ) -> Any:
        """Scores candidates for one user.

        Args:
            user_id: the user.
            item_ids: the candidates' ids, where they are known items.
            signature_name: the signature that ranks.
            **inputs: further inputs by name: the candidates' raw text (a list as long as the candidates), the
                user's history, context.

        Returns:
            `Scores`: a dict of scores by head, each a list with one number a candidate.

        Raises:
            ServingError: with the server's message.
            ValueError: the signature has no such input.
        """
        return self._run(
            self._rank(signature_name, _present({"user_id": user_id, "item_ids": item_ids, **inputs}))
        )

    def embed(
        self, values: str | Sequence[str] | Mapping[str, Any], *, signature_name: str = "embed_text"
    ) -> Any:
        """Turns texts, queries or items into vectors.

        Args:
            values: one text, a list of texts, or columns by input name.
            signature_name: `embed_text`, `embed_query` or `embed_item`.

        Returns:
            A vector (a list of numbers) for one text, else a list of vectors.
        """
        return self._run(self._embed(signature_name, values))

    def status(self) -> Any:
        """The states of the model's versions, highest first: dicts of `version`, `state` and `status`."""
        return self._run(_single(Ask("status"), lambda reply: reply["model_version_status"]))

    def metadata(self) -> Any:
        """The model's metadata, as the server words it in JSON."""
        return self._run(_single(Ask("metadata")))

    # Calls

    def _signature(self, name: str) -> Generator[Ask, Any, SignatureSpec]:
        known = self._signatures or {}
        if (
            name not in known and not self._signatures_given
        ):  # a newer version may have more than the one asked
            known = self._signatures = read_metadata((yield Ask("metadata")))
        if name not in known:
            raise ValueError(
                f"The model has no signature {name!r}. Its signatures: {', '.join(sorted(known))}."
            )
        return known[name]

    def _recommend(self, name: str, k: int, given: dict[str, Any]) -> Call:
        spec = yield from self._signature(name)
        k = plain(k)
        INPUTS["k"].check(k)
        scalars = {"k": k} if "k" in spec.inputs else {}
        if not given:
            raise ValueError(
                f"Give at least one of {', '.join(sorted(name for name in spec.inputs if not is_setting(name)))}."
            )
        given = _values(spec, given, name)
        many, rows = _as_rows(spec, given)
        results: list[Recommendations] = []
        for start in range(0, _num_rows(spec, rows), self.batch_size):
            part = _slice(spec, rows, start, self.batch_size)
            outputs = yield Ask("predict", name, columns(spec, {**scalars, **part}))
            results.extend(_read_recommendations(_named(outputs, spec), part.get("user_id"), k))
        return results if many else results[0]

    def _rank(self, name: str, given: dict[str, Any]) -> Call:
        spec = yield from self._signature(name)
        given = _values(spec, given, name)
        count = _num_candidates(spec, given)
        scores, unknown = Scores(), dict[str, None]()
        for start in range(0, count, self.batch_size):
            part = _candidates(spec, given, count, start, min(self.batch_size, count - start))
            outputs = yield Ask("predict", name, columns(spec, part))
            outputs = dict(_named(outputs, spec))
            unknown.update(dict.fromkeys(_not_empty(_flatten(outputs.get("unknown_items", [])))))
            if given.get("user_id") and "known_user" in outputs:
                scores.known_user = all(_flatten(outputs["known_user"]))
            for head, values in outputs.items():
                if head not in DIAGNOSES:
                    scores.setdefault(head, []).extend(_flatten(values))
        scores.unknown_items = tuple(unknown)
        return scores

    def _embed(self, name: str, values: Any) -> Call:
        spec = yield from self._signature(name)
        if not isinstance(values, Mapping):
            texts = [key for key, tensor in spec.inputs.items() if tensor.dtype in _STRING_TYPES]
            main = next((key for key in ("text", "texts") if key in texts), texts[0] if texts else None)
            if main is None:
                raise ValueError(
                    f"Signature {name!r} takes no text. Its inputs: {', '.join(sorted(spec.inputs))}."
                )
            values = {main: values}
        many, rows = _as_rows(spec, _values(spec, values, name))
        vectors: list[list[float]] = []
        for start in range(0, _num_rows(spec, rows), self.batch_size):
            part = _slice(spec, rows, start, self.batch_size)
            outputs = _named((yield Ask("predict", name, columns(spec, part))), spec)
            vectors.extend(next(iter(outputs.values())))
        return vectors if many else vectors[0]


def _single(ask: Ask, read: Callable[[Any], Any] = lambda reply: reply) -> Call:
    return read((yield ask))


def _present(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _by_input(spec: SignatureSpec, given: Mapping[str, Any]) -> dict[str, Any]:
    """The same values by the signature's own inputs: context columns may be called what their table calls them."""
    named = {name: find_input(name, spec.inputs) for name in given}
    if len(set(named.values())) < len(named):
        raise ValueError(f"Each input must be given once. Received: {', '.join(map(repr, given))}.")
    return {named[name]: value for name, value in given.items()}


def _values(spec: SignatureSpec, given: Mapping[str, Any], signature: str) -> dict[str, Any]:
    """The caller's values as JSON has them, strings where the signature takes strings, each inside its range."""
    given = _by_input(spec, given)
    _check_names(spec, given, signature)
    values = {}
    for name, value in given.items():
        values[name] = strings(name, value) if spec.inputs[name].dtype in _STRING_TYPES else plain(value)
        if is_setting(name):
            INPUTS[name].check(values[name])
    return values


def _check_names(spec: SignatureSpec, given: Mapping[str, Any], signature: str = "") -> None:
    for name in given:
        if name not in spec.inputs:
            raise RequestError(
                f"The signature {signature} has no input {name!r}. Its inputs: {', '.join(sorted(spec.inputs))}."
            )


def _depth(value: Any) -> int:
    """How many lists are nested; empty lists count as far as they go."""
    depth = 0
    while isinstance(value, (list, tuple)):
        depth += 1
        value = next((element for element in value if isinstance(element, (list, tuple))), None)
    return depth


def _as_rows(spec: SignatureSpec, given: dict[str, Any]) -> tuple[bool, dict[str, Any]]:
    """Gives every value of a batched input its batch axis; says whether the caller asked for many rows."""
    _check_names(spec, given)
    many = any(
        _depth(value) == spec.inputs[name].rank for name, value in given.items() if _is_batched(spec, name)
    )
    rows = {}
    for name, value in given.items():
        rank = spec.inputs[name].rank
        rows[name] = [value] if rank and _depth(value) == rank - 1 else value
        if rank and _depth(rows[name]) != rank and not _is_ragged_empty(rows[name], rank):
            raise ValueError(
                f"`{name}` takes {rank - 1} nested lists for one row and {rank} for many. Received: {value!r}."
            )
    counts = {len(values) for name, values in rows.items() if _is_batched(spec, name)}
    if len(counts) > 1:
        raise ValueError(f"All inputs must have the same number of rows. Received: {sorted(counts)}.")
    return many, rows


def _is_batched(spec: SignatureSpec, name: str) -> bool:
    """Whether an input has one entry a row; a setting may come as `[1]`, one for the whole request."""
    tensor = spec.inputs[name]
    return not is_setting(name) and tensor.rank not in (0, None) and tensor.first != 1


def _is_ragged_empty(value: Any, rank: int) -> bool:
    return isinstance(value, (list, tuple)) and _depth(value) == rank - 1 and not any(value)


def _num_rows(spec: SignatureSpec, rows: Mapping[str, Any]) -> int:
    return max((len(value) for name, value in rows.items() if _is_batched(spec, name)), default=1)


def _slice(spec: SignatureSpec, rows: Mapping[str, Any], start: int, size: int) -> dict[str, Any]:
    return {
        name: values[start : start + size] if _is_batched(spec, name) else values
        for name, values in rows.items()
    }


def columns(spec: SignatureSpec, given: dict[str, Any]) -> dict[str, Any]:
    """Columns for all inputs of a signature: the given ones made rectangular, the others at their defaults."""
    _check_names(spec, given)
    count = max((len(given[name]) for name in given if _is_batched(spec, name)), default=1)
    filled = {}
    for name, tensor in spec.inputs.items():
        rank = tensor.rank or 0
        if name in given:
            value = given[name]
            if is_setting(name) and rank == 1 and not isinstance(value, (list, tuple)):
                value = [value]
            filled[name] = _pad(value, tensor.empty()) if rank > 1 else value
        elif rank == 0:
            filled[name] = tensor.empty(name)
        elif not _is_batched(spec, name):
            filled[name] = [tensor.empty(name)]
        else:
            row: Any = tensor.empty(name)
            for _ in range(rank - 1):
                row = []
            filled[name] = [row] * count
    return filled


def _pad(rows: Sequence[Any], empty: Any) -> list[list[Any]]:
    longest = max((len(row) for row in rows), default=0)
    return [list(row) + [empty] * (longest - len(row)) for row in rows]


def _named(outputs: Any, spec: SignatureSpec) -> dict[str, Any]:
    """Outputs by name; a signature with one output is answered with its bare value."""
    if len(spec.outputs) == 1:
        ((name, _),) = spec.outputs.items()
        return {name: outputs[name] if isinstance(outputs, dict) and name in outputs else outputs}
    return outputs


def _read_recommendations(
    outputs: Mapping[str, Any], users: Sequence[Any] | None, k: int
) -> list[Recommendations]:
    ids = outputs["item_ids"]
    empty = [[None] * len(row) for row in ids]
    scores, titles = outputs.get("scores", empty), outputs.get("titles", empty)
    answers = []
    for number, row in enumerate(zip(ids, scores, titles, strict=True)):
        found = Recommendations(
            Recommended(
                _text(item), 0.0 if score is None else float(score), "" if title is None else _text(title)
            )
            for item, score, title in zip(*row, strict=True)
            if item not in ("", b"")
        )
        del found[k:]
        if users and users[number] and "known_user" in outputs:
            found.known_user = bool(outputs["known_user"][number])
        found.unknown_items = _unknown(outputs, "unknown_items", number)
        found.unknown_categories = _unknown(outputs, "unknown_categories", number)
        answers.append(found)
    return answers


def _unknown(outputs: Mapping[str, Any], name: str, row: int) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_not_empty(outputs[name][row]))) if name in outputs else ()


def _not_empty(values: Iterable[Any]) -> list[str]:
    return [_text(value) for value in values if value not in ("", b"")]


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _num_candidates(spec: SignatureSpec, given: Mapping[str, Any]) -> int:
    if "item_ids" in given:
        return len(given["item_ids"])
    counts = [
        len(value) for name, value in given.items() if name != "history" and isinstance(value, (list, tuple))
    ]
    if not counts:
        raise ValueError(
            "Give the candidates: `item_ids`, or their raw text under the signature's own input names."
        )
    return max(counts)


def _candidates(
    spec: SignatureSpec, given: Mapping[str, Any], count: int, start: int, size: int
) -> dict[str, Any]:
    """One batch of candidates, in the form the signature takes: `[size]` in a row each, or one row `[1, size]`."""
    one_row = "item_ids" in spec.inputs and spec.inputs["item_ids"].rank == 2
    part = {}
    for name, value in given.items():
        per_candidate = isinstance(value, (list, tuple)) and len(value) == count and name != "history"
        if per_candidate:
            value = list(value[start : start + size])
            part[name] = [value] if one_row else value
        elif spec.inputs[name].rank:
            part[name] = [value] if one_row else [value] * size
        else:
            part[name] = value
    return part


def _flatten(values: Any) -> list[float]:
    flat: list[float] = []
    for value in values if isinstance(values, list) else [values]:
        if isinstance(value, list):
            flat.extend(_flatten(value))
        else:
            flat.append(value)
    return flat
