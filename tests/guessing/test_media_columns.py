"""What `init` takes columns of pictures and sounds for: never words."""

import re

import numpy as np
import pandas as pd
import pytest

from benchmarks.planted_media import write_file
from tfrec_fusion.guessing.folder import guess


@pytest.fixture
def shop(tmp_path):
    rng = np.random.default_rng(0)
    rows = [(f"u{rng.integers(20)}", f"i{rng.integers(30)}", step) for step in range(300)]
    pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"]).to_csv(
        tmp_path / "plays.csv", index=False
    )
    (tmp_path / "files").mkdir()

    def write(names):
        frame = pd.DataFrame({"item_id": [f"i{number}" for number in range(30)], "file": names})
        frame["title"] = [f"a fine title {number}" for number in range(30)]
        frame.to_csv(tmp_path / "items.csv", index=False)
        return guess(tmp_path)

    return tmp_path, write


@pytest.mark.parametrize(("kind", "ending"), [("images", "png"), ("audio", "wav")])
def test_files_that_are_there_are_encoded(shop, kind, ending):
    folder, write = shop
    for number in range(30):
        write_file(folder / "files" / f"{number}.{ending}", kind, number % 6, np.random.default_rng(number))
    items = write([f"files/{number}.{ending}" for number in range(30)]).tables.items
    assert getattr(items, kind) == ("file",)
    assert "file" not in items.text


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("https://example.org/{}.jpg?size=2", r"addresses of pictures; to have them .* images: \[file\]"),
        ("gone/{}.png", "names of pictures, of which 0 of 20 were found beside the table"),
        ("{}.mp3", "sounds of a form that is not read; write them as WAV"),
        ("a/{}.svg", "pictures of a form that is not read"),
        ("https://example.org/{}", "addresses or files"),
    ],
)
def test_what_is_not_there_or_not_read_is_left_out_with_the_reason(shop, pattern, why):
    _, write = shop
    found = write([pattern.format(number) for number in range(30)])
    items = found.tables.items
    assert not items.images
    assert not items.audio
    assert "file" not in (*items.text, *items.categories)
    (left,) = [entry for entry in found.ledger.left if entry.column == "file"]

    assert re.search(why, left.why)
