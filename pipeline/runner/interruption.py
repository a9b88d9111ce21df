"""Ctrl-C that is not lost: native code may swallow a KeyboardInterrupt, or turn it into an error of its
own."""

from __future__ import annotations

import signal
import threading
import types
from typing import Any


class Interrupts:
    """Notes that somebody pressed Ctrl-C while the context is open, whatever becomes of the exception.

    TensorFlow's tracing, for one, raises "error_already_set: MISMATCH … REPLACED BY KeyboardInterrupt", a
    RuntimeError. Outside the main thread, and where the signal is ignored (a job in a shell's background),
    nothing is changed.

    One may stand inside another; each then knows what the outer one noted.

    Attributes:
        asked: whether Ctrl-C was pressed.
    """

    def __init__(self) -> None:
        self._pressed = False
        self._before: Any = None  # as `signal.signal` gives it
        self._outer: Interrupts | None = None

    @property
    def asked(self) -> bool:
        return self._pressed or (self._outer is not None and self._outer.asked)

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            handler = signal.getsignal(signal.SIGINT)
            if handler is signal.default_int_handler:
                self._before = signal.signal(signal.SIGINT, self._note)
            elif isinstance(outer := getattr(handler, "__self__", None), Interrupts):
                self._outer = outer
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def check(self) -> None:
        """Raises the KeyboardInterrupt that was asked for, if one was.

        Raises:
            KeyboardInterrupt: if Ctrl-C was pressed.
        """
        if self.asked:
            raise KeyboardInterrupt

    def _note(self, number: int, frame: types.FrameType | None) -> None:
        self._pressed = True
        raise KeyboardInterrupt
