"""Planted listeners: most of what they play is of one genre, and a share of it they played before, lately or
often."""

from __future__ import annotations

import numpy as np
import pandas as pd


def plays(
    again: float, seed: int = 0, listeners: int = 300, songs: int = 400, each: int = 60, genres: int = 8
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Tables of plays and of songs.

    Args:
        again: share of plays that repeat one; an earlier play `n` plays ago is repeated with a probability in
            proportion to `1 / n`. The other plays are songs that the listener has not played yet.
        seed: of the draws.
        listeners, songs, genres: how many there are.
        each: plays a listener.

    Returns:
        `user`, `item`, `time` (seconds), and `item`, `genre`.
    """
    rng, rows = np.random.default_rng(seed), []
    popularity = rng.pareto(1.5, songs) + 0.1
    for user in range(listeners):
        own = np.where(np.arange(songs) % genres == user % genres, popularity * 20, popularity)
        history: list[int] = []
        for place in range(each):
            if history and rng.random() < again:
                weights = 1.0 / np.arange(len(history), 0, -1)
                song = int(rng.choice(history, p=weights / weights.sum()))
            else:
                fresh = own.copy()
                fresh[history] = 0
                song = int(rng.choice(songs, p=fresh / fresh.sum()))
            history.append(song)
            rows.append((f"u{user}", f"i{song}", 1_600_000_000 + place * 86_400 + user))
    names = pd.DataFrame({"item": [f"i{song}" for song in range(songs)]})
    names["genre"] = [f"g{song % genres}" for song in range(songs)]
    return pd.DataFrame(rows, columns=["user", "item", "time"]), names
