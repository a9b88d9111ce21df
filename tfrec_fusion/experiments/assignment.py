"""Arms by a salted hash: the same unit always gets the same arm, everywhere, without a table of who has
which.

Client, server and readout compute the arm from the experiment and the unit's id alone. Experiments with
different salts (by default their names) assign independently, so that several can run at once.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

from tfrec_fusion.experiments.checks import ExperimentError

_NAME = re.compile(r"[A-Za-z0-9_.\-]{1,64}")
_BITS = 53
"""Of the hash that are kept: what a double holds exactly."""


@dataclasses.dataclass(frozen=True)
class Arm:
    """One arm of an experiment.

    Attributes:
        name: letters, digits, `_`, `.` and `-`.
        share: of the units, above 0 and at most 1.
        version: the served model's version that answers this arm; None for the server's own choice.
        label: the version's label, in place of `version`.
        explore: whether its answers are explored, where the server explores (`Exploration`).
    """

    name: str
    share: float
    version: int | None = None
    label: str | None = None
    explore: bool = True

    def __post_init__(self) -> None:
        _check_name("An arm's name", self.name)
        if (
            isinstance(self.share, bool)
            or not isinstance(self.share, (int, float))
            or not 0 < self.share <= 1
        ):
            raise ExperimentError(
                f"An arm's `share` must be above 0 and at most 1. Received: {self.share!r} of {self.name!r}."
                " Leave an arm without traffic out."
            )
        if self.version is not None and self.label is not None:
            raise ExperimentError(f"Give `version` or `label` of the arm {self.name!r}, not both.")
        if not isinstance(self.explore, bool):
            raise ExperimentError(f"`explore` must be true or false. Received: {self.explore!r}.")
        if self.version is not None and (isinstance(self.version, bool) or not isinstance(self.version, int)):
            raise ExperimentError(f"`version` must be an integer. Received: {self.version!r}.")


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A split of units (users, as a rule) into arms.

    Attributes:
        name: letters, digits, `_`, `.` and `-`.
        arms: at least two, whose shares sum to 1; the first is the control.
        traffic: the share of units that take part; the others have no arm.
        salt: of the hash; the name by default. Experiments with the same salt and shares agree on all units;
            to begin anew after an arm was changed, change the salt.
        interleave: both of two arms answer each request, and their lists become one (`team_draft`). Units
            have no arm of their own then, and shares do not count.
    """

    name: str
    arms: tuple[Arm, ...]
    traffic: float = 1.0
    salt: str = ""
    interleave: bool = False

    def __post_init__(self) -> None:
        _check_name("An experiment's name", self.name)
        if len(self.arms) < 2:
            raise ExperimentError(
                f"An experiment must have at least two arms, the first of which is the control. Received:"
                f" {len(self.arms)} in {self.name!r}."
            )
        names = [arm.name for arm in self.arms]
        if len(set(names)) < len(names):
            raise ExperimentError(f"Arms must have different names. Received: {', '.join(names)}.")
        total = sum(arm.share for arm in self.arms)
        if abs(total - 1) > 1e-9:
            raise ExperimentError(
                f"The shares of all arms must sum to 1. Received: {total:g} ("
                + ", ".join(f"{arm.name}: {arm.share:g}" for arm in self.arms)
                + "). `traffic` is for units that take no part."
            )
        if isinstance(self.traffic, bool) or not 0 < self.traffic <= 1:
            raise ExperimentError(f"`traffic` must be above 0 and at most 1. Received: {self.traffic!r}.")
        if not isinstance(self.interleave, bool):
            raise ExperimentError(f"`interleave` must be true or false. Received: {self.interleave!r}.")
        sides = {(arm.version, arm.label) for arm in self.arms}
        if self.interleave and (len(self.arms) != 2 or (None, None) in sides or len(sides) < 2):
            raise ExperimentError(
                "An experiment that interleaves must have two arms, each with another `version` or `label`."
                f" Received: {', '.join(names)} in {self.name!r}. Both answer each request."
            )

    @classmethod
    def from_mapping(cls, name: str, values: Mapping[str, Any]) -> Experiment:
        """An experiment from what a JSON or YAML file says.

        Args:
            name: the experiment's.
            values: `arms` (a mapping of each arm's name to its share, or to a mapping of `Arm`'s fields), and
                perhaps `traffic`, `salt` and `interleave`, and `read`, which is `outcomes.Reading`'s and not
                looked at here.

        Raises:
            ExperimentError: for unknown keys and values that cannot be used.
        """
        if not isinstance(values, Mapping) or not isinstance(values.get("arms"), Mapping):
            raise ExperimentError(
                f"An experiment must be a mapping with `arms`, a mapping of names to shares. Received:"
                f" {values!r} for {name!r}."
            )
        _check_keys(name, values, {"arms", "traffic", "salt", "interleave", "read"})
        arms = []
        for arm, given in values["arms"].items():
            fields = given if isinstance(given, Mapping) else {"share": given}
            _check_keys(f"{name}.{arm}", fields, {"share", "version", "label", "explore"})
            if "share" not in fields:
                raise ExperimentError(f"The arm {arm!r} of {name!r} must have a `share`.")
            arms.append(Arm(arm, **fields))
        chosen = {key: values[key] for key in ("traffic", "salt", "interleave") if key in values}
        return cls(name, tuple(arms), **chosen)

    @property
    def control(self) -> str:
        """The name of the first arm."""
        return self.arms[0].name

    def arm(self, unit: Any) -> Arm | None:
        """The arm of a unit; None for one that takes no part, and for the empty id of nobody.

        Args:
            unit: an id: text, bytes, or an integer, of which the digits count. `42`, `"42"` and `b"42"` are
                the same unit.

        Returns:
            The unit's arm. Which units take part and which arm they have comes from two independent hashes,
            so that more traffic later moves nobody between arms.
        """
        if not self.takes_part(unit):
            return None
        point, below = self._uniform(self.salt or self.name, "arm", _as_bytes(unit)), 0.0
        for arm in self.arms:
            below += arm.share
            if point < below:
                return arm
        return self.arms[-1]  # the sum of the shares, a rounding below 1

    def takes_part(self, unit: Any) -> bool:
        """Whether a unit is among `traffic`; nobody's empty id is not."""
        text = _as_bytes(unit)
        return bool(text) and self._uniform(self.salt or self.name, "traffic", text) < self.traffic

    @staticmethod
    def _uniform(salt: str, purpose: str, unit: bytes) -> float:
        """A number in [0, 1), as good as uniform: SHA-256 of salt, purpose and unit, each with its length."""
        parts = (salt.encode("utf-8", "surrogatepass"), purpose.encode(), unit)
        digest = hashlib.sha256(b"".join(len(part).to_bytes(8, "big") + part for part in parts)).digest()
        return (int.from_bytes(digest[:8], "big") >> (64 - _BITS)) / 2**_BITS


def read_experiments(path: str | os.PathLike[str]) -> tuple[Experiment, ...]:
    """Experiments of a JSON file: `{"NAME": {"arms": {"control": 0.5, "new": {"share": 0.5, "version":
    2}}}}`.

    Raises:
        ExperimentError: the file cannot be read, or holds something else.
    """
    try:
        with open(path, encoding="utf-8") as file:
            document = json.load(file)
    except (OSError, ValueError) as error:
        raise ExperimentError(f"Experiments cannot be read from {os.fspath(path)}: {error}.") from None
    if not isinstance(document, dict) or not document:
        raise ExperimentError(
            f"A file of experiments must hold an object of experiments by name. Received:"
            f" {type(document).__name__} in {os.fspath(path)}."
        )
    return tuple(Experiment.from_mapping(name, values) for name, values in document.items())


def assign(experiments: Iterable[Experiment], unit: Any) -> dict[str, Arm]:
    """The arm of a unit in each experiment that it takes part in, by the experiment's name; none in those
    that interleave."""
    arms = {one.name: one.arm(unit) for one in experiments if not one.interleave}
    return {name: arm for name, arm in arms.items() if arm is not None}


def arms_text(arms: Mapping[str, str]) -> str:
    """Arms of several experiments as the impressions log holds them: `exp1=a;exp2=b`."""
    return ";".join(f"{name}={arm}" for name, arm in arms.items())


def arms_of(text: str) -> dict[str, str]:
    """Arms by experiment, from the impressions log's text; an arm without an experiment has the name `""`.

    Raises:
        ExperimentError: an experiment occurs twice, with different arms.
    """
    arms: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(";"))):
        name, sign, arm = part.partition("=")
        name, arm = (name, arm) if sign else ("", name)
        if arms.setdefault(name, arm) != arm:
            raise ExperimentError(f"An experiment must have one arm. Received: {text!r}.")
    return arms


def _as_bytes(unit: Any) -> bytes:
    if isinstance(unit, bytes):
        return unit
    if isinstance(unit, float) or unit is None or isinstance(unit, bool):
        raise ExperimentError(
            f"A unit must be an id: text, bytes or an integer. Received: {unit!r}. As floating-point"
            " numbers, ids"
            " lose digits."
        )
    return str(unit).encode("utf-8", "surrogatepass")


def _check_name(what: str, name: Any) -> None:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ExperimentError(
            f"{what} must have 1 to 64 letters, digits, `_`, `.` or `-`. Received: {name!r}. It stands in"
            " headers"
            " and logs."
        )


def _check_keys(where: str, values: Mapping[str, Any], known: set[str]) -> None:
    if unknown := sorted(map(str, set(values) - known)):
        raise ExperimentError(
            f"{where} has the keys {', '.join(sorted(known))}. Received: {', '.join(unknown)}."
        )
