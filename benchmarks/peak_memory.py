"""Peak memory of this process, since it started or since it was last forgotten."""

from __future__ import annotations

import contextlib
import pathlib
import re
import resource

STATUS, FORGET = pathlib.Path("/proc/self/status"), pathlib.Path("/proc/self/clear_refs")


def peak_megabytes() -> float:
    """Megabytes. Where there is /proc, not getrusage's peak, which a process takes over from the one that
    started it."""
    if STATUS.exists():
        return int(re.search(r"VmHWM:\s*(\d+)", STATUS.read_text(encoding="utf-8"))[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def forget_peak() -> None:
    """What is held now becomes the peak; without /proc, the peak remains that of the process so far."""
    with contextlib.suppress(OSError):
        FORGET.write_text("5", encoding="utf-8")
