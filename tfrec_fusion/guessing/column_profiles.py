"""One column of a table: its cells as strings, and what is seen in them; everything is worked out when it is
first asked for."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import pandas as pd
import pyarrow as pa

from tfrec_fusion.config import ConfigError
from tfrec_fusion.datasets import cells
from tfrec_fusion.datasets.list_cells import parse_list
from tfrec_fusion.guessing import column_names, value_shapes
from tfrec_fusion.guessing.time_columns import TimeGuess, guess_time

FILES = "jpe?g|png|gif|webp|bmp|tiff?|svg|avif|heic|html?|mp3|mp4|wav|ogg|flac|m4a|aac|opus"


@dataclasses.dataclass(eq=False)
class Column:
    """A column's sample.

    Attributes:
        name: as in the file.
        path: of the table that holds it.
        array: the cells, as Arrow read them.
        decimal: the sign before decimals.
        unnamed: whether its name is made up, so that it says nothing.
        known_strings: the cells as strings where they were made already (of a table that was put together).
    """

    name: str
    path: str
    array: pa.Array
    decimal: str = "."
    unnamed: bool = False
    known_strings: pd.Series | None = None

    @property
    def rows(self) -> int:
        return len(self.array) if self.known_strings is None else len(self.known_strings)

    @functools.cached_property
    def words_of_name(self) -> tuple[str, ...]:
        return column_names.tokens(self.name)

    @functools.cached_property
    def strings(self) -> pd.Series:
        """Of every row its cell as a string, None where there is nothing; a list as its values with spaces
        between."""
        return self._read[0]

    @functools.cached_property
    def _read(self) -> tuple[pd.Series, bool]:
        """The cells as strings, and whether they can be."""
        if self.known_strings is not None:
            return self.known_strings, True
        readable = True
        try:
            text = cells.strings(self.array, f"column {self.name!r} of {self.path}", join_lists=True)
        except ConfigError:  # structs and bytes: no role, but named
            text, readable = pa.nulls(len(self.array), pa.string()), False
        return pd.Series(text.to_numpy(zero_copy_only=False), dtype=object), readable

    @functools.cached_property
    def values(self) -> pd.Series:
        """The cells that hold something, as strings."""
        return self.strings[self.strings.notna()]

    @property
    def filled(self) -> float:
        """Share of rows with a value."""
        return len(self.values) / max(1, self.rows)

    @functools.cached_property
    def is_unreadable(self) -> bool:
        """Whether its cells can be no strings: structs, maps, bytes."""
        return not self._read[1] and self.array.null_count < len(self.array)

    @functools.cached_property
    def is_native_list(self) -> bool:
        """Whether the file itself holds lists, as Parquet and JSON can."""
        return self.known_strings is None and cells.is_list(self.array.type)

    @functools.cached_property
    def is_list(self) -> bool:
        """Whether cells hold lists: of the file's own, or written as JSON or Python (`['easy', 'quick']`)."""
        if self.is_native_list:
            return True
        sample = self.values[:1000]
        literal = sample.astype("string").str.fullmatch(r"(?s)[\[({].*[\])}]") if len(sample) else sample
        if not len(sample) or literal.mean() < 0.9:
            return False
        return float(np.mean([parse_list(value) is not None for value in sample[literal][:200]])) > 0.9

    @functools.cached_property
    def elements(self) -> pd.Series:
        """The values in lists, of a sample of rows."""
        where = f"column {self.name!r} of {self.path}"
        array = (
            self.array[:5000] if self.known_strings is None else pa.array(self.strings[:5000], pa.string())
        )
        elements = cells.lists(array, "", where).flatten()
        return pd.Series(elements.to_numpy(zero_copy_only=False), dtype=object).dropna()

    @functools.cached_property
    def unique(self) -> pd.Series:
        """The distinct values."""
        return self.values.drop_duplicates().astype("string")

    @property
    def distinct(self) -> int:
        return len(self.unique)

    @functools.cached_property
    def numbers(self) -> pd.Series:
        """The distinct values as numbers, NaN where they are none; the index is the values'."""
        return self.as_numbers(self.unique)

    def as_numbers(self, values: pd.Series) -> pd.Series:
        """Values of this column as numbers, NaN where they are none."""
        text = pa.array(values.astype(object), pa.string())
        return pd.Series(cells.parse_numbers(text, self.decimal), index=values.index)

    @functools.cached_property
    def is_flag(self) -> bool:
        """Whether its values are yes and no."""
        return not self.is_list and value_shapes.is_flag(self.unique)

    @functools.cached_property
    def is_number(self) -> bool:
        if not self.distinct or self.is_list or self.is_time_type:
            return False
        return bool(self.numbers.notna().mean() > 0.95)

    @functools.cached_property
    def is_integer(self) -> bool:
        return self.is_number and bool((self.numbers.dropna() % 1 == 0).all())

    @functools.cached_property
    def spread(self) -> str:
        """`from 1 to 5`, of numbers."""
        return f"from {self.numbers.min():,.10g} to {self.numbers.max():,.10g}"

    @property
    def is_time_type(self) -> bool:
        """Whether the file itself says that the column holds dates or times."""
        kind = self.array.type
        return pa.types.is_timestamp(kind) or pa.types.is_date(kind)

    @functools.cached_property
    def time(self) -> TimeGuess | None:
        """How the column can be read as times, or None."""
        if self.is_list or not len(self.values) or self.is_flag:
            return None
        if self.is_time_type:
            return TimeGuess("iso", "the file says that it holds times")
        return guess_time(self.values, self.is_number, self.words_of_name, self.unnamed)

    @functools.cached_property
    def median_words(self) -> float:
        """Median number of words in the distinct values."""
        return float(self.unique[:5000].str.count(r"\S+").median()) if self.distinct else 0.0

    @functools.cached_property
    def long_words(self) -> float:
        """90th percentile of the number of words, over all rows."""
        if not self.distinct:
            return 0.0
        return float(self.values[:20_000].astype("string").str.count(r"\S+").quantile(0.9))

    @functools.cached_property
    def is_words(self) -> bool:
        """Whether values are words rather than codes, numbers, flags and addresses."""
        if self.is_list:
            elements = self.elements[:2000].astype("string")
            return len(elements) > 0 and bool(elements.str.contains(value_shapes.WORD).mean() > 0.5)
        if self.is_number or self.is_flag or self.time:
            return False
        sample = self.unique[:2000]
        if sample.str.fullmatch(r"(?=\D*\d)(?=.*[^\W\d_])[\w\-.:]{8,}").mean() > 0.7:
            return False  # codes, such as hashes
        return bool(sample.str.contains(value_shapes.WORD).mean() > 0.7) and not self.is_address

    @functools.cached_property
    def is_address(self) -> bool:
        """Whether values are addresses on the web or paths of files."""
        pattern = r"^\w+://|^www\.|^/\w|\.(?:" + FILES + r")(?:[?#].*)?$"
        return self.distinct > 0 and bool(self.unique[:2000].str.contains(pattern, case=False).mean() > 0.5)

    @functools.cached_property
    def separator(self) -> str | None:
        """What divides several values in one string, or None where that does not look so."""
        if self.is_list or self.is_number or self.time or self.distinct < 3 or self.is_address:
            return None
        sample = self.values[:20_000].astype("string")
        best: tuple[float, str] | None = None
        for sign in "|;,、，/":
            parts = sample.str.split(sign, regex=False).explode().str.strip()
            parts = parts[parts.notna() & (parts != "")]
            several = sample.str.contains(sign, regex=False).mean()
            if several < 0.15 or parts.empty:
                continue
            reuse = len(parts) / parts.nunique()
            if reuse >= (3 if sign == "|" else 5) and parts.str.count(r"\S+").quantile(0.9) <= 3:
                best = max(best or (0.0, ""), (several, sign))
        return best[1] if best else None

    @functools.cached_property
    def vector_length(self) -> int | None:
        """Length of ready-made vectors (lists of numbers, all of one length), or None."""
        if not self.is_list:
            return None
        where = f"column {self.name!r} of {self.path}"
        array = (
            self.array[:2000] if self.known_strings is None else pa.array(self.strings[:2000], pa.string())
        )
        lists = cells.lists(array, "", where)
        lengths = set(lists.value_lengths().drop_null().to_pylist()) - {0}
        if len(lengths) != 1 or min(lengths) < 2:
            return None
        elements = self.elements[:2000]
        numbers = self.as_numbers(elements)
        is_real = numbers.notna().all() and bool((numbers % 1 != 0).any())
        return lengths.pop() if is_real else None
