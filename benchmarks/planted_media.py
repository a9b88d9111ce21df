"""Planted pictures and sounds: groups of items of which files alone tell, or nothing tells."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

import numpy as np
import pandas as pd
from scipy.io import wavfile

from tfrec_fusion import Recommender
from tfrec_fusion.datasets.media import MediaKind

__all__ = ["PlantedMedia", "ndcg", "picture", "planted_media", "sound"]

RATE = 16_000


@dataclasses.dataclass(frozen=True)
class PlantedMedia:
    """What is fitted, and what is asked.

    Users choose what is of their group, and nothing but the files names the groups. New items were never
    chosen.

    Attributes:
        interactions, items: the tables; `items` has a column `file`, empty for some.
        new_items: their ids, those with a file.
        liked: user → the items of their group.
        kind: of the files.
        folder: holds them.
    """

    interactions: pd.DataFrame
    items: pd.DataFrame
    new_items: list[str]
    liked: dict[str, set[str]]
    kind: MediaKind
    folder: str

    def described(self, **media: Any) -> dict[str, Any]:
        """`data` of a `Recommender` that reads the files."""
        return {"items": {"id": "item_id", self.kind: ["file"], "media": {"folder": self.folder, **media}}}


def planted_media(
    folder: pathlib.Path,
    kind: MediaKind,
    noise: bool = False,
    users: int = 300,
    items: int = 200,
    groups: int = 6,
    choices: int = 12,
    seed: int = 0,
) -> PlantedMedia:
    """Draws a planted set and writes its files.

    Args:
        folder: receives the files.
        kind: pictures or sounds.
        noise: whether the files are of any group.
        users, items: how many; a quarter of the items are new, and one in twenty has no file.
        groups: how many, at most 6.
        choices: of each user; one in six is of another group.
        seed: of the draws. The interactions do not depend on `noise`.
    """
    rng = np.random.default_rng(seed)
    of_user, of_item = rng.integers(groups, size=users), rng.integers(groups, size=items)
    user_ids = np.array([f"u{number}" for number in rng.permutation(users)], object)
    item_ids = np.array([f"i{number}" for number in rng.permutation(items)], object)
    old = np.arange(items) >= items // 4
    rows = []
    for user in range(users):
        own, others = (np.flatnonzero(old & (same == (of_item == of_user[user]))) for same in (1, 0))
        few = choices // 6
        chosen = [*rng.choice(own, min(len(own), choices - few), False), *rng.choice(others, few, False)]
        rows += [(user_ids[user], item_ids[item], rng.integers(10**6)) for item in chosen]
    shown = np.random.default_rng(seed + 1).permutation(of_item) if noise else of_item
    ending = "png" if kind == "images" else "wav"
    names = [f"{item}.{ending}" if number % 20 else "" for number, item in enumerate(item_ids)]
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        if name:
            draw = np.random.default_rng([seed, number])
            write_file(folder / name, kind, int(shown[number]), draw)
    listed = pd.DataFrame({"item_id": item_ids, "file": names})
    return PlantedMedia(
        pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"]),
        listed,
        [item for item, name, known in zip(item_ids, names, old, strict=True) if name and not known],
        {user: set(item_ids[of_item == group]) for user, group in zip(user_ids, of_user, strict=True)},
        kind,
        str(folder),
    )


def write_file(path: pathlib.Path, kind: MediaKind, group: int, rng: np.random.Generator) -> None:
    """A picture (PNG) or a sound (WAV) of a group."""
    if kind == "images":
        from PIL import Image

        Image.fromarray(picture(group, rng)).save(path)
    else:
        wavfile.write(path, RATE, (sound(group, rng) * 32767).astype(np.int16))


def picture(group: int, rng: np.random.Generator, size: int = 96) -> np.ndarray:
    """One of six textures in two colours that tell nothing, with noise: uint8 `[size, size, 3]`."""
    rows, columns = np.mgrid[:size, :size]
    period, shift = rng.uniform(10, 18), rng.uniform(0, 18, 2)
    y, x = (rows + shift[0]) / period, (columns + shift[1]) / period
    waves = [
        np.sin(2 * np.pi * x),  # upright stripes
        np.sin(2 * np.pi * y),  # level stripes
        np.sin(2 * np.pi * (x + y) / 1.4),  # stripes that rise
        np.sin(2 * np.pi * (x - y) / 1.4),  # and that fall
        np.sin(2 * np.pi * x) * np.sin(2 * np.pi * y),  # a chessboard
        np.sin(2 * np.pi * np.hypot(y - size / period / 2, x - size / period / 2)),  # rings
    ]
    share = (waves[group] > 0)[..., None]
    dark, bright = rng.uniform(0, 110, 3), rng.uniform(140, 255, 3)
    drawn = np.where(share, dark, bright) + rng.normal(0, 18, [size, size, 3])
    return np.clip(drawn, 0, 255).astype(np.uint8)


def sound(group: int, rng: np.random.Generator, seconds: float = 1.5) -> np.ndarray:
    """One of six kinds of sound at a pitch that tells nothing, with noise: float64 `[samples]`."""
    time = np.arange(int(seconds * RATE)) / RATE
    pitch = rng.uniform(200, 400)
    tone = np.sin(2 * np.pi * pitch * time)
    drawn = [
        tone,  # a pure tone
        sum(np.sin(2 * np.pi * pitch * part * time) / part for part in range(1, 12)),  # many overtones
        rng.normal(0, 1, len(time)),  # a hiss
        tone * (np.sin(2 * np.pi * 4 * time) > 0),  # slow beats
        tone * (np.sin(2 * np.pi * 14 * time) > 0),  # fast beats
        np.sin(2 * np.pi * pitch * time * (1 + time)),  # a tone that rises
    ][group]
    drawn = drawn / np.abs(drawn).max() * rng.uniform(0.2, 0.9)
    return np.clip(drawn + rng.normal(0, 0.005, len(time)), -1, 1)


def ndcg(model: Recommender, data: PlantedMedia, k: int = 10, new: bool = False) -> np.ndarray:
    """NDCG@k of each user's list, by what is of their group: float `[users]`, at most 1.

    Args:
        model: fitted.
        data: what it was fitted to.
        k: length of the lists.
        new: whether new items alone are asked for.
    """
    users = list(data.liked)
    inputs: dict[str, Any] = {"allow": [data.new_items] * len(users)} if new else {}
    answers = model.recommend(users, k, **inputs)
    liked = [item in data.liked[user] for user, item in zip(answers.user_id, answers.item_id, strict=True)]
    gains = answers.assign(gain=np.array(liked) / np.log2(1 + answers["rank"]))
    wanted = [len(data.liked[user] & set(data.new_items)) if new else k for user in users]
    best = np.cumsum(1 / np.log2(2 + np.arange(k)))[np.clip(wanted, 1, k) - 1]
    return gains.groupby("user_id")["gain"].sum().reindex(users, fill_value=0.0).to_numpy() / best
