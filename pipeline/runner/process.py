"""A command as a process: guarded streams, Ctrl-C, and what an error says and ends with.

`tfrec` and the modules that are run with `python -m` go through `guarded`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import sys
import traceback
from collections.abc import Callable
from typing import TextIO, cast

from pipeline.config.terminal import Guarded
from pipeline.runner.failures import way_out
from pipeline.runner.interruption import Interrupts
from tfrec_fusion.errors import TfrecError
from tfrec_fusion.export.request import refusal
from tfrec_fusion.files import AtWork
from tfrec_fusion.serving.child_process import safe_path
from tfrec_fusion.serving.client.errors import Unavailable

__all__ = ["FAILED", "INTERRUPTED", "OCCUPIED", "State", "guarded", "words_of"]

FAILED, OCCUPIED, INTERRUPTED = 1, 3, 130
"""Exit codes: after an error, where another process is at work in the same folder, after Ctrl-C."""


@dataclasses.dataclass
class State:
    """What is known of a command when it ends badly.

    Attributes:
        debug: whether the stack of an error is shown.
        resumes: whether the same command, given again, goes on where this one stopped.
    """

    debug: bool = False
    resumes: bool = False


def guarded(action: Callable[[], int], state: State | None = None) -> int:
    """Runs a command whose output cannot act on the terminal, and tells its errors in words.

    Args:
        action: the command; returns its exit code.
        state: of the command, which it may change while it runs.

    Returns:
        The exit code: that of the command, or 1 after an error, 3 if another process is at work in the same
        folder, 130 after Ctrl-C.
    """
    state = state or State()
    # Letters that the terminal's encoding lacks are shown escaped.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    out, err = cast(TextIO, Guarded(sys.stdout)), cast(TextIO, Guarded(sys.stderr))
    streams = contextlib.redirect_stdout(out), contextlib.redirect_stderr(err)
    with streams[0], streams[1], safe_path(), Interrupts() as interrupts:
        try:
            return action()
        except BaseException as error:
            # Native code that is being imported makes an ImportError of a Ctrl-C.
            if interrupts.asked or isinstance(error, KeyboardInterrupt):
                further = (
                    " Nothing half-written was pushed; the next run goes on at the step that was stopped."
                )
                print(f"\nStopped.{further if state.resumes else ''}", file=sys.stderr)
                return INTERRUPTED
            if not isinstance(error, Exception):
                raise
            if state.debug:
                traceback.print_exc()
            else:
                print(f"\n{words_of(error)}", file=sys.stderr)
            return OCCUPIED if isinstance(error, AtWork) else FAILED


def words_of(error: Exception) -> str:
    """What an error says to whoever gave the command."""
    if isinstance(error, ModuleNotFoundError):
        return f"{error}. `tfrec doctor` says what is missing and how to get it."
    if refused := refusal(str(error)):
        return refused
    if isinstance(error, Unavailable) and error.code == "UNAVAILABLE":
        return (
            f"{error}. Start a server with `tfrec serve` and wait until it names its address, or name another"
            " with --url."
        )
    if isinstance(error, TfrecError):
        return str(error)
    return f"{way_out(error) or f'{type(error).__name__}: {error}'}\n(--debug shows where)"
