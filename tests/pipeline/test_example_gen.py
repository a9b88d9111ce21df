"""ExampleGen over small CSVs: what is kept, what is rejected and why, and no leak in what is written."""

import collections
import json
import pathlib

import pandas as pd
import pytest
import tensorflow as tf
from tfx.types import standard_artifacts

from pipeline.components.artifacts import DataReport
from pipeline.components.example_gen import Executor
from pipeline.config.pipeline_config import SplitConfig
from pipeline.data.catalogue_reading import split_files
from tfrec_fusion.config import ConfigError
from tfrec_fusion.datasets.csv_format import Csv
from tfrec_fusion.datasets.tables import Interactions, Items, Tables, Users

LONG = "word " * 10_000


def make(folder: pathlib.Path, interactions, items, users=None, split=None, share=1.0):
    """Runs the executor; returns the report and a reader of Examples by output and split."""
    for name, frame in (("interactions", interactions), ("items", items), ("users", users)):
        if frame is not None:
            pd.DataFrame(frame).to_csv(folder / f"{name}.csv", index=False)
    tables = Tables(
        Interactions(str(folder / "interactions.csv"), "user", "item", "time", label="stars"),
        Items(
            str(folder / "items.csv"),
            "item",
            title="title",
            text=("title", "genres"),
            lists=("genres",),
            numbers=("year",),
        ),
        Users(str(folder / "users.csv"), "user", categories=("gender",), numbers=("age",))
        if users is not None
        else None,
    )
    return execute(folder, tables, split, share)


def execute(folder, tables, split=None, share=1.0, **properties):
    outputs = {}
    for name in ("interactions", "items", "users", "report"):
        artifact = DataReport() if name == "report" else standard_artifacts.Examples()
        artifact.uri = str(folder / name)
        outputs[name] = [artifact]
    split = split or SplitConfig(method="leave_last_out")
    settings = vars(split) | {"click_threshold": 4.0}
    Executor().Do(
        {},
        outputs,
        {
            "tables": json.dumps(tables, default=vars),
            "split": json.dumps(settings),
            "max_reject_share": share,
            "reject_folder": str(folder / "rejected"),
            **properties,
        },
    )
    report = json.loads((folder / "report" / "report.json").read_text())
    return report, lambda name, part="all": read(folder / name, part)


def read(folder, part):
    rows = []
    for record in tf.data.TFRecordDataset(
        split_files(str(folder), part), compression_type="GZIP"
    ).as_numpy_iterator():
        features = tf.train.Example.FromString(record).features.feature
        row = {}
        for name, feature in features.items():
            kind = feature.WhichOneof("kind")
            values = list(getattr(feature, kind).value)
            row[name] = [value.decode() for value in values] if kind == "bytes_list" else values
        rows.append(row)
    return rows


def interactions(*rows):
    return pd.DataFrame(rows, columns=["user", "item", "time", "stars"])


ITEMS = pd.DataFrame(
    [
        ("a", "Alien 👽", "Horror|Sci-Fi", 1979),
        ("b", LONG, "Drama", None),
        ("c", None, None, "unknown"),
        ("d", "Never chosen", "Comedy", 2001),
    ],
    columns=["item", "title", "genres", "year"],
)
FINE = interactions(
    ("u", "a", 1, 5),
    ("u", "b", 2, 3),
    ("u", "c", 3, 4),
    ("v", "b", 1, 4),
    ("v", "a", 9, 2),
    ("w", "a", 4, 1),
)


def test_everything_is_kept_or_counted_and_too_many_rejects_stop_the_run(tmp_path):
    bad = interactions(
        (None, "a", 1, 5),
        ("u", " ", 1, 5),
        ("u", "a", "yesterday", 5),
        ("u", "a", 7, "good"),
        ("u", "nowhere", 7, 5),
        ("u", "a", 1, 5),
    )
    items = pd.concat([ITEMS, ITEMS[:1], ITEMS[:1].assign(item=None)])
    message = r"6 of 12 rows of the interactions table \(50.0%\) .* 1 unknown item"
    with pytest.raises(ConfigError, match=message):
        make(tmp_path, pd.concat([FINE, bad]), items, share=0.1)
    assert "nowhere" in (tmp_path / "rejected" / "rejects.jsonl").read_text()
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    reasons = {(entry["table"], entry["reason"]): entry["rows"] for entry in report["rejected"]}
    assert reasons == {
        ("interactions", "missing user id"): 1,
        ("interactions", "missing item id"): 1,
        ("interactions", "unparsable time"): 1,
        ("interactions", "unparsable label"): 1,
        ("interactions", "unknown item"): 1,
        ("interactions", "duplicate"): 1,
        ("items", "duplicate id"): 1,
        ("items", "missing id"): 1,
    }
    assert report["tables"]["interactions"] == {"read": 12, "kept": 6, "rejected": 6}
    lines = (tmp_path / "report" / "rejects-00000-of-00001.jsonl").read_text().splitlines()
    assert len(lines) == 8
    assert collections.Counter(json.loads(line)["reason"] for line in lines)["duplicate id"] == 1


def test_examples_by_hand(tmp_path):
    users = pd.DataFrame([("u", "F", 30), ("x", "M", None)], columns=["user", "gender", "age"])
    report, examples = make(tmp_path, FINE, ITEMS, users)
    assert report["splits"] == {
        "interactions/train": 4,
        "interactions/validation": 1,
        "interactions/test": 1,
        "items/all": 4,
        "users/all": 4,
    }
    (test,) = examples("interactions", "test")
    assert test == {
        "user_id": ["u"],
        "item_id": ["c"],
        "time": [3],
        "label": [4.0],
        "click": [1.0],
        "history": ["a", "b"],
        "seen": ["a", "b"],
        "user_categorical__gender": ["F"],
        "user_number__age": [30.0],
        "user_activity": ["light"],
        "item_activity": ["cold"],
        "item_train_count": [0],
    }
    assert isinstance(
        test["label"][0], float
    )  # the column holds whole numbers; the schema wants a float all the same
    user_rows = {row["user_id"][0]: row for row in examples("users")}
    assert user_rows["v"]["history"] == [
        "b",
        "a",
    ]
    assert user_rows["w"]["seen"] == ["a"]
    assert user_rows["x"] == {
        "user_id": ["x"],
        "user_categorical__gender": ["M"],
    }  # somebody without interactions
    items = {row["item_id"][0]: row for row in examples("items")}
    assert items["a"]["title"] == ["Alien 👽"]
    assert items["a"]["item_categories__genres"] == ["Horror", "Sci-Fi"]
    assert items["a"]["text__genres"] == ["Horror Sci-Fi"]
    assert items["a"]["train_count"] == [3]
    assert items["b"]["title"] == [LONG.strip()]
    assert items["c"] == {"item_id": ["c"], "title": ["c"], "train_count": [0]}  # nulls, no number, no title
    assert items["d"]["train_count"] == [0]


def test_nothing_of_the_future_is_written(tmp_path):
    """Every item of a history or of the seen items was seen strictly before the example, in every split."""
    frame = pd.DataFrame(
        [(f"u{n % 7}", "abcd"[(n * 5 + n // 7) % 4], 1000 + 17 * n, n % 5) for n in range(120)],
        columns=["user", "item", "time", "stars"],
    )
    split = SplitConfig(validation=0.2, test=0.2, history_length=5)
    report, examples = make(tmp_path, frame, ITEMS, split=split)
    first = {}
    for row in frame.itertuples():
        first.setdefault((row.user, row.item), row.time)
    checked = 0
    for part in ("train", "validation", "test"):
        start = {"train": 0, **{k.removesuffix("_from"): v for k, v in report["cutoffs"].items()}}[part]
        for example in examples("interactions", part):
            (user,), (time,) = example["user_id"], example["time"]
            for item in example.get("history", []) + example.get("seen", []):
                checked += 1
                assert first[user, item] < time
                if part != "train":
                    assert first[user, item] < start
            assert time >= start
    assert checked > 300


def test_one_table_of_order_lines_is_enough(tmp_path):
    """Items and users from the interactions' own rows: the most frequent value counts, nothing is a
    reject."""
    lines = pd.DataFrame(
        [
            ("u", "a", "01/02/1970", "mug", "FR", "1,5"),
            ("u", "b", "13/02/1970", "?", "FR", "2"),
            ("u", "a", "14/02/1970", "mug", "DE", "1,5"),
            ("v", "b", "14/02/1970", "cup", "", "2"),
            ("v", "a", "15/02/1970", "damaged", "", "9"),
            ("v", "b", "16/02/1970", "cup", "", "2"),
            ("v", "b", "17/02/1970", "cup", "", "2"),
            ("NULL", "b", "17/02/1970", "cup", "", "2"),
        ],
        columns=["client", "sku", "day", "name", "land", "price"],
    ).assign(pieces=[1, 2, "1,5", 1, 1, 1, -1, 1])
    lines.to_csv(tmp_path / "lines.csv", index=False, sep=";", encoding="latin-1")
    path, csv = str(tmp_path / "lines.csv"), Csv(";", "latin-1", ",", ("NULL",))
    tables = Tables(
        Interactions(path, "client", "sku", "day", time_format="%d/%m/%Y", quantity="pieces", csv=csv),
        Items(path, "sku", title="name", numbers=("price",), distinct=True, csv=csv),
        Users(path, "client", categories=("land",), distinct=True, csv=csv),
    )
    report, examples = execute(tmp_path, tables)
    reasons = {entry["reason"]: entry["rows"] for entry in report["rejected"]}
    assert reasons == {"missing user id": 1, "quantity not above 0": 1}
    assert {row["item_id"][0]: (row["title"], row["item_number__price"]) for row in examples("items")} == {
        "a": (["mug"], [1.5]),
        "b": (["cup"], [2.0]),
    }
    user_rows = {row["user_id"][0]: row for row in examples("users")}
    assert user_rows["u"]["user_categorical__land"] == ["FR"]
    assert "user_categorical__land" not in user_rows["v"]
    assert user_rows["u"]["history"] == ["a", "b", "a"]
    (last,) = (row for row in examples("interactions", "test") if row["user_id"] == ["u"])
    assert last["time"] == [44 * 86_400]  # the fourteenth of February


def test_without_times_the_order_is_a_fixed_shuffle(tmp_path):
    FINE.to_csv(tmp_path / "likes.csv", index=False)
    ITEMS.to_csv(tmp_path / "items.csv", index=False)
    tables = Tables(
        Interactions(str(tmp_path / "likes.csv"), "user", "item", time=None),
        Items(str(tmp_path / "items.csv"), "item"),
    )
    report, examples = execute(tmp_path, tables)
    assert report["splits"]["interactions/test"] == 1
    (test,) = examples("interactions", "test")
    assert sorted([*test["history"], *test["item_id"]]) == ["a", "b", "c"]


def test_a_split_that_stays_empty_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match="The validation split has no interactions"):
        make(tmp_path, FINE[:2], ITEMS)
