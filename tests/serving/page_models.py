"""Models for the page: a real export of the planted data, whose ids, titles and categories are hostile.

`retrieval` is a version from before `explain` and `similar`; `recommender` has every signature.
"""

import dataclasses
import pathlib
import shutil
from typing import Any

import numpy as np

from tests.models.planted_models import ranking, two_tower
from tests.planted_serving import serving_arguments
from tfrec_fusion.datasets.synthetic import Planted
from tfrec_fusion.export import base as export
from tfrec_fusion.export.recommender import RecommenderSignatures
from tfrec_fusion.export.retrieval import RetrievalSignatures, searchable
from tfrec_fusion.index import BruteForce
from tfrec_fusion.models.two_tower import TwoTower
from tfrec_fusion.models.user_profiles import Profiles

TITLES = {
    1: '<img src=x onerror="window.hacked=1">',
    2: "</script><script>window.hacked=1</script>",
    3: "\u202egnp.egami\u202c 'quoted' \"twice\" `thrice` & more",
    4: "long " * 1000,
    5: "javascript:window.hacked=1",
    6: "\u200b\u200f",
    7: "مرحبا بالعالم",
    8: "Amélie Poulain ${window.hacked=1} {{7*7}}",
}
IDS = {1: "a/b?c#d%2e", 2: "<b>2</b>", 3: 'it\'s "3" \\ $(id)', 9: "ü\u202e9"}
# A PNG of one pixel.
PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c6360f8cf500f0003850181"
    "b98a8d450000000049454e44ae426082"
)
CATEGORIES = ["<svg onload=window.hacked=1>", "Comedy", 'Drama" onclick="window.hacked=1']


class OldRetrieval(RetrievalSignatures):
    """As models were pushed before they explained themselves."""

    def signatures(self):
        return {
            "recommend": export.concrete(export.graph(self.recommend), **self.recommend_spec()),
            "describe": export.concrete(export.graph(self.describe), **self.input_spec("describe")),
        }


def hostile(data: Planted) -> Planted:
    """The same data under other names."""
    ids, titles = data.ids.astype(object), data.titles.astype(object)
    for row, text in IDS.items():
        ids[row] = text
    for row, text in TITLES.items():
        titles[row] = text
    return dataclasses.replace(data, ids=ids, titles=titles)


def write_old(root: pathlib.Path, data: Planted, profiles: Profiles) -> None:
    """Writes `retrieval` as version 1 below its base path."""
    model, arguments, index = _parts(hostile(data), profiles)
    export.save(OldRetrieval(model, *arguments, index=index), str(root / "1"))


def write_whole(root: pathlib.Path, data: Planted, profiles: Profiles) -> Planted:
    """Writes `recommender` as version 2 below its base path; returns the data under their names."""
    data = hostile(data)
    model, arguments, index = _parts(data, profiles)
    whole = RecommenderSignatures(
        model, *arguments, index=index, ranking=ranking(data), head="click", rank_weight=0.3
    )
    export.save(whole, str(root / "2"))
    # Warming up would run all signatures, most of which the page never asks.
    shutil.rmtree(root / "2" / "assets.extra")
    return data


def _parts(data: Planted, profiles: Profiles) -> tuple[TwoTower, list[Any], BruteForce]:
    """What both are made of."""
    arguments: list[Any] = list(serving_arguments(data, profiles))
    arguments[0] = dataclasses.replace(arguments[0], names={"genre": np.array(["", *CATEGORIES], object)})
    model = two_tower(data)
    return model, arguments, BruteForce().index(searchable(model, arguments[0])[1:])
