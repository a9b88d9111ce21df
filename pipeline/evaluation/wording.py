"""Names of figures and baselines as people read them; light to import, for the command line."""

from __future__ import annotations

import re

CHANGE = re.compile(r"(.+)_change_(high|low|most|least)")
GAIN = re.compile(r"(.+)_gain_over_(.+)_(low|high)")
COMPARED = re.compile(r"(.+)_gain_over_(.+?)(_low|_high)?")
NAMES = {
    "popularity": "popularity",
    "als": "ALS",
    "content_knn": "content k-NN",
    "text_none": "the same model without text",
    "biases": "user and item biases",
    "click_rate": "how often items are chosen",
}
# Stands for the configuration's name as it is typed after `tfrec run`.
CONFIG = "CONFIG"


def figure_of(baseline: str, figure: str) -> str:
    """The name under which a baseline's figure stands beside the model's."""
    return f"baseline_{figure}" if baseline in ("biases", "click_rate") else f"{baseline}_{figure}"
