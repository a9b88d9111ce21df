"""Surprise's models of ratings for `benchmarks.quality`, in the peers' environment.

    .venv-peers/bin/python benchmarks/surprise_peers.py QUESTION.npz ANSWER.npz

`quality_ratings` writes the question and reads the answer. Each model is tuned over the grid here on
validation, and fitted once more to training and validation together.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import json
import time

import numpy as np
import pandas as pd
from peak_memory import forget_peak, peak_megabytes  # beside this file
from surprise import SVD, BaselineOnly, Dataset, KNNBaseline, Reader, SVDpp

GRIDS = {
    "biases": (
        BaselineOnly,
        {"bsl_options": [{"method": "als", "reg_u": u, "reg_i": i} for u in (5, 15) for i in (5, 10)]},
    ),
    "k-NN baseline": (
        KNNBaseline,
        {
            "k": [20, 40, 80],
            "sim_options": [
                {"name": "pearson_baseline", "user_based": based, "shrinkage": 100} for based in (False, True)
            ],
        },
    ),
    "SVD": (
        SVD,
        {"n_factors": [20, 50, 100], "n_epochs": [20, 40], "reg_all": [0.05, 0.1], "lr_all": [0.005, 0.01]},
    ),
    "SVD++": (
        SVDpp,
        {"n_factors": [10, 20], "n_epochs": [20, 30], "reg_all": [0.05, 0.1], "lr_all": [0.007]},
    ),
}


def fitted(make, settings, frame):
    """A model fitted to rows of (user, item, rating)."""
    frame = pd.DataFrame(frame, columns=["user", "item", "rating"]).astype({"user": int, "item": int})
    data = Dataset.load_from_df(frame, Reader(rating_scale=(1, 5)))
    seeded = {"random_state": 1} if make in (SVD, SVDpp) else {}
    with contextlib.redirect_stdout(io.StringIO()):
        return make(**settings, **seeded).fit(data.build_full_trainset())


def asked(model, rows):
    """Predictions, clipped to the scale: float64 `[n]`."""
    return np.array([model.predict(int(user), int(item)).est for user, item, _ in rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("question")
    parser.add_argument("answer")
    options = parser.parse_args()
    question = np.load(options.question)
    train, validation, test = question["train"], question["validation"], question["test"]
    answers, notes = {}, {}
    for name, (make, grid) in GRIDS.items():
        forget_peak()
        start, best = time.perf_counter(), None
        for values in itertools.product(*grid.values()):
            settings = dict(zip(grid, values, strict=True))
            error = np.sqrt(
                np.mean((asked(fitted(make, settings, train), validation) - validation[:, 2]) ** 2)
            )
            if best is None or error < best[0]:
                best = error, settings
        tuned = time.perf_counter()
        model = fitted(make, best[1], np.concatenate([train, validation]))
        notes[name] = {
            "settings": " ".join(f"{key}={value}" for key, value in best[1].items()),
            "seconds": time.perf_counter() - start,
            "seconds of the last fit": time.perf_counter() - tuned,
            "megabytes": peak_megabytes(),
        }
        answers[name] = asked(model, test)
        print(name, best, f"{time.perf_counter() - start:.0f} s", flush=True)
    np.savez_compressed(options.answer, notes=json.dumps(notes), **answers)


if __name__ == "__main__":
    main()
