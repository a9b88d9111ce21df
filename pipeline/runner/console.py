"""A compact table of steps on the terminal, and everything else in a log file.

TensorFlow, Beam and TFX write hundreds of lines to standard output and standard error, some of them from C++.
While the table is shown, both streams lead into the log; the table has the terminal to itself.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import sys
import threading
import time
from types import TracebackType

import psutil

from pipeline.config.terminal import safe

NAME, STATE, WIDTH = 27, 8, 100
SPINNER = "|/-\\"


class MemoryWatch:
    """Highest memory of this process and its children, sampled twice a second: each look for children reads
    about every process of the machine, which at ten a second took a twentieth of a small run."""

    SECONDS = 0.5

    def __init__(self) -> None:
        self.process = psutil.Process()
        self.peak = 0
        self.overall = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._stop.wait(self.SECONDS):
            self.sample()

    def sample(self) -> None:
        total = 0
        for process in [self.process, *self.process.children(recursive=True)]:
            try:
                total += process.memory_info().rss
            except psutil.NoSuchProcess:
                continue
        self.peak = max(self.peak, total)
        self.overall = max(self.overall, total)

    def start(self) -> None:
        """Begins a new step."""
        self.peak = 0
        self.sample()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()


class Table:
    """Shows steps one below the other: name, state, seconds, memory, result.

    What a step is doing stands on a line that changes; where the output is no terminal (a file, CI), on lines
    of their own: of each step the first epoch, and then what it is at, at most every `SECONDS`.

    Args:
        log: file that receives what everybody else writes.
        title: printed above the steps.
    """

    SECONDS = 10.0

    def __init__(self, log: pathlib.Path, title: str):
        self.log, self.title = log, title
        self._name, self._doing, self._start = "", "", 0.0
        self._shown_at, self._not_shown = 0.0, ""
        self._lock = threading.Lock()

    def __enter__(self) -> Table:
        # What libraries write may hold rows of the data: the folder and the file are their owner's alone.
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.log.parent.chmod(0o700)
        file = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
        os.fchmod(file, 0o600)
        sys.stdout.flush()
        sys.stderr.flush()
        self._saved = [os.dup(1), os.dup(2)]
        # What the terminal's encoding lacks is shown escaped, and stops nothing.
        encoding = sys.stdout.encoding or "utf-8"
        self.out = os.fdopen(os.dup(1), "w", buffering=1, encoding=encoding, errors="backslashreplace")
        self.live = self.out.isatty()
        os.dup2(file, 1)
        os.dup2(file, 2)
        os.close(file)
        self.memory = MemoryWatch()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()
        self.line(self.title)
        self.line(f"  {'step':<{NAME}} {'state':<{STATE}} {'seconds':>7} {'memory':>8}  result")
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ended.set()
        self._thread.join()
        self._erase()
        self.memory.stop()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(
                OSError
            ):  # the log's disk may be full, which is told by what failed for it
                stream.flush()
        for number, saved in zip((1, 2), self._saved, strict=True):
            os.dup2(saved, number)
            os.close(saved)
        self.out.close()

    def line(self, text: str) -> None:
        """Writes a line to the terminal."""
        with self._lock:
            self._erase()
            self.out.write(safe(text, breaks="\n") + "\n")

    def begin(self, name: str) -> None:
        """A step starts."""
        self.memory.start()
        self._start, self._doing, self._name = time.perf_counter(), "", name
        self._shown_at, self._not_shown = self._start, ""

    def doing(self, text: str) -> None:
        """What the step is at."""
        self._doing = text
        if self.live or not self._name:
            return
        epoch = text.startswith("epoch")
        due = time.perf_counter() - self._shown_at >= self.SECONDS
        if due or (epoch and self._shown_at == self._start):
            self._say(text)
        elif epoch:
            self._not_shown = text

    def _say(self, text: str) -> None:
        self._shown_at, self._not_shown = time.perf_counter(), ""
        self.line(f"    {self._name}: {text} ({self._shown_at - self._start:.0f} s)")

    def end(self, state: str, result: str) -> tuple[float, float]:
        """A step is over. Returns its seconds and its peak memory in megabytes."""
        self.memory.sample()
        seconds, megabytes = time.perf_counter() - self._start, self.memory.peak / 1e6
        if self._not_shown:
            self._say(self._not_shown)
        name, self._name = self._name, ""
        self.line(f"  {name:<{NAME}} {state:<{STATE}} {seconds:>7.1f} {megabytes:>5.0f} MB  {result}")
        return seconds, megabytes

    def _spin(self) -> None:
        turn = 0
        while not self._ended.wait(0.25):
            if self.live and self._name:
                with self._lock:
                    seconds = time.perf_counter() - self._start
                    text = (
                        f"  {self._name:<{NAME}} {SPINNER[turn % 4]:<{STATE}} {seconds:>7.1f} {'':>8} "
                        f" {self._doing}"
                    )
                    self.out.write("\r" + safe(text)[:WIDTH].ljust(WIDTH))
                    self.out.flush()
                turn += 1

    def _erase(self) -> None:
        if self.live:
            self.out.write("\r" + " " * WIDTH + "\r")
