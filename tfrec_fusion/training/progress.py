"""Progress of a long step, told to whoever watches: components report it, a runner listens."""

from collections.abc import Callable

_listener: Callable[[str], None] | None = None


def report(text: str) -> None:
    """Says what is being done right now, in a few words; silent where nobody listens."""
    if _listener is not None:
        _listener(text)


def listen(listener: Callable[[str], None] | None) -> None:
    """Sets who is told; None for nobody."""
    global _listener
    _listener = listener
