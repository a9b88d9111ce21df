"""Small tables in a folder, and `tfrec init` and `validate` on them."""

import numpy as np
import pandas as pd
import pytest

from pipeline.cli import main as cli
from pipeline.onboarding.offers import shown
from tfrec_fusion.guessing.folder import guess

ROWS = 160
WORDS = [
    "lamp",
    "kettle",
    "robot",
    "garden",
    "whale",
    "piano",
    "castle",
    "river",
    "engine",
    "violin",
    "desert",
    "pocket",
    "mirror",
    "winter",
    "signal",
]


def choices(rows=ROWS, users=12, items=15, seed=0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"u": rng.integers(0, users, rows), "i": rng.integers(0, items, rows)})
    frame["t"] = 1_700_000_000 + np.arange(rows) * 5000
    return frame


def ratings(**more) -> pd.DataFrame:
    frame = choices()
    table = pd.DataFrame(
        {"user_id": "u" + frame.u.astype(str), "item_id": "i" + frame.i.astype(str), "timestamp": frame.t}
    )
    return table.assign(**more)


def items(**more) -> pd.DataFrame:
    titles = [f"The {word} of the north" for word in WORDS]
    return pd.DataFrame({"item_id": [f"i{n}" for n in range(15)], "title": titles}).assign(**more)


def pick(values, rows=ROWS, seed=1):
    return np.random.default_rng(seed).choice(values, rows)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(folder, **tables):
    for name, table in tables.items():
        table.to_csv(folder / f"{name}.csv", index=False)


def guessed(folder):
    result = guess(folder)
    return result, "\n".join([*result.ledger.notes, *map(shown, result.ledger.left)])


def init(capsys, *options):
    status = cli.main(["init", ".", "--name", "x", "--force", *options])
    return status, " ".join(capsys.readouterr().out.split())


def validate(capsys, *sets):
    capsys.readouterr()
    status = cli.main(["validate", "x.yaml", *(f"--set={one}" for one in sets)])
    return status, " ".join(capsys.readouterr().out.split())
