"""Files that a refit leaves in its `model_run` beside weights and settings."""

from __future__ import annotations

import dataclasses
import os

import numpy as np

from tfrec_fusion.models.catalogue import Catalogue

REPORT = "refit.json"
"""`used`, and where it was not used `reason`; `rows`; `judged` and `refitted`, figures on validation."""
COUNTS = "counts.npy"
"""int64 `[N + 1]`, how often each item of the catalogue was chosen in all rows."""


def with_counts(catalogue: Catalogue, model_run: str) -> Catalogue:
    """The catalogue with the counts of a refit; as it is where the run is none."""
    path = os.path.join(model_run, COUNTS)
    return dataclasses.replace(catalogue, counts=np.load(path)) if os.path.exists(path) else catalogue
