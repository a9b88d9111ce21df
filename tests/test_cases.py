"""The small inputs of `../shared/cases` against the right results that their READMEs state.

Each test reads a case's own files. Cases that ask for a trained model or a server have no files beside a
script; `ELSEWHERE` names the tests that hold their right results.
"""

import ast
import collections
import csv
import datetime
import decimal
import pathlib
import re
import shutil

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from pipeline.cli import main as cli
from pipeline.components.table_reading import ReadEntities, ReadInteractions
from pipeline.config.pipeline_config import load_config, tables_of
from pipeline.data import schemas
from pipeline.onboarding.measuring import measure_split
from tfrec_fusion import naming
from tfrec_fusion.config import ConfigError
from tfrec_fusion.datasets.settling import settle
from tfrec_fusion.datasets.splits import Event, cutoffs_of, in_order, split_user
from tfrec_fusion.datasets.tables import Interactions, Items, Tables
from tfrec_fusion.features import columns as features
from tfrec_fusion.metrics.accuracy import rank_scores, ranking_metrics
from tfrec_fusion.metrics.ranks import per_user_figures

ROOT = pathlib.Path(__file__).parents[1]
CASES = ROOT.parent / "shared" / "cases"
pytestmark = pytest.mark.skipif(not CASES.is_dir(), reason=f"the cases do not lie in {CASES}")

ELSEWHERE = {
    "report-05-added-tokens": ("layers.test_encoder_folders", "test_added_tokens_are_obeyed"),
    "report-07-pooling-of-the-encoder": (
        "layers.test_encoder_folders",
        "test_what_cannot_be_done_is_refused_by_name",
    ),
    "report-09-fewer-items-than-k": (
        "test_requests",
        "test_an_answer_holds_what_is_left_and_numbers_alone",
    ),
    "table-21-requests-with-unknown-values": (
        "pipeline.test_requests_by_command",
        "test_an_unknown_category_is_an_error_with_the_near_ones",
    ),
    "table-22-no-times-become-1970": (
        "pipeline.test_figure_words",
        "test_without_times_there_is_no_period",
    ),
    "table-23-not-pushed-no-way-out": ("pipeline.test_unpushed", "test_commands_say_why_and_what_to_try"),
}


def case_of(number: str) -> str:
    """The folder's name that begins with `table-04`, say."""
    (found,) = CASES.glob(f"{number}-*")
    return found.name


def test_every_case_is_tried():
    here = pathlib.Path(__file__).read_text()
    for folder in sorted(CASES.iterdir()):
        if not folder.is_dir():
            continue
        if folder.name in ELSEWHERE:
            module, name = ELSEWHERE[folder.name]
            file = ROOT / "tests" / (module.replace(".", "/") + ".py")
            functions = {node.name for node in ast.walk(ast.parse(file.read_text())) if hasattr(node, "name")}
            assert name in functions, f"{folder.name}: {module} has no {name}"
        else:
            number = "-".join(folder.name.split("-")[:2])
            assert f'"{number}"' in here, f"no test reads {folder.name}"


@pytest.fixture
def opened(tmp_path, monkeypatch):
    """Copies a case to a folder that can be written, and goes there."""

    def open_case(number: str) -> pathlib.Path:
        target = tmp_path / number
        shutil.copytree(CASES / case_of(number), target, copy_function=shutil.copyfile)
        for path in (target, *target.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        # Their paths begin at the case's folder.
        for path in target.glob("*/*.yaml"):
            path.rename(target / path.name)
        monkeypatch.chdir(target)
        return target

    return open_case


@pytest.fixture
def init(opened, capsys):
    """`tfrec init` of one of a case's folders: what it printed, on one line, and the configuration's
    `data`."""

    def run(number: str, folder: str = "t", *options: str):
        target = opened(number)
        status = cli.main(["init", folder, "--name", "x", "--force", *options])
        printed = capsys.readouterr()
        assert status == 0, printed.err
        written = yaml.safe_load((target / "x.yaml").read_text())
        return " ".join(printed.out.split()), written["data"]

    return run


@pytest.fixture
def validate(capsys):
    """`tfrec validate` in the folder of a case that is open."""

    def run(name: str = "x.yaml", *sets: str):
        capsys.readouterr()
        status = cli.main(["validate", name, *(f"--set={one}" for one in sets)])
        return status, " ".join(capsys.readouterr().out.split())

    return run


def tables(name: str) -> Tables:
    return settle(tables_of(load_config(name))).tables


def choices(read: Tables) -> tuple[list[tuple[str, str, int]], collections.Counter]:
    """What ExampleGen reads of the interactions: (user, item, time) each, and rejects by reason."""
    rows, rejects = [], collections.Counter()
    for row in ReadInteractions(read).process(read.interactions.path):
        if isinstance(row, tuple):
            rows.append((row[1][0], row[0], row[1][1]))
        else:
            rejects[row.value[1]] += 1
    return rows, rejects


def entities(table, name: str, rule="as_written") -> tuple[dict, list]:
    """What ExampleGen reads of items or users: features by id, and rejects."""
    found, rejects = {}, []
    for row in ReadEntities(table, name, rule).process(table.path):
        if isinstance(row, tuple):
            assert row[0] not in found
            found[row[0]] = row[1]
        else:
            rejects.append(row.value)
    return found, rejects


def cells(path) -> list[dict]:
    """The rows of a CSV file by Python's own reader."""
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


# Values that change on the way.


@pytest.mark.parametrize(("name", "people"), [("bigint", 64), ("bigint_uint64", 512)])
def test_nullable_integers_are_ids_as_they_are_written(opened, name, people):
    folder = opened("report-01")
    wanted = pq.read_table(folder / name / "orders.parquet").column("who").to_pylist()
    rows, rejects = choices(tables(f"{name}.yaml"))
    assert [user for user, _, _ in rows] == [str(value) for value in wanted if value is not None]
    assert len({user for user, _, _ in rows}) == people
    assert rejects == {"missing user id": 1}


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (
            pa.array([2**53 + 1, 2**53 + 2, 2**53 + 3, None]),
            ["9007199254740993", "9007199254740994", "9007199254740995", None],
        ),
        (
            pa.array([2**63 + 1, 2**63 + 3, 2**63 + 5, None], pa.uint64()),
            [str(2**63 + n) for n in (1, 3, 5)] + [None],
        ),
        (pa.array([1, 2, 3, None], pa.int32()), ["1", "2", "3", None]),
        (
            pa.array([decimal.Decimal("12.00"), decimal.Decimal("13.50"), None, None], pa.decimal128(20, 2)),
            ["12", "13.5", None, None],
        ),
        (pa.array([b"p1", b"p2", b"p1", None], pa.binary()), ["p1", "p2", "p1", None]),
    ],
)
def test_an_id_of_any_type_of_parquet(tmp_path, array, expected):
    path = str(tmp_path / "t.parquet")
    pq.write_table(pa.table({"who": array, "sku": ["a", "b", "c", "d"], "at": [1, 2, 3, 4]}), path)
    read = settle(Tables(Interactions(path, "who", "sku", "at"), Items(path, "sku"))).tables
    rows, rejects = choices(read)
    assert [user for user, _, _ in rows] == [value for value in expected if value is not None]
    assert rejects["missing user id"] == expected.count(None)


def test_ids_with_a_fraction_of_nothing_are_told_and_matched(opened, validate):
    opened("report-02")
    for name, key in (("floats", "item_ids"), ("floats_users", "user_ids")):
        status, said = validate(f"{name}.yaml")
        assert status == 1
        assert f"0% match as written, 100% without '.0'. Set `data.{key}: number`" in said
        status, said = validate(f"{name}.yaml", "data.item_ids=number", "data.user_ids=number")
        assert status == 0 and "480 choices of 60 users among 30 of 30 items" in said
    status, said = validate("floats_parquet.yaml")
    assert status == 0 and "480 choices of 60 users among 30 of 30 items" in said


@pytest.mark.parametrize(
    ("role", "array", "expected"),
    [
        ("categories", pa.array([b"Acme", "Øl".encode(), None], pa.binary()), ["Acme", "Øl", None]),
        (
            "lists",
            pa.array([[b"red", b"big"], [b"blue"], None], pa.list_(pa.binary())),
            [["red", "big"], ["blue"], []],
        ),
        ("lists", pa.array([b"red|big", b"blue", None], pa.binary()), [["red", "big"], ["blue"], []]),
        ("text", pa.array(["a", "b", None], pa.large_string()), ["a", "b", None]),
        ("text", pa.array([b"Green tea", "Thé".encode(), None], pa.binary()), ["Green tea", "Thé", None]),
        ("categories", pa.array([1, 2, None]), ["1", "2", None]),
        (
            "categories",
            pa.array([1285704473650888703, 1285704473650888705, None]),
            ["1285704473650888703", "1285704473650888705", None],
        ),
        (
            "categories",
            pa.array([datetime.date(2024, 1, 2), datetime.date(2024, 1, 3), None]),
            ["2024-01-02", "2024-01-03", None],
        ),
        ("numbers", pa.array([decimal.Decimal("12.50"), decimal.Decimal("3.00"), None]), [12.5, 3.0, None]),
        ("lists", pa.array([[1, None, 3], [2], None], pa.list_(pa.int64())), [["1", "3"], ["2"], []]),
        ("text", pa.array([["red wine", "big"], ["blue"], None]), ["red wine big", "blue", None]),
        ("categories", pa.array(["web", " web", "web "]), ["web", "web", "web"]),
        (
            "vectors",
            pa.FixedSizeListArray.from_arrays(pa.array([1.0, 2, 3, 4, 5, 6], pa.float32()), 2),
            [[1, 2], [3, 4], [5, 6]],
        ),
    ],
)
def test_a_cell_is_read_by_one_rule(tmp_path, role, array, expected):
    """The columns of report-03's scripts."""
    path = str(tmp_path / "i.parquet")
    pq.write_table(pa.table({"sku": ["s1", "s2", "s3"], "cell": array}), path)
    found, rejects = entities(Items(path, "sku", **{role: ("cell",)}), "items")
    assert [next(iter(row.values())) for row in found.values()] == expected
    assert not rejects


@pytest.mark.parametrize(
    ("role", "array", "kind"),
    [
        ("text", pa.array([{"en": "tea"}, {"en": "tool"}, None]), "struct"),
        ("categories", pa.array([["tea", "pot"], ["tool"], None]), "list"),
    ],
)
def test_what_is_no_single_value_is_refused_by_name(tmp_path, role, array, kind):
    path = str(tmp_path / "i.parquet")
    pq.write_table(pa.table({"sku": ["s1", "s2", "s3"], "cell": array}), path)
    with pytest.raises(ConfigError, match=rf"'cell'.*Received: {kind}"):
        entities(Items(path, "sku", **{role: ("cell",)}), "items")


def test_a_context_is_one_category_in_every_row_group(tmp_path):
    path, rows = str(tmp_path / "o.parquet"), 70_000
    shop = pa.array([*(row % 3 + 1 for row in range(rows - 1)), None])
    columns = {"who": [f"p{n % 50}" for n in range(rows)], "sku": [f"s{n % 20}" for n in range(rows)]}
    pq.write_table(pa.table({**columns, "at": range(rows), "shop": shop}), path)
    read = settle(Tables(Interactions(path, "who", "sku", "at", context=("shop",)), Items(path, "sku")))
    found = collections.Counter(row[1][3][0] for row in ReadInteractions(read.tables).process(path))
    assert found == {"1": 23_333, "2": 23_333, "3": 23_333, "": 1}


def test_a_vector_with_nan_costs_its_item_and_is_named(opened, validate):
    opened("report-03")
    found, rejects = entities(tables("nanvec.yaml").items, "items")
    assert len(found) == 29 and "s3" not in found
    ((_, reason, row),) = rejects
    assert reason == "a vector of 'photo' that holds NaN, an infinity or no number" and '"s3"' in row
    status, said = validate("nanvec.yaml")
    assert status == 0 and "1 a vector of 'photo' that holds NaN" in said


@pytest.mark.parametrize("name", ["newline_item", "newline_user", "newline_category", "newline_country"])
def test_line_breaks_are_kept_and_fit_a_vocabulary(opened, validate, name):
    import tensorflow as tf

    from pipeline.data.vocabularies import as_it_was, one_line

    folder = opened("report-04")
    read = tables(f"{name}.yaml")
    items, users = entities(read.items, "items")[0], entities(read.users, "users")[0]
    assert set(items) == {row["sku"].strip() for row in cells(folder / name / "items.csv")}
    assert set(users) == {row["who"].strip() for row in cells(folder / name / "users.csv")}
    rows, rejects = choices(read)
    assert len(rows) == 480 and not rejects
    assert {item for _, item, _ in rows} <= set(items) and {user for user, _, _ in rows} <= set(users)
    values = [*items, *users]
    for features_of in (*items.values(), *users.values()):
        values += [value for value in features_of.values() if isinstance(value, str)]
    values = [value.encode() for value in dict.fromkeys(values)]
    assert any(b"\n" in value for value in values)
    written = one_line(tf.constant(values)).numpy().tolist()
    assert not any(b"\n" in value or b"\r" in value for value in written)
    assert [as_it_was(value) for value in written] == values
    assert validate(f"{name}.yaml")[0] == 0


def test_clicks_within_a_second_stay_in_order(tmp_path):
    """ "report-08", a script: seven clicks 200 ms apart; the second `f` is no duplicate."""
    at = [1_700_000_000_000 + after for after in (100, 300, 500, 700, 900, 1100, 1500)]
    path = str(tmp_path / "clicks.csv")
    for values, time_format in (
        (at, "ms"),
        (at, None),
        ([f"2024-01-01T00:00:00.{n}00Z" for n in range(1, 8)], None),
    ):
        pd.DataFrame({"who": "p", "sku": list("abcdeff"), "at": values}).to_csv(path, index=False)
        read = settle(
            Tables(Interactions(path, "who", "sku", "at", time_format=time_format), Items(path, "sku"))
        )
        rows, _ = choices(read.tables)
        for person in "pqrs":
            kept, duplicates = in_order(person, [Event(time, item) for _, item, time in rows])
            assert [event.item for event in kept] == list("abcdeff") and not duplicates


@pytest.mark.parametrize("name", ["names_slash", "names_spaces", "names_unicode"])
def test_any_name_of_a_column_works(opened, validate, name):
    import tensorflow as tf

    opened("report-12")
    status, said = validate(f"{name}.yaml")
    read = tables(f"{name}.yaml")
    assert status == 0
    for columns in (
        read.items.categories,
        read.items.numbers,
        read.users.categories,
        read.interactions.context,
    ):
        assert columns and all(column in said for column in columns)
    made = features.item_features(read) + features.user_features(read) + features.context_features(read)
    with tf.Graph().as_default():
        for feature in made:
            with tf.name_scope(f"item_tower/features/{feature.name}"):
                assert feature.name in tf.constant(1).name
    (given,) = naming.context_inputs(read.interactions.context)
    function = tf.function(lambda **inputs: {"out": inputs[given]})
    spec = function.get_concrete_function(**{given: tf.TensorSpec([None], tf.string, given)})
    assert [one.name for one in tf.nest.flatten(spec.structured_input_signature)] == [given]
    assert naming.find_input(read.interactions.context[0], [given]) == given


OWN = {
    "item_index",
    "user_index",
    "item_id",
    "user_id",
    "history",
    "seen",
    "click",
    "label",
    "rating",
    "title",
    "train_count",
}


@pytest.mark.parametrize(
    "name",
    [
        f"collide_{name}"
        for name in (
            "id_category",
            "index_category",
            "index_number",
            "item_activity",
            "item_train_count",
            "user_activity",
            "user_id",
            "user_index",
        )
    ],
)
def test_a_column_never_takes_the_place_of_the_pipelines_own(opened, validate, name):
    folder = opened("report-13")
    read = tables(f"{name}.yaml")
    for schema in (schemas.interactions_schema(read), schemas.items_schema(read, 0.0)):
        names = [feature.name for feature in schema.feature]
        assert len(set(names)) == len(names)
    made = features.item_features(read) + features.user_features(read)
    assert not {feature.name for feature in made} & OWN
    for table, kind, key in ((read.items, "items", "sku"), (read.users, "users", "who")):
        found, rejects = entities(table, kind)
        rows = cells(folder / name / f"{kind}.csv")
        assert list(found) == [row[key] for row in rows] and not rejects
        for feature in made:
            if feature.role == kind[:-1]:
                for row in rows:
                    value = found[row[key]][feature.name]
                    assert value == (
                        float(row[feature.column]) if feature.kind == "number" else row[feature.column]
                    )
    assert validate(f"{name}.yaml")[0] == 0


def test_init_takes_no_number_of_a_row_for_a_feature(opened, capsys):
    """`init` chose `numbers: [index]` by itself."""
    folder = opened("report-13")
    shutil.copytree(folder / "collide_user_index", folder / "t")
    assert cli.main(["init", "t", "--name", "x"]) == 0
    assert "index" not in str(yaml.safe_load((folder / "x.yaml").read_text())["data"])
    assert "index" in capsys.readouterr().out.partition("left out")[2]


# How each folder's times come from those of `t_ms`.
def _days(at: int) -> int:
    return at // 86400 * 86400


TIMES = {
    "t_ms": lambda at: at,
    "t_2digit": _days,
    "t_yyyymmdd": _days,
    "t_day_first": lambda at: at // 60 * 60,
    "t_offset": lambda at: at - 7200,
    "t_iso_mixed": lambda at: at,
    "t_excel": lambda at: at,
    "t_sentinel": lambda at: at if at % 97 else None,
    "t_zero": lambda at: at if at % 97 else 0,
}


@pytest.mark.parametrize("name", TIMES)
def test_times_are_read_by_one_rule(opened, validate, name):
    folder = opened("report-15")
    truth = [int(row["at"]) // 1000 for row in cells(folder / "t_ms/orders.csv")]
    wanted = [TIMES[name](at) for at in truth]
    rows, rejects = choices(tables(f"{name}.yaml"))
    found = [time / 1e9 for _, _, time in rows]
    kept = [at for at in wanted if at is not None]
    np.testing.assert_allclose(
        found, kept, rtol=0, atol=0.05
    )  # a millionth of a day, as Excel's were written
    assert rejects == ({"unparsable time": wanted.count(None)} if None in wanted else {})
    status, said = validate(f"{name}.yaml")
    first, last = (
        f"{datetime.datetime.fromtimestamp(at, datetime.UTC):%Y-%m-%d %H:%M}" for at in (min(kept), max(kept))
    )
    assert f"from {first} to {last}" in said
    if name == "t_zero":
        assert "4 of 480 lie before 1990" in said
        assert "far from the shares that are asked for (0.1 and 0.1)" in said  # a test of one choice
    if TIMES[name] is _days:  # eight days: there is no moment that leaves a test
        assert status == 1 and "the times must differ" in said
    else:
        # The future is not in training.
        validation, test = cutoffs_of((round(at * 1e9) for at in kept), 0.1, 0.1)
        frame = pd.DataFrame(rows, columns=["user", "item", "time"])
        sizes = measure_split(frame, load_config(f"{name}.yaml").split).sizes
        assert status == 0
        assert sizes["train"] == sum(at * 1e9 < validation for at in kept)
        assert sizes["test"] == sum(at * 1e9 >= test for at in kept)


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        (["11/01/2024 10:00", "12/01/2024 10:00", "13/01/2024 10:00", "14/01/2024 10:00"], [11, 12, 13, 14]),
        (["20240111", "20240112"], [11, 12]),
        (["45302.5", "45303.5"], [11, 12]),
        (["1704967200000", "1705053600000"], [11, 12]),
    ],
)
def test_days_of_january(tmp_path, values, wanted):
    """report-15's mixed.py: each is a day of January 2024."""
    path = str(tmp_path / "o.csv")
    pd.DataFrame({"who": "p", "sku": "a", "at": values}).to_csv(path, index=False)
    rows, _ = choices(settle(Tables(Interactions(path, "who", "sku", "at"), Items(path, "sku"))).tables)
    moments = [datetime.datetime.fromtimestamp(time / 1e9, datetime.UTC) for _, _, time in rows]
    assert [(moment.year, moment.month, moment.day) for moment in moments] == [
        (2024, 1, day) for day in wanted
    ]


# Figures that cannot be true.


@pytest.mark.parametrize(
    ("ranks", "ndcg", "recall"),
    [
        ([1], 1.0, 1.0),
        ([1, 1], 1.0, 1.0),
        ([1] * 5, 1.0, 1.0),
        ([2, 2, 2, 40], 0.38685, 0.5),
        ([2, 40], 0.38685, 0.5),
    ],
)
def test_an_item_that_was_bought_again_is_relevant_once(ranks, ndcg, recall):
    """The lists of "report-16"'s case2.py, with the NDCG that it states."""
    for items in (None, np.unique(ranks, return_inverse=True)[1]):
        found = per_user_figures(np.full(len(ranks), 7), np.array(ranks, float), [10], items)
        assert found["ndcg@10"] == pytest.approx(ndcg, abs=1e-5) and found["recall@10"] == recall
        assert all(np.all((values >= 0) & (values <= 1)) for values in found.values())


@pytest.mark.parametrize(
    ("ranked", "relevant", "k", "recall", "ndcg"),
    [
        ([1, 2], [1, 1, 2], 2, 1.0, 1.0),
        ([1, 1], [1, 2], 2, 0.5, 0.6131),
        ([1, 1], [1], 2, 1.0, 1.0),
        ([1, 2, 3], [1, 2, 3], 2, 2 / 3, 1.0),
        ([1, 2], [], 2, np.nan, np.nan),
        ([-1, -1], [-1], 2, np.nan, np.nan),
        ([1, 2], [2], 5, 1.0, 0.6309),
    ],
)
def test_a_list_counts_an_item_once(ranked, relevant, k, recall, ndcg):
    """The lists of report-16's case.py."""
    found = ranking_metrics(np.array([ranked]), [np.array(relevant, np.int64)], [k])
    assert found[f"recall@{k}"] == pytest.approx([recall], nan_ok=True)
    assert found[f"ndcg@{k}"] == pytest.approx([ndcg], abs=1e-4, nan_ok=True)
    assert all(not np.any(values > 1) for values in found.values())


def test_ties_infinities_and_exclusions_in_a_ranking():
    endless = rank_scores(lambda rows: np.array([[np.inf, 1.0, -np.inf]] * len(rows)), 1, 3, k=3)
    assert endless.tolist() == [[0, 1, -1]]
    nothing = rank_scores(lambda rows: np.zeros((len(rows), 3)), 1, 3, [np.array([0, 1, 2])], k=3)
    assert nothing.tolist() == [[-1, -1, -1]]
    tied = [
        rank_scores(lambda rows: np.zeros((len(rows), 9)), 1, 9, k=1, seed=seed)[0, 0] for seed in range(60)
    ]
    assert len(set(tied)) > 4


def test_what_was_bought_three_times_is_held_out_three_times_and_counts_once(opened):
    """The whole run's figures come from these rows: `ndcg@10` was 1.1152."""
    opened("report-16")
    read = tables("repeats.yaml")
    rows, _ = choices(read)
    config = load_config("repeats.yaml").split
    cutoffs = cutoffs_of((time for _, _, time in rows), config.validation, config.test)
    people = collections.defaultdict(list)
    for user, item, time in rows:
        people[user].append(Event(time, item))
    users, items = [], []
    for user, events in people.items():
        kept, duplicates = in_order(user, events)
        assert not duplicates
        for example in split_user(kept, "temporal", cutoffs, 10):
            if example.split == "test":
                users.append(user)
                items.append(example.event.item)
    assert len(users) == 269  # of 270 the first is where validation ends
    codes = np.unique(items, return_inverse=True)[1]
    found = per_user_figures(np.array(users), np.ones(len(users)), [10], codes)
    assert set(found["ndcg@10"]) == set(found["map@10"]) == {1.0}


# Tables as people have them.


def test_ids_that_look_like_numbers_stay_texts(init, validate):
    _, data = init("table-01")
    assert data["interactions"] | {"path": ""} == {
        "path": "",
        "user": "customer_id",
        "item": "product_id",
        "time": "ordered_at",
    }
    rows, rejects = choices(tables("x.yaml"))
    wanted = [(row["customer_id"], row["product_id"]) for row in cells("t/orders.csv")]
    assert [row[:2] for row in rows] == wanted and not rejects
    assert any(re.match(r"\d+e\d{4}", user) for user, _ in wanted)
    assert validate()[0] == 0
    assert validate("t.yaml")[0] == 0


@pytest.mark.parametrize(("folder", "encoding"), [("t", "cp1251"), ("t_sjis", "cp932")])
def test_encodings_are_told_with_a_title(init, validate, folder, encoding):
    said, data = init("table-02", folder)
    assert data["items"]["csv"] == {"encoding": encoding}
    with open(f"{folder}/items.csv", encoding=encoding, newline="") as file:
        titles = {row["item_id"]: row["title"] for row in csv.DictReader(file)}
    assert f"items.csv: read as {encoding}, for example {next(iter(titles.values()))!r}" in said
    found, _ = entities(tables("x.yaml").items, "items")
    assert {item: row["title"] for item, row in found.items()} == titles
    assert load_config("x.yaml").text.encoder == "subwords"
    assert validate()[0] == 0
    status, told = validate("x.yaml", "text.encoder=all-MiniLM-L6-v2")
    assert (
        "unknown to all-MiniLM-L6-v2" in told
        if folder == "t_sjis"
        else "hardly more than its letters" in told
    )
    assert status == (folder == "t_sjis")


def test_minus_one_is_no_grade(init, validate):
    said, data = init("table-03")
    assert data["interactions"]["label_nulls"] == [-1]
    assert "-1 (22% of the rows) stands apart from 7 to 10" in said
    assert "from 7 to 10" in validate()[1]
    assert "looks like 'not rated'" in validate("x.yaml", "data.interactions.label_nulls=[]")[1]


def test_a_flag_is_no_text_and_what_is_left_out_is_listed(init, validate):
    said, data = init("table-04")
    assert not {"title", "text"} & set(data["items"]) and "users" not in data
    left = said.partition("left out:")[2]
    assert "verified yes and no" in left and "reviewText" in left and "summary" in left
    assert validate()[0] == 0


@pytest.mark.parametrize(("folder", "column"), [("t", "plays"), ("t_hours", "hours_played")])
def test_counts_and_hours_are_offered_as_weights(init, validate, folder, column):
    said, _ = init("table-05", folder)
    assert f"To use it: weight: {column}" in said
    assert validate("x.yaml", f"data.interactions.weight={column}")[0] == 0


def test_a_dislike_is_no_choice(init, validate):
    _, data = init("table-06")
    grades = data["interactions"]["label_values"]
    assert grades["love"] > grades["like"] > grades["dislike"]
    rows, rejects = choices(tables("x.yaml"))
    given = collections.Counter(row["rating"] for row in cells("t/ratings.csv"))
    assert len(rows) == given["like"] + given["love"]
    assert rejects == {"no choice: event 'dislike' counts 0": given["dislike"]}
    assert validate()[0] == 0


@pytest.mark.parametrize(
    ("folder", "words", "rule"),
    [
        ("t", "100% without '.0'", "number"),
        ("t2", "100% without leading zeros", "number"),
        ("t_spaces", "100% without capital letters", "folded"),
    ],
)
def test_ids_that_are_written_differently_are_told_and_matched(init, validate, folder, words, rule):
    said, data = init("table-08", folder)
    assert f"0% match as written, {words}" in said
    assert data["item_ids"] == rule and data["items"]["text"] == ["title"]
    assert "among 15 of 15 items" in validate()[1]


def test_lists_of_ids_in_a_cell(init, validate):
    _, data = init("table-09")
    assert data["interactions"]["item"] == "items" and data["interactions"]["explode"] == " "
    wanted = [(row["user_id"], item) for row in cells("t/sessions.csv") for item in row["items"].split()]
    rows, _ = choices(tables("x.yaml"))
    assert [row[:2] for row in rows] == wanted
    assert validate()[0] == 0


def test_lists_taken_for_items_are_not_ready(opened, validate):
    folder = opened("table-09")
    (folder / "x.yaml").write_text(
        "name: x\ndata:\n  interactions: {path: t/sessions.csv, user: user_id, item: items, time: time}\n"
        "  items: {path: t/sessions.csv, id: items, distinct: true}\ntext: none\n"
    )
    status, said = validate()
    assert status == 1 and "no model can be judged by items that it never saw" in said and "`explode`" in said


@pytest.mark.parametrize("ending", ["dat", "csv"])
def test_double_colons_and_no_header(opened, capsys, validate, ending):
    folder = opened("table-10")
    for name in ("ratings", "movies"):
        (folder / "t" / f"{name}.dat").rename(folder / "t" / f"{name}.{ending}")
    assert cli.main(["init", "t", "--name", "x"]) == 0
    assert f"ratings.{ending}: columns divided by '::' and no header line" in " ".join(
        capsys.readouterr().out.split()
    )
    rows, _ = choices(tables("x.yaml"))
    lines = (folder / "t" / f"ratings.{ending}").read_text().split()
    assert [(user, item) for user, item, _ in rows] == [tuple(line.split("::")[:2]) for line in lines]
    assert validate()[0] == 0


def test_json_lines(init, validate):
    init("table-11")
    written = pd.read_json("t/reviews.jsonl", lines=True, dtype=str)
    rows, _ = choices(tables("x.yaml"))
    assert [row[:2] for row in rows] == list(zip(written.reviewerID, written.asin, strict=True))
    assert validate()[0] == 0


def test_a_time_that_fits_no_format_is_named_with_the_way_out(init, validate):
    said, _ = init("table-13")
    assert "time looks like a time, but '11/01/2019 00:21:00 AM' fits no format" in said
    assert "--time time --time-format FORMAT" in said
    assert cli.main(["init", "t", "--name", "y", "--time=time", "--time-format=%m/%d/%Y %H:%M:%S AM"]) == 0
    assert "from 2019-11-01" in validate("y.yaml")[1]


def test_html_is_cleaned_and_said(init):
    said, _ = init("table-14")
    assert "100% of the texts hold HTML ('Thing i0 &amp; more')" in said
    found, _ = entities(tables("x.yaml").items, "items")
    assert found["i0"]["title"] == "Thing i0 & more"
    assert "&amp;" not in str(found) and "<" not in str(found)


@pytest.mark.parametrize(("folder", "column"), [("t", "genres"), ("t_tags", "tags")])
def test_lists_as_python_writes_them(init, folder, column):
    _, data = init("table-15", folder)
    assert data["items"]["lists"] == [column]
    found, _ = entities(tables("x.yaml").items, "items")
    for row in cells(f"{folder}/items.csv"):
        values = [
            value if isinstance(value, str) else value["name"] for value in ast.literal_eval(row[column])
        ]
        assert found[row["item_id"]][f"item_categories__{column}"] == values


def test_the_previews_split_is_the_runs(init, validate):
    said, _ = init("table-17")
    rows, _ = choices(tables("x.yaml"))
    people = collections.defaultdict(list)
    for user, item, time in rows:
        people[user].append(Event(time, item))
    trained, tested = set(), []
    for user, events in people.items():
        for example in split_user(in_order(user, events)[0], "leave_last_out", None, 5):
            if example.split == "train":
                trained.add(example.event.item)
            elif example.split == "test":
                tested.append(example.event.item)
    cold = sum(item not in trained for item in tested) / len(tested)
    assert 0 < cold < 0.5
    assert f"{cold:.0%} of the test's items are new there" in said
    assert f"{1 - cold:.0%} of its items are known from training" in validate()[1]


def test_orders_and_their_lines_are_joined(init, validate):
    said, data = init("table-18")
    assert data["interactions"]["path"] == "t/order_items.csv"
    assert data["interactions"]["join"] == {"path": "t/orders.csv", "on": "order_id"}
    frame = pd.read_csv("t/order_items.csv", dtype=str).merge(
        pd.read_csv("t/orders.csv", dtype=str), on="order_id"
    )
    rows, _ = choices(tables("x.yaml"))
    assert sorted(row[:2] for row in rows) == sorted(zip(frame.customer_id, frame.product_id, strict=True))
    assert "weight: qty" in said and "price" in said.partition("left out:")[2]
    assert validate()[0] == 0


def test_an_empty_label_is_a_choice(init, validate):
    said, data = init("table-20")
    assert data["interactions"]["label"] == "stars"
    assert "33% of the rows have one; the others are choices without an opinion" in said
    rows, rejects = choices(tables("x.yaml"))
    assert len(rows) == 300 and not rejects
    assert validate()[0] == 0
