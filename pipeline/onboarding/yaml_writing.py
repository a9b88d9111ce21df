"""Configurations as YAML with a reason beside a key: values by the library, comments that cannot break out of
their line."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import yaml

from tfrec_fusion.config import ConfigError

Path = tuple[str, ...]
WIDE = 1 << 20


class _Dumper(yaml.SafeDumper):
    """Writes mappings a key a line, lists and `Inline` mappings on one line."""


class Inline(dict):
    """A mapping that is written on one line."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.Node:
    """A string; with line breaks or signs that cannot be printed, on one line with escapes."""
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=None if value.isprintable() else '"')


_Dumper.add_representer(str, _text)
_Dumper.add_representer(
    list, lambda dumper, value: dumper.represent_sequence("tag:yaml.org,2002:seq", value, flow_style=True)
)
_Dumper.add_representer(
    Inline,
    lambda dumper, value: dumper.represent_mapping("tag:yaml.org,2002:map", value.items(), flow_style=True),
)


def dump(values: Any) -> str:
    """A value as YAML, in the order of its keys."""
    return yaml.dump(
        values, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=WIDE, default_flow_style=False
    )


def one_line(text: str) -> str:
    """A comment's text: line breaks and what else cannot be printed are written as escapes."""
    return "".join(
        sign if sign.isprintable() else sign.encode("unicode_escape").decode("ascii") for sign in text
    )


def write(
    values: dict[str, Any],
    comments: dict[Path, str],
    head: list[str],
    below: dict[Path, list[str]],
    end: list[str],
) -> str:
    """A configuration as YAML.

    Args:
        values: the configuration.
        comments: reasons by path of keys, put at the end of the key's line (or of its value's last one).
        head: comment lines before everything.
        below: comment lines at the end of the mapping of a path, for example keys that could be added to it.
        end: comment lines after everything.

    Returns:
        The text; it reads back as exactly `values`.

    Raises:
        ConfigError: if it does not, which would be a fault of this module.
    """
    text = dump(values)
    marks = dict(_marks(yaml.compose(text, Loader=yaml.SafeLoader), ()))
    lines = [_comment(line) for line in head]
    ends = {marks[path].last: one_line(comment) for path, comment in comments.items() if path in marks}
    after = {marks[path].last: (marks[path].column, notes) for path, notes in below.items() if path in marks}
    starts = {mark.first for path, mark in marks.items() if len(path) == 1 and mark.several}
    for number, line in enumerate(text.splitlines()):
        if number in starts and lines:
            lines.append("")
        lines.append(f"{line}  # {ends[number]}" if number in ends else line)
        column, notes = after.get(number, (0, []))
        lines += [" " * (column + 2) + _comment(note) for note in notes]
    if end:
        lines += ["", *(_comment(line) for line in end)]
    written = "\n".join(lines) + "\n"
    if yaml.safe_load(written) != values:
        raise ConfigError(
            "The configuration could not be written so that it reads back as it is. Rename the columns with"
            " unusual names."
        )
    return written


def _comment(text: str) -> str:
    return f"# {one_line(text)}".rstrip()


class _Mark(NamedTuple):
    """Lines of a key and of its value's end, the key's column, and whether the value takes lines of its
    own."""

    first: int
    last: int
    column: int
    several: bool


def _marks(node: yaml.Node | None, path: Path) -> Iterator[tuple[Path, _Mark]]:
    """The marks of each path of keys; nothing of what stands in one line."""
    for key, value in node.value if isinstance(node, yaml.MappingNode) and not node.flow_style else ():
        inner = (*path, str(key.value))
        nested = list(_marks(value, inner))
        yield from nested
        last = max((mark.last for _, mark in nested), default=value.end_mark.line)
        yield inner, _Mark(key.start_mark.line, last, key.start_mark.column, bool(nested))
