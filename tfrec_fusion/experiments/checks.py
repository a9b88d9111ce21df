"""The error of experiments, and the checks that several of its modules make.

The standard library alone, so that a client can assign arms without NumPy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tfrec_fusion.errors import TfrecError

if TYPE_CHECKING:
    import numpy as np


class ExperimentError(TfrecError, ValueError):
    """An experiment, or the outcomes of one, that cannot be used."""


def check_share(name: str, value: float, above: float = 0.0, below: float = 1.0) -> None:
    """Raises ExperimentError unless `value` lies between two numbers, without them."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not above < value < below:
        raise ExperimentError(f"`{name}` must be above {above:g} and below {below:g}. Received: {value!r}.")


def vector(name: str, values: object, length: int | None = None) -> np.ndarray:
    """Values as numbers of one axis.

    Args:
        name: what they are, for the error.
        values: numbers.
        length: how many there must be.

    Returns:
        float64 `[n]`.

    Raises:
        ExperimentError: for text, missing or infinite numbers, more axes, or another length.
    """
    import numpy as np

    try:
        array = np.asarray(values, np.float64)
    except (TypeError, ValueError) as error:
        raise ExperimentError(f"`{name}` must hold numbers. Received: {_shown(values)} ({error}).") from None
    if array.ndim != 1:
        raise ExperimentError(f"`{name}` must have one axis. Received: shape {array.shape}.")
    if length is not None and len(array) != length:
        raise ExperimentError(
            f"`{name}` must have one value a row ({length:,} rows). Received: {len(array):,}."
        )
    if not np.isfinite(array).all():
        row = int(np.flatnonzero(~np.isfinite(array))[0])
        raise ExperimentError(
            f"`{name}` must hold numbers, none missing and none infinite. Received: {array[row]} in row"
            f" {row:,}. Leave out or mend such rows first."
        )
    return array


def _shown(values: object, most: int = 60) -> str:
    text = repr(values)
    return text if len(text) <= most else text[:most] + "…"
