"""A caller's values as the columns of a request: checked, converted, batched and made rectangular.

TF Serving has no optional inputs. What a caller leaves out is filled with its default, which the contract
states (`export.request`); another signature's inputs with the empty value of their type.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tfrec_fusion.export.request import INPUTS, SIGNATURES, RequestError, is_setting
from tfrec_fusion.naming import find_input
from tfrec_fusion.serving.client.signatures import SignatureSpec
from tfrec_fusion.serving.client.values import plain, strings

Columns = dict[str, Any]
OF_USER = ("history", "label_weights")
"""Lists that are not one entry a candidate."""


def checked_values(spec: SignatureSpec, given: Mapping[str, Any], signature: str) -> Columns:
    """The caller's values as JSON has them, strings where the signature takes strings, each inside its range.

    Raises:
        RequestError: the signature has no such input, or a value is of another type or out of range.
    """
    given = _by_input(spec, given)
    _check_names(spec, given, signature)
    values = {}
    for name, value in given.items():
        if name in INPUTS and INPUTS[name].numbered:
            value = INPUTS[name].as_sent(plain(value))
        values[name] = strings(name, value) if spec.takes_strings(name) else plain(value)
        if is_setting(name):
            INPUTS[name].check(values[name])
    return values


def as_rows(spec: SignatureSpec, given: Columns) -> tuple[bool, Columns]:
    """Gives every batched input its batch axis.

    Returns:
        Whether the caller asked for many rows, and the inputs.

    Raises:
        RequestError: a value is nested in another way than its input, or inputs differ in their number of
            rows.
    """
    many = any(
        _depth(value) == spec.inputs[name].rank for name, value in given.items() if spec.is_batched(name)
    )
    rows = {}
    for name, value in given.items():
        rank = spec.inputs[name].rank
        rows[name] = [value] if rank and _depth(value) == rank - 1 else value
        if rank and _depth(rows[name]) != rank and not _is_ragged_empty(rows[name], rank):
            raise RequestError(
                f"`{name}` takes {rank - 1} nested lists for one row and {rank} for many. "
                f"Received: {value!r}."
            )
    counts = {len(values) for name, values in rows.items() if spec.is_batched(name)}
    if len(counts) > 1:
        raise RequestError(f"All inputs must have the same number of rows. Received: {sorted(counts)}.")
    return many, rows


def batches(spec: SignatureSpec, rows: Columns, size: int) -> list[Columns]:
    """Rows in parts of at most `size`; a setting goes with every part."""
    count = max((len(values) for name, values in rows.items() if spec.is_batched(name)), default=1)
    return [
        {
            name: values[start : start + size] if spec.is_batched(name) else values
            for name, values in rows.items()
        }
        for start in range(0, count, size)
    ]


def candidate_batches(spec: SignatureSpec, given: Columns, size: int) -> list[Columns]:
    """Candidates in parts of at most `size`, as the signature takes them: one a row, or all in one row.

    Raises:
        RequestError: there are no candidates.
    """
    count = _num_candidates(given)
    one_row = "item_ids" in spec.inputs and spec.inputs["item_ids"].rank == 2
    parts = []
    for start in range(0, count, size):
        length = min(size, count - start)
        part = {}
        for name, value in given.items():
            if isinstance(value, (list, tuple)) and len(value) == count and name not in OF_USER:
                value = list(value[start : start + length])
                part[name] = [value] if one_row else value
            elif spec.inputs[name].rank:
                part[name] = [value] if one_row else [value] * length
            else:
                part[name] = value
        parts.append(part)
    return parts


def columns(spec: SignatureSpec, given: Columns) -> Columns:
    """Columns for all inputs of a signature: the given ones made rectangular, the others defaults."""
    _check_names(spec, given)
    count = max((len(given[name]) for name in given if spec.is_batched(name)), default=1)
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
        elif not spec.is_batched(name):
            filled[name] = [tensor.empty(name)]
        else:
            row: Any = tensor.empty(name)
            for _ in range(rank - 1):
                row = []
            filled[name] = [row] * count
    return filled


def _by_input(spec: SignatureSpec, given: Mapping[str, Any]) -> Columns:
    """The same values by the signature's inputs: a context column may go by the name in its table."""
    named = {name: find_input(name, spec.inputs) for name in given}
    if len(set(named.values())) < len(named):
        raise RequestError(f"Each input must be given once. Received: {', '.join(map(repr, given))}.")
    return {named[name]: value for name, value in given.items()}


def _check_names(spec: SignatureSpec, given: Mapping[str, Any], signature: str = "") -> None:
    for name in given:
        if name not in spec.inputs:
            # The contract has it: what an earlier version pushed lacks it, or a model without text or label.
            known = name in SIGNATURES.get(signature, ())
            raise RequestError(
                f"The signature {signature} has no input {name!r}. "
                f"Its inputs: {', '.join(sorted(spec.inputs))}."
                + (" A model pushed by this version, or with other settings, may have it." if known else "")
            )


def _num_candidates(given: Columns) -> int:
    if "item_ids" in given:
        if not isinstance(given["item_ids"], list):
            raise RequestError(f"`item_ids` must be a list of ids. Received: {given['item_ids']!r}.")
        return len(given["item_ids"])
    counts = [
        len(value)
        for name, value in given.items()
        if name not in OF_USER and isinstance(value, (list, tuple))
    ]
    if not counts:
        raise RequestError(
            "Give the candidates: `item_ids`, or their raw text under the signature's own input names."
        )
    return max(counts)


def _depth(value: Any) -> int:
    """How many lists are nested; empty lists count as far as they go."""
    depth = 0
    while isinstance(value, (list, tuple)):
        depth += 1
        value = next((element for element in value if isinstance(element, (list, tuple))), None)
    return depth


def _is_ragged_empty(value: Any, rank: int) -> bool:
    return isinstance(value, (list, tuple)) and _depth(value) == rank - 1 and not any(value)


def _pad(rows: Sequence[Any], empty: Any) -> list[list[Any]]:
    longest = max((len(row) for row in rows), default=0)
    return [list(row) + [empty] * (longest - len(row)) for row in rows]
