"""Settings of CSV files: how they are written, where that is not told from their content."""

from __future__ import annotations

import codecs
import dataclasses
from typing import Literal

from tfrec_fusion.config import ConfigError

__all__ = ["Csv"]


@dataclasses.dataclass(frozen=True)
class Csv:
    """How a CSV file is written.

    Attributes:
        delimiter: between columns, one or more characters (`;`, `|`, `::`); None: told from the file's
            content.
        encoding: for example `utf-8`, `cp1251` or `gb18030`; None: told from the file's content.
        decimal: the sign before decimals, `.` or `,`.
        nulls: what stands for nothing besides an empty field, for example `NULL`.
        header: names of the columns of a file without a header line; None: the first line holds them.
    """

    delimiter: str | None = None
    encoding: str | None = None
    decimal: Literal[".", ","] = "."
    nulls: tuple[str, ...] = ()
    header: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.delimiter is not None and (not self.delimiter or set(self.delimiter) & set('\r\n"')):
            raise ConfigError(
                "`csv.delimiter` must be one or more characters, no quote and no line break. "
                f"Received: {self.delimiter!r}. Leave it out to have it told from the file."
            )
        if self.encoding is not None:
            _check_encoding(self.encoding)
        if self.header is not None and (
            not self.header or "" in self.header or len(set(self.header)) < len(self.header)
        ):
            raise ConfigError(
                f"`csv.header` must name each column once. Received: {list(self.header)}. Leave it out where"
                " the file has a header line."
            )


def _check_encoding(encoding: str) -> None:
    try:
        "text".encode(encoding)
        codecs.getincrementaldecoder(encoding)
    except (LookupError, UnicodeError) as error:
        raise ConfigError(
            f"`csv.encoding` must be a known one. Received: {encoding!r}. Try utf-8."
        ) from error
