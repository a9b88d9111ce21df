"""Readers of cells: strings, lists, numbers and vectors by one rule each, whatever the file's format.

A whole number is `12`, from an integer, a float or a decimal column, with or without nulls; text is as it was
written, white space around it trimmed; nothing, an empty text and NaN are null. Columns stay Arrow arrays on
the way: pandas would make floats of whole numbers with a null beside them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tfrec_fusion.config import ConfigError
from tfrec_fusion.datasets.list_cells import name_of, parse_list

_NUMBER = r"^[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?$"
_GROUPED = r"^[+-]?\d{1,3}(?:,\d{3})+(?:\.\d+)?$"
_CURRENCY = (
    r"\p{Sc}|[A-Z]{1,3}\p{Sc}|Rs\.?|kr\.?|zł|AUD|BRL|CAD|CHF|CNY|CZK|DKK|EUR|GBP|HKD|HUF|IDR|ILS|INR|JPY|KRW|MXN|NOK|NZD|PLN|"
    "RMB|RUB|SEK|SGD|THB|TRY|TWD|UAH|USD|VND|ZAR"
)
_MONEY = rf"^([+-]?)\s*(?:{_CURRENCY})?\s*([+-]?[\d.,]*\d\.?)\s*(?:{_CURRENCY}|%)?$"
_LITERAL = r"(?s)^[\[({].*[\])}]$"


def plain(array: pa.Array | pa.ChunkedArray) -> pa.Array:
    """A column in one piece, without dictionaries and extensions."""
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array


def is_list(kind: pa.DataType) -> bool:
    """Whether cells of an Arrow type hold several values each."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    names = ("list", "large_list", "fixed_size_list", "list_view", "large_list_view")
    return any(getattr(pa.types, f"is_{name}", lambda _: False)(kind) for name in names)


def as_python(array: pa.Array) -> list[Any]:
    """Strings, or lists of them, as Python's, null as None: `to_pylist` of Arrow takes several times as
    long."""
    if not is_list(array.type):
        return array.to_numpy(zero_copy_only=False).tolist()
    values = as_python(array.flatten())
    ends = np.cumsum(pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False)).tolist()
    return [values[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)]


def strings(array: pa.Array, where: str, join_lists: bool = False) -> pa.Array:
    """Cells as strings.

    Args:
        array: any column.
        where: the column, for messages: `column 'title' of the items table`.
        join_lists: whether a list is read as its values with a space between them.

    Returns:
        Strings, trimmed; null where there is nothing.

    Raises:
        ConfigError: where cells cannot be strings: structs, maps, bytes that are no UTF-8, and lists without
            `join_lists`.
    """
    array = plain(array)
    if is_list(array.type) and join_lists:
        return _trimmed(pc.binary_join(lists(array, "", where), " "))
    return _trimmed(_texts(array, where))


def _texts(array: pa.Array, where: str) -> pa.Array:
    kind, types = array.type, pa.types
    if types.is_string(kind):
        return array
    if types.is_null(kind):
        return pa.nulls(len(array), pa.string())
    if types.is_boolean(kind):
        return pc.if_else(array, "True", "False")
    if types.is_floating(kind):
        return _float_texts(array)
    if types.is_decimal(kind):
        text = pc.replace_substring_regex(array.cast(pa.string()), r"(\.\d*?)0+$", r"\1")
        return pc.replace_substring_regex(text, r"\.$", "")
    if types.is_timestamp(kind):
        text = array.cast(pa.timestamp(kind.unit, "UTC") if kind.tz else kind).cast(pa.string())
        text = pc.replace_substring_regex(text, r"(\.\d*?)0+(Z?)$", r"\1\2")
        return pc.replace_substring_regex(text, r"(?: 00:00:00)?\.?(Z?)$", r"\1")
    if types.is_time(kind):
        text = pc.replace_substring_regex(array.cast(pa.string()), r"(\.\d*?)0+$", r"\1")
        return pc.replace_substring_regex(text, r"\.$", "")
    scalar = types.is_integer(kind) or types.is_date(kind) or types.is_large_string(kind)
    view = getattr(types, "is_string_view", lambda _: False)(kind)
    try:
        if scalar or view:
            return array.cast(pa.string())
        if any(check(kind) for check in (types.is_binary, types.is_large_binary, types.is_fixed_size_binary)):
            return array.cast(pa.binary()).cast(pa.string())
    except pa.ArrowInvalid as error:
        raise ConfigError(
            f"The {where} must hold text. Received: bytes that are no UTF-8 ({kind}). Write the table again"
            " with text."
        ) from error
    advice = (
        "Give `lists` or `explode` the column" if is_list(kind) else "Write its parts as columns of their own"
    )
    raise ConfigError(f"The {where} must hold one value a cell. Received: {kind}. {advice}.")


def _float_texts(array: pa.Array) -> pa.Array:
    if pa.types.is_float16(array.type):
        array = array.cast(pa.float32())
    values = array.to_numpy(zero_copy_only=False)
    with np.errstate(invalid="ignore"):
        whole = (np.floor(values) == values) & (np.abs(values) < 2**63)
        digits = pa.array(np.where(whole, values, 0).astype(np.int64)).cast(pa.string())
    text = pc.if_else(pa.array(whole), digits, array.cast(pa.string()))
    return pc.if_else(pa.array(np.isnan(values)), None, text)


def _trimmed(text: pa.Array) -> pa.Array:
    text = pc.utf8_trim_whitespace(text)
    return pc.if_else(pc.equal(text, ""), None, text)


def lists(array: pa.Array, separator: str, where: str) -> pa.ListArray:
    """Cells as lists of strings; empty where there is nothing.

    Args:
        array: lists of any scalars, or text: a list as JSON or Python writes it, else values between
            separators. Of an object (`{"id": 1, "name": "Drama"}`) its name is taken.
        separator: between the values of a text; "" where a text is one value.
        where: the column, for messages.
    """
    array = plain(array)
    if is_list(array.type):
        return _list_column(array, where)
    text = strings(array, where)
    literal = pc.fill_null(pc.match_substring_regex(text, _LITERAL), False)
    if pc.any(literal).as_py():
        cells = [
            (
                None
                if value is None
                else values
                if (values := parse_list(value)) is not None
                else _split(value, separator)
            )
            for value in as_python(text)
        ]
        return _list_column(pa.array(cells, pa.list_(pa.string())), where)
    if separator:
        return _list_column(pc.split_pattern(text, separator), where)
    return _list_column(
        pa.array([None if value is None else [value] for value in as_python(text)], pa.list_(pa.string())),
        where,
    )


def _split(text: str, separator: str) -> list[str]:
    return text.split(separator) if separator else [text]


def _list_column(array: pa.Array, where: str) -> pa.ListArray:
    parents, values = _flat(array)
    if pa.types.is_struct(values.type):
        values = pa.array([name_of(value) for value in values.to_pylist()], pa.string())
    text = strings(values, where, join_lists=True)
    kept = text.is_valid().to_numpy(zero_copy_only=False)
    counts = np.bincount(parents[kept], minlength=len(array))
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), text.filter(pa.array(kept)))


def _flat(array: pa.Array) -> tuple[np.ndarray, pa.Array]:
    """The row of each value, and the values, of a column of lists."""
    if not (pa.types.is_list(array.type) or pa.types.is_large_list(array.type)):
        array = array.cast(pa.list_(array.type.value_type))
    lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False)
    return np.repeat(np.arange(len(array)), lengths), plain(pc.list_flatten(array))


def numbers(array: pa.Array, where: str, decimal: str = ".") -> np.ndarray:
    """Cells as float64, NaN where there is no number, infinite where it is beyond float32, which Examples
    hold.

    Args:
        array: numbers, booleans, or text such as `1e-3`, `$25.00`, `1,234.50`, `12 %`.
        where: the column, for messages.
        decimal: the sign before decimals in text; with `,`, `1.234,50` is 1234.5 and `01.02.1999` is none.
    """
    array = plain(array)
    kind, types = array.type, pa.types
    if types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind) or types.is_boolean(kind):
        if types.is_boolean(kind):
            array = array.cast(pa.int8())
        return _within_float32(array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False))
    if types.is_temporal(kind):
        raise ConfigError(
            f"The {where} must hold numbers. Received: {kind}. Make a number of it, such as the year."
        )
    return _within_float32(parse_numbers(strings(array, where), decimal))


def _within_float32(values: np.ndarray) -> np.ndarray:
    beyond = np.abs(values) > np.finfo(np.float32).max
    return np.where(beyond, np.copysign(np.inf, values), values) if beyond.any() else values


def parse_numbers(text: pa.Array, decimal: str = ".") -> np.ndarray:
    """Trimmed strings as float64, NaN where a string is no number.

    Only what a pattern takes for a number reaches a parser: pandas' own reads the hash `7e41633529` as a
    number with an exponent of eight digits, and ends the process.
    """
    if decimal != ".":
        text = pc.replace_substring(_without_points(text), decimal, ".")
    is_number = pc.match_substring_regex(text, _NUMBER)
    if not pc.all(is_number, min_count=0).as_py():
        money = pc.replace_substring_regex(text, _MONEY, r"\1\2")
        if decimal == ".":
            grouped = pc.match_substring_regex(money, _GROUPED)
            money = pc.if_else(grouped, pc.replace_substring(money, ",", ""), money)
        text = pc.if_else(is_number, text, money)
        is_number = pc.match_substring_regex(text, _NUMBER)
    safe = pc.if_else(is_number, text, None)
    return pc.cast(safe, pa.float64()).to_numpy(zero_copy_only=False)


def _without_points(text: pa.Array) -> pa.Array:
    """Points that divide thousands, taken out of numbers with a decimal comma."""
    grouped = pc.match_substring_regex(text, r"^\D*\d{1,3}(?:\.\d{3})+(?:,\d+)?\D*$")
    return pc.if_else(grouped, pc.replace_substring(text, ".", ""), text)


def vectors(array: pa.Array, where: str) -> tuple[list[list[float] | None], np.ndarray]:
    """Cells as vectors.

    Args:
        array: lists of numbers, or text that writes a list.
        where: the column, for messages.

    Returns:
        A list of floats per row, None where there is nothing or no vector; and which rows hold something that
        is no number: NaN, an infinity, a null or a word.
    """
    array = plain(array)
    present = array.is_valid().to_numpy(zero_copy_only=False).copy()
    if not is_list(array.type):
        text = strings(array, where)
        array = pa.array(
            [None if value is None else parse_list(value) or [value] for value in as_python(text)],
            pa.list_(pa.string()),
        )
        present = array.is_valid().to_numpy(zero_copy_only=False).copy()
    parents, values = _flat(array)
    flat = numbers(values, where)
    bad = np.zeros(len(array), bool)
    bad[parents[~np.isfinite(flat)]] = True
    counts = np.bincount(parents, minlength=len(array))
    ends = np.cumsum(counts)
    present &= (counts > 0) & ~bad
    rows = [
        flat[end - count : end].tolist() if there else None
        for end, count, there in zip(ends, counts, present, strict=True)
    ]
    return rows, bad
