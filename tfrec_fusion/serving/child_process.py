"""Python child processes that import nothing from the folder in which somebody stands.

`python -m` and `python -c` put the working folder in front of all packages, so that a file `grpc.py` there
would run. `python -P` leaves it out, but is not in Python 3.10; here the child drops the entry before it
imports anything.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import sys
from collections.abc import Iterator

__all__ = ["python_code", "python_module", "safe_path"]

_ROOT = str(pathlib.Path(__file__).resolve().parents[2])
# The folder of this package comes last: it is only needed where the package is not installed, and may itself
# be where somebody stands.
_START = (
    "import sys; sys.path[:] = [one for one in sys.path if one]; "
    f"sys.path += [one for one in [{_ROOT!r}] if one not in sys.path]; "
)


def python_module(module: str) -> list[str]:
    """The command that runs a module as `python -m` does; arguments follow it."""
    return python_code(f"import runpy; runpy.run_module({module!r}, run_name='__main__', alter_sys=True)")


def python_code(code: str) -> list[str]:
    """The command that runs code as `python -c` does."""
    return [sys.executable, "-c", f"{_START}\n{code}"]


@contextlib.contextmanager
def safe_path() -> Iterator[None]:
    """Until the block ends, Python processes that other libraries start (Beam's workers) leave the working
    folder out too.

    Python 3.10 does not know the variable.
    """
    before = os.environ.get("PYTHONSAFEPATH")
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONSAFEPATH"]
        else:
            os.environ["PYTHONSAFEPATH"] = before
