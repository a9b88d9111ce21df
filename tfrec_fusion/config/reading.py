"""Strict reader of settings: plain YAML values become frozen dataclasses, and every mistake is named at once.

The range of a number stands in its annotation, `Annotated[int, Interval(ge=1)]`, and so does what a layer may
be called (`layer_names`). Both are checked wherever the setting is made: by `from_dict` with the key's full
name, and by the dataclass itself in Python.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import math
import types
import typing
from typing import Any, Literal, TypeVar

from annotated_types import Interval

from tfrec_fusion.config.layer_names import LayerName
from tfrec_fusion.errors import TfrecError

T = TypeVar("T")
_WRONG = object()  # what a value that cannot be used becomes, while the others are still read


class ConfigError(TfrecError, ValueError):
    """A configuration that cannot be used; says which key, the value seen and the way out."""


class Settings:
    """Base of a dataclass of settings: a number outside the range of its annotation is refused.

    A subclass with a `__post_init__` of its own calls this one first.
    """

    def __post_init__(self) -> None:
        errors: list[str] = []
        for name, hint in _hints(typing.cast(Any, type(self))).items():
            _check(hint, getattr(self, name), f"{type(self).__name__}.{name}", errors)
        _raise(errors)


def from_dict(cls: type[T], values: Any, where: str = "") -> T:
    """Builds a dataclass from plain YAML values, nested dataclasses included.

    Args:
        cls: the dataclass.
        values: a mapping with fields of `cls`; a field left out keeps its default, in a nested dataclass the
            one that the field around it gives.
        where: the dotted path of `values` in the file, for messages.

    Returns:
        An instance of `cls`.

    Raises:
        ConfigError: for unknown keys (the nearest known one is suggested), missing ones, and values of a
            wrong type or outside their range; names all of them.
    """
    errors: list[str] = []
    value = _build(cls, values, where, errors)
    _raise(errors)
    return value


def describe_range(bounds: Interval) -> str:
    """A range in words, for example `above 0 and at most 1`."""
    texts = [
        f"{words} {bound:,}" if isinstance(bound, int) else f"{words} {bound:g}"
        for words, bound in (
            ("at least", bounds.ge),
            ("above", bounds.gt),
            ("at most", bounds.le),
            ("below", bounds.lt),
        )
        if bound is not None
    ]
    return " and ".join(texts) or "a finite number"


def _raise(errors: list[str]) -> None:
    if len(errors) == 1:
        raise ConfigError(errors[0])
    if errors:
        raise ConfigError("\n  ".join([f"{len(errors)} settings cannot be used:", *errors]))


@functools.cache
def _hints(cls: Any) -> dict[str, Any]:
    """Annotations of a dataclass's fields, ranges included."""
    hints = typing.get_type_hints(cls, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


def _build(cls: type, values: Any, where: str, errors: list[str], base: Any = None) -> Any:
    """A dataclass from a mapping; what the mapping leaves out is taken from `base`, an instance, or from the
    class."""
    if not isinstance(values, dict):
        errors.append(f"`{where or cls.__name__}` must be a mapping of keys to values. Received: {values!r}.")
        return _WRONG
    hints, before = _hints(cls), len(errors)
    for key in values:
        if key not in hints:
            near = difflib.get_close_matches(str(key), hints, n=1)
            advice = f"Did you mean `{near[0]}`?" if near else f"Known keys: {', '.join(hints)}."
            errors.append(f"Unknown key `{_join(where, key)}`. {advice}")
    defaults = {field.name: _default(field, base) for field in dataclasses.fields(cls)}
    for name, default in defaults.items():
        if default is dataclasses.MISSING and name not in values:
            errors.append(f"`{_join(where, name)}` is missing. Give it a value.")
    own, read = len(errors) > before, {}
    for key in [key for key in values if key in hints]:
        count = len(errors)
        value = _convert(hints[key], values[key], _join(where, key), errors, defaults[key])
        if len(errors) == count:
            read[key] = value
        elif not dataclasses.is_dataclass(hints[key]):
            own = True
    if own:
        return _WRONG
    # Where settings of a key of its own are wrong, the usual ones stand for them, so that what is wrong with
    # the others is told as well.
    try:
        made = cls(**read) if base is None else dataclasses.replace(base, **read)
    except ConfigError as error:  # what does not go together
        errors.append(str(error))
        return _WRONG
    except TypeError:
        if len(errors) == before:
            raise
        return _WRONG  # there are no usual ones
    return made if len(errors) == before else _WRONG


def _default(field: dataclasses.Field, base: Any) -> Any:
    if base is not None:
        return getattr(base, field.name)
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def _join(where: str, key: Any) -> str:
    return f"{where}.{key}" if where else str(key)


def _convert(hint: Any, value: Any, where: str, errors: list[str], default: Any = None) -> Any:
    """Turns a YAML value into what a field's annotation asks for; what it cannot be goes to `errors`."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        read = _convert(arguments[0], value, where, errors, default)
        if read is not _WRONG:
            _check(hint, read, where, errors)
        return read
    if origin in (typing.Union, types.UnionType):
        return _convert_union(arguments, value, where, errors, default)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return _build(hint, value, where, errors, default if isinstance(default, hint) else None)
    if origin is Literal:
        if value in arguments and type(value) in {type(argument) for argument in arguments}:
            return value
        near = difflib.get_close_matches(str(value), [str(argument) for argument in arguments], n=1)
        advice = f" Did you mean {near[0]!r}?" if near else ""
        choices = ", ".join(map(repr, arguments))
        return _wrong(errors, f"`{where}` must be one of {choices}. Received: {value!r}.{advice}")
    if origin is tuple:
        if isinstance(value, str) and arguments[0] is str:
            value = [value]
        if not isinstance(value, (list, tuple)):
            return _wrong(errors, f"`{where}` must be a list. Received: {value!r}.")
        return tuple(
            _convert(arguments[0], entry, f"{where}[{position}]", errors)
            for position, entry in enumerate(value)
        )
    if origin is dict:
        if not isinstance(value, dict):
            return _wrong(errors, f"`{where}` must be a mapping. Received: {value!r}.")
        return {
            str(key): _convert(arguments[1], entry, _join(where, key), errors) for key, entry in value.items()
        }
    return value if hint is Any else _convert_scalar(hint, value, where, errors)


def _convert_union(options: tuple, value: Any, where: str, errors: list[str], default: Any) -> Any:
    if value is None and type(None) in options:
        return None
    kept: list[str] = []
    for option in options:
        if option is type(None):
            continue
        tried: list[str] = []
        read = _convert(option, value, where, tried, default)
        if not tried:
            return read
        if not kept or "must be of type" in kept[0]:  # a value of the right type outside its range says more
            kept = tried
    errors.extend(kept)
    return _WRONG


def _convert_scalar(hint: type, value: Any, where: str, errors: list[str]) -> Any:
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            return _wrong(errors, f"`{where}` must be a finite number. Received: {value:.3g}.")
    if hint is float and isinstance(value, str):  # YAML 1.1 reads 1e-3 as a string
        try:
            return float(value)
        except ValueError:
            pass
    if not isinstance(value, hint) or (hint is not bool and isinstance(value, bool)):
        return _wrong(
            errors,
            f"`{where}` must be of type {hint.__name__}. Received: {value!r} ({type(value).__name__}).",
        )
    return value


def _check(hint: Any, value: Any, where: str, errors: list[str]) -> None:
    """Holds the numbers in a value to the ranges in its annotation, and names of layers to their rule."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        bounds = arguments[1]
        if isinstance(bounds, LayerName):
            problem = bounds.problem(value)
            if problem:
                errors.append(f"`{where}` {problem}")
            return
        numeric = isinstance(value, (int, float)) and not isinstance(value, bool)
        if numeric and not _inside(value, bounds):
            seen = f"{value:g}" if isinstance(value, float) else str(value)
            errors.append(f"`{where}` must be {describe_range(bounds)}. Received: {seen}.")
    elif origin in (typing.Union, types.UnionType):
        for option in arguments:
            _check(option, value, where, errors)
    elif origin is tuple and isinstance(value, (tuple, list)):
        for position, entry in enumerate(value):
            _check(arguments[0], entry, f"{where}[{position}]", errors)
    elif origin is dict and isinstance(value, dict):
        for key, entry in value.items():
            _check(arguments[1], entry, _join(where, key), errors)


def _inside(value: float, bounds: Any) -> bool:
    """False for NaN and infinities, whatever the bounds."""
    return (
        math.isfinite(value)
        and (bounds.ge is None or value >= bounds.ge)
        and (bounds.gt is None or value > bounds.gt)
        and (bounds.le is None or value <= bounds.le)
        and (bounds.lt is None or value < bounds.lt)
    )


def _wrong(errors: list[str], message: str) -> Any:
    errors.append(message)
    return _WRONG
