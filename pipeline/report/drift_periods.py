"""The drift since training, by period, as the report shows it."""

from __future__ import annotations

import json
import pathlib
from typing import Any

from pipeline.data.run_summary import DRIFT
from pipeline.report.statistics import day

MOST = 8  # features, those that moved farthest


def drift_rows(home: pathlib.Path) -> dict[str, Any] | None:
    """What `tfrec drift` measured last; None where nothing was, or what was written is not whole.

    Returns:
        `measured`, `rows` (choices before), `names` of the features that moved farthest, and `rows_`, a row a
        period with their distances.
    """
    try:
        found = json.loads((home / DRIFT).read_text(encoding="utf-8"))
        farthest: dict[str, float] = {}
        for period in found["periods"]:
            for name, value in period["distances"].items():
                farthest[name] = max(value, farthest.get(name, 0.0))
        names = sorted(farthest, key=lambda name: (-farthest[name], name))[:MOST]
        rows = [
            {
                **period,
                "day": day(period["start"]),
                "new_users": _share(period["new_users"]),
                "new_items": _share(period["new_items"]),
                "distances": [period["distances"].get(name) for name in names],
            }
            for period in found["periods"]
        ]
        return {"measured": found["measured"], "rows": found["rows"], "names": names, "rows_": rows}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _share(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"
