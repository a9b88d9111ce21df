"""A shop of two shelves as CSV files: users stay with one shelf, and an item's name tells which it stands
on."""

import dataclasses
import pathlib

import numpy as np
import pandas as pd

from pipeline.config.pipeline_config import DataConfig, PipelineConfig, SplitConfig
from tests.tiny_bert import write_tiny_bert
from tfrec_fusion.config import RankingConfig, RetrievalConfig, TextConfig, TowerConfig, TrainingConfig
from tfrec_fusion.datasets.tables import Interactions, Items, Users

SHELVES = ("tea", "tool")


def write_shop(folder: pathlib.Path, people: int = 40, seed: int = 0) -> PipelineConfig:
    """Writes the tables and the encoder; returns a configuration that trains in seconds."""
    rng = np.random.default_rng(seed)
    items = pd.DataFrame({"sku": [f"s{number}" for number in range(24)]})
    items["shelf"] = [SHELVES[number % 2] for number in range(24)]
    items["name"] = items["shelf"] + [f" {'red' if number % 3 else 'blue'}" for number in range(24)]
    items.loc[5, "name"] = None
    items["tags"] = ["red|small" if number % 3 else "blue" for number in range(24)]
    items["price"] = [float(number) for number in range(24)]
    rows = [
        (f"p{user}", f"s{2 * position + user % 2}", 1000 * step + user, "web" if user % 3 else "shop")
        for user in range(people)
        for step, position in enumerate(rng.permutation(12)[:8])
    ]
    orders = pd.DataFrame(rows, columns=["who", "sku", "at", "place"])
    customers = pd.DataFrame({"who": [f"p{user}" for user in range(people)], "age": np.arange(people) % 50})
    for name, frame in (("items", items), ("orders", orders), ("customers", customers)):
        frame.to_csv(folder / f"{name}.csv", index=False)
    tower = TowerConfig(dim=8, history_encoder="mean", dropout=0.0)
    # What a refit does, runs of other tables show; each takes its time.
    training = TrainingConfig(epochs=2, batch_size=16, learning_rate=1e-2, refit=False)
    retrieval = RetrievalConfig(tower, training)
    usual = RankingConfig()
    ranking = dataclasses.replace(usual, training=dataclasses.replace(usual.training, refit=False))
    encoder = write_tiny_bert(folder / "bert", ["tea", "tool", "red", "blue"])
    data = DataConfig(
        interactions=Interactions(str(folder / "orders.csv"), "who", "sku", "at", context=("place",)),
        items=Items(
            str(folder / "items.csv"),
            "sku",
            title="name",
            text=("name", "tags"),
            categories=("shelf",),
            lists=("tags",),
            numbers=("price",),
        ),
        users=Users(str(folder / "customers.csv"), "who", numbers=("age",)),
    )
    return PipelineConfig(
        "shop",
        data,
        root=str(folder / "runs"),
        split=SplitConfig(history_length=6, long_history=8),
        text=TextConfig(encoder, max_length=8),
        retrieval=retrieval,
        ranking=ranking,
    )


def with_text(config: PipelineConfig, **changes) -> PipelineConfig:
    """The configuration with other settings of text."""
    return dataclasses.replace(config, text=dataclasses.replace(config.text, **changes))
