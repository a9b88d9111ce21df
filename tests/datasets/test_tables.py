"""Reading tables: both formats, and clear errors for what cannot be read."""

import dataclasses
import gzip
import io
import json

import pandas as pd
import pytest

from pipeline.config.pipeline_config import load_config
from tfrec_fusion.config import ConfigError, from_dict
from tfrec_fusion.datasets import movielens
from tfrec_fusion.datasets.csv_format import Csv
from tfrec_fusion.datasets.digests import source_digest
from tfrec_fusion.datasets.files import find_files
from tfrec_fusion.datasets.movielens import movielens_100k
from tfrec_fusion.datasets.reading import column_names, read_batches
from tfrec_fusion.datasets.tables import Interactions, Items, Join, Tables

FRAME = pd.DataFrame({"id": ["007", "8"], "text": ['a, "quoted"\nline 🤖', None], "n": [1, 2]})


def rows(path, columns=("id", "text")):
    return [row for batch in read_batches(str(path), columns, "items") for row in batch.to_pylist()]


def write(path, frame=FRAME):
    if path.name.endswith(".parquet"):
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False, sep="\t" if ".tsv" in path.name else ",")
    return path


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "t.tsv", "t.parquet"])
def test_formats_agree(tmp_path, name):
    expected = [{"id": "007", "text": 'a, "quoted"\nline 🤖'}, {"id": "8", "text": None}]
    assert rows(write(tmp_path / name)) == expected


def test_a_table_may_be_many_files(tmp_path):
    for name in ("b.csv", "a.csv"):
        write(tmp_path / name)
    assert [file.rsplit("/", 1)[1] for file in find_files(str(tmp_path / "*.csv"))] == ["a.csv", "b.csv"]
    assert find_files(str(tmp_path)) == find_files(str(tmp_path / "*.csv"))


def test_categories_are_read_as_what_they_stand_for(tmp_path):
    frame = FRAME.astype({"id": "category", "text": "category"})
    assert rows(write(tmp_path / "t.parquet", frame)) == rows(write(tmp_path / "plain.parquet"))


def test_batches_are_bounded(tmp_path):
    path = write(tmp_path / "t.csv", pd.DataFrame({"id": range(1000)}))
    sizes = [batch.num_rows for batch in read_batches(str(path), ("id",), "items", rows=300)]
    assert max(sizes) <= 300
    assert sum(sizes) == 1000


def test_a_missing_column_names_what_there_is(tmp_path):
    with pytest.raises(
        ConfigError, match="no column 'title'. It has: id, text, n. Mend the names under `data.items`"
    ):
        rows(write(tmp_path / "t.csv"), ("id", "title"))


@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
def test_an_empty_table_is_an_error(tmp_path, name):
    with pytest.raises(ConfigError, match="has no rows below its header"):
        rows(write(tmp_path / name, FRAME[:0]))


def test_an_empty_file_is_an_error(tmp_path):
    path = tmp_path / "t.csv"
    path.touch()
    with pytest.raises(ConfigError, match="is empty. Give it a header line"):
        rows(path)


def test_a_file_of_another_kind_is_an_error(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes(b"PK\x03\x04 a workbook, whatever it is called")
    with pytest.raises(ConfigError, match="an Excel workbook, .* save its sheet as CSV"):
        rows(path)


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match="Mend `data.items.path`"):
        find_files(str(tmp_path / "nothing.csv"), "items")


def test_a_broken_file_is_an_error(tmp_path):
    path = tmp_path / "t.parquet"
    path.write_bytes(b"PAR1 is not enough")
    with pytest.raises(ConfigError, match="cannot be read"):
        rows(path)


def test_the_digest_follows_the_bytes(tmp_path):
    tables = Tables(Interactions(str(write(tmp_path / "i.csv"))), Items(str(write(tmp_path / "t.csv"))))
    before = source_digest(tables)
    assert source_digest(tables) == before
    write(tmp_path / "t.csv", FRAME.assign(n=3))
    assert source_digest(tables) != before


def test_movielens_100k_is_what_was_published(tmp_path):
    tables = movielens_100k(None, str(tmp_path))
    ratings, films = pd.read_parquet(tables.interactions.path), pd.read_parquet(tables.items.path)
    assert (len(ratings), len(films), ratings.user_id.nunique()) == (100_000, 1_682, 943)
    assert ratings.rating.mean() == pytest.approx(3.52986)
    assert films.set_index("item_id").title["50"] == "Star Wars"


def test_movielens_in_grouplens_own_format(tmp_path):
    source = tmp_path / "ml-100k"
    source.mkdir()
    (source / "u.data").write_text("196\t242\t3\t881250949\n")
    genres = "|".join("1" if position in (5, 15) else "0" for position in range(19))
    line = f"242|Café (1996)|24-Jan-1997||http://us.imdb.com/|{genres}\n"
    (source / "u.item").write_bytes(line.encode("latin-1"))
    (source / "u.user").write_text("196|49|M|writer|55105\n")
    tables = movielens_100k(str(source), str(tmp_path / "out"))
    (film,) = pd.read_parquet(tables.items.path).to_dict("records")
    assert film == {"item_id": "242", "title": "Café", "year": 1996.0, "genres": "Comedy|Sci-Fi"}


def test_movielens_in_a_wrong_folder(tmp_path):
    with pytest.raises(ConfigError, match="neither `u.data` nor `ml-100k.inter`"):
        movielens_100k(str(tmp_path), str(tmp_path / "out"))


def test_gzip_is_read(tmp_path):
    path = tmp_path / "t.csv.gz"
    path.write_bytes(gzip.compress(b"id,text\n1,x\n"))
    assert rows(path) == [{"id": "1", "text": "x"}]


def test_a_csv_file_of_another_habit(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes("id;text\n1;Café, crème\n".encode("latin-1"))
    csv = Csv(";", "latin-1")
    (batch,) = read_batches(str(path), ("id", "text"), csv=csv)
    assert batch.to_pylist() == [{"id": "1", "text": "Café, crème"}]
    assert column_names(str(path), csv) == ["id", "text"]
    with pytest.raises(ConfigError, match="no line break. Received: '\\\\n'"):
        Csv("\n")
    with pytest.raises(ConfigError, match="`csv.encoding` must be a known one. Received: 'utf-7b'"):
        Csv(encoding="utf-7b")


def test_a_download_must_have_the_published_digest(tmp_path, monkeypatch):
    monkeypatch.setattr(movielens, "_recbole_folder", lambda: None)
    monkeypatch.setattr("urllib.request.urlopen", lambda *_, **__: io.BytesIO(b"something else"))
    with pytest.raises(ConfigError, match="not the published 0e33842e"):
        movielens_100k(None, str(tmp_path))
    assert not list(tmp_path.iterdir())


def test_without_files_and_network_the_way_out_is_named(tmp_path, monkeypatch):
    def refused(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr(movielens, "_recbole_folder", lambda: None)
    monkeypatch.setattr("urllib.request.urlopen", refused)
    with pytest.raises(ConfigError, match="no route to host.*name it in `data.folder`"):
        movielens_100k(None, str(tmp_path))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"label_valves": {}}, "Unknown key `label_valves`. Did you mean `label_values`"),
        ({"label_nulls": [-1]}, "`interactions.label_nulls` needs `interactions.label`"),
        ({"event": "kind"}, "go together: .* Received: event='kind', events={}"),
        (
            {"event": "kind", "events": {"buy": -1}},
            "`events.buy` must be at least 0",
        ),
        ({"event": "kind", "events": {"view": 0}}, "must count at least one kind above 0"),
        ({"time_format": "%Q"}, "`interactions.time_format` must be .*'Q' is a bad directive"),
        ({"time_format": "seconds"}, "Received: 'seconds' .it names no part of a time."),
        ({"explode": ""}, "`interactions.explode` must be at least one character"),
        ({"join": {"path": "o.csv", "on": "a=b=c"}}, "`interactions.join.on` must name .* Received: 'a=b=c'"),
        ({"join": {"path": "o.csv"}}, "`join.on` is missing"),
        ({"csv": {"header": ["a", "a"]}}, "`csv.header` must name each column once"),
        ({"csv": {"encoding": "hex"}}, "`csv.encoding` must be a known one. Received: 'hex'"),
    ],
)
def test_keys_of_interactions_are_checked(values, said):
    with pytest.raises(ConfigError, match=said):
        from_dict(Interactions, {"path": "i.csv", **values})


def test_keys_survive_json():
    table = Interactions(
        "i.csv",
        label="stars",
        label_nulls=(-1.0, "99", 0.5),
        label_values={"like": 1.0},
        join=Join("o.csv", "order = id"),
        csv=Csv("::", header=("a", "b")),
    )
    assert table.label_nulls == ("-1", "99", "0.5")
    assert (table.join.left, table.join.right) == ("order", "id")
    assert from_dict(Interactions, json.loads(json.dumps(dataclasses.asdict(table)))) == table


def test_yaml_keys_are_names_as_they_are_written(tmp_path):
    (tmp_path / "c.yaml").write_text(
        "name: x\ndata:\n  items: {path: i.csv}\n  interactions:\n    path: lines.csv\n    label: liked\n"
        "    label_values: {yes: 1, no: 0}\n    join: {path: orders.csv, on: order_id}\n"
    )
    table = load_config(str(tmp_path / "c.yaml")).data.interactions
    assert table.label_values == {"yes": 1, "no": 0}
    assert table.join == Join(str(tmp_path / "orders.csv"), "order_id")
