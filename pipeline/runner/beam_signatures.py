"""Memory for the signatures of functions that Apache Beam inspects anew for every bundle.

Of a small run's processor time a fifth was `inspect.signature` of the same few hundred functions: Beam's
portable runner builds each DoFn again for each bundle of each stage, and asks for the signature of its
methods each time (`apache_beam.transforms.core.get_function_args_defaults`, Beam 2.6x and 2.7x).
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["remembered_signatures"]

ASKED = "get_function_args_defaults"

Arguments = tuple[list[str], list[Any]]


@contextlib.contextmanager
def remembered_signatures() -> Iterator[None]:
    """While it is open, Beam inspects a function once. A Beam that asks otherwise is left as it is."""
    from apache_beam.transforms import core

    inspect = getattr(core, ASKED, None)
    if inspect is None:
        yield
        return
    setattr(core, ASKED, remembering(inspect))
    try:
        yield
    finally:
        setattr(core, ASKED, inspect)


def remembering(inspect: Callable[[Any], Arguments]) -> Callable[[Any], Arguments]:
    """The same answers, found once for each function, and for a method once for all objects of its class."""
    free: weakref.WeakKeyDictionary[Any, Arguments] = weakref.WeakKeyDictionary()
    bound: weakref.WeakKeyDictionary[Any, Arguments] = weakref.WeakKeyDictionary()

    def remembered(function: Any) -> Arguments:
        method = getattr(function, "__func__", None)
        known, key = (free, function) if method is None else (bound, method)
        try:
            args, defaults = known[key]
        except KeyError:
            args, defaults = known[key] = inspect(function)
        except TypeError:  # cannot be hashed, or not be referred to weakly
            return inspect(function)
        return list(args), list(defaults)

    return remembered
