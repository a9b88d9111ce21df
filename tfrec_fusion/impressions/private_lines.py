"""Lines that are appended to files of their owner's alone.

A link that somebody planted would send lines into a file of theirs, or ours; a pipe would never return. So no
link is followed, nothing but a plain file with one name is written to, and its mode is 0600.
"""

from __future__ import annotations

import os
import stat

__all__ = ["append_line", "private_folder"]


def private_folder(path: str) -> None:
    """Makes a folder that its owner alone may read, where there is none.

    Raises:
        ValueError: it is a link or no folder.
    """
    os.makedirs(path, mode=0o700, exist_ok=True)
    if not stat.S_ISDIR(os.lstat(path).st_mode):
        raise ValueError(f"The folder of a log must be a folder and no link. Received: {path}. Name another.")


def append_line(path: str, line: bytes) -> None:
    """Appends a line, whole or not at all.

    What a killed writer left without an end is given one first, so that it spoils no line but its own.

    Raises:
        OSError: the disk is full, or the path is no plain file of ours.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK
    file = os.open(path, flags, 0o600)
    try:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
            raise OSError(f"{path} is no plain file, or has another name")
        os.fchmod(file, 0o600)
        size = status.st_size
        if size and os.pread(file, 1, size - 1) != b"\n":
            line = b"\n" + line
        left = line
        try:
            while left:
                left = left[os.write(file, left) :]
        except OSError:
            if len(left) < len(line):
                os.ftruncate(file, size)  # the beginning that a full disk took would spoil the next line
            raise
    finally:
        os.close(file)
