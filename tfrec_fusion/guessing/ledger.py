"""Record of what each column of each table was taken for, or why it was left out: nothing goes unnamed."""

from __future__ import annotations

import dataclasses

NAMELESS = "(no name)"


@dataclasses.dataclass(frozen=True)
class Choice:
    """A column that is used.

    Attributes:
        table: `interactions`, `items` or `users`.
        role: the key in the configuration, such as `user` or `categories`.
        column: its name.
        why: in words.
        path: the table's file or glob.
    """

    table: str
    role: str
    column: str
    why: str
    path: str


@dataclasses.dataclass(frozen=True)
class LeftOut:
    """A column that is not used, or a whole table or file where `column` is None.

    Attributes:
        path: the table's file or glob.
        column: its name.
        why: in words.
        offer: keys of `data.interactions` that would use it.
    """

    path: str
    column: str | None
    why: str
    offer: dict = dataclasses.field(default_factory=dict)

    def __str__(self) -> str:
        column = "" if self.column is None else f": {self.column or NAMELESS}"
        return f"{self.path}{column}: {self.why}"


@dataclasses.dataclass
class Ledger:
    """Choices in the order in which they are shown, what was left out, and what to look at."""

    choices: list[Choice] = dataclasses.field(default_factory=list)
    left: list[LeftOut] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)

    def chose(self, table: str, role: str, column: str, why: str, path: str) -> None:
        self.choices.append(Choice(table, role, column, why, path))

    def leave(self, path: str, column: str | None, why: str, **offer: object) -> None:
        self.left.append(LeftOut(path, column, why, offer))

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def named(self, path: str) -> set[str]:
        """Columns of a table that are used, or of which it is said why not."""
        chosen = {choice.column for choice in self.choices if choice.path == path}
        left = {entry.column for entry in self.left if entry.path == path and entry.column is not None}
        return chosen | left

    def used(self, path: str) -> bool:
        """Whether a column of the table is used."""
        return any(choice.path == path for choice in self.choices)
