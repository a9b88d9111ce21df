"""Tables behind a URI are the same tables."""

import gzip

import pandas as pd
import pyarrow as pa
import pytest

from tfrec_fusion.config import ConfigError
from tfrec_fusion.datasets.digests import source_digest
from tfrec_fusion.datasets.files import find_files
from tfrec_fusion.datasets.reading import read_batches
from tfrec_fusion.datasets.storage import find_remote, is_remote
from tfrec_fusion.datasets.tables import Interactions, Items, Tables

FRAME = pd.DataFrame({"user_id": ["a", "b"], "item_id": ["x", "y"], "timestamp": ["1", "2"]})


@pytest.fixture
def folder(tmp_path):
    for part in ("2024-01", "2024-02"):
        (tmp_path / part).mkdir()
        FRAME.to_csv(tmp_path / part / "events.csv", index=False)
    FRAME.to_parquet(tmp_path / "events.parquet")
    (tmp_path / "events.csv.gz").write_bytes(gzip.compress(FRAME.to_csv(index=False).encode()))
    return tmp_path


def read(path):
    return pa.Table.from_batches(read_batches(path, tuple(FRAME), "interactions")).to_pandas()


@pytest.mark.parametrize("name", ["2024-01/events.csv", "events.parquet", "events.csv.gz"])
def test_a_uri_reads_as_the_path_does(folder, name):
    uri = f"file://{folder}/{name}"
    assert find_files(uri, "interactions") == [uri]
    pd.testing.assert_frame_equal(read(uri), read(str(folder / name)))
    pd.testing.assert_frame_equal(read(uri), FRAME, check_dtype=False)


def test_patterns_and_folders(folder):
    uri = f"file://{folder}"
    assert find_files(f"{uri}/*/events.csv") == [f"{uri}/2024-0{n}/events.csv" for n in (1, 2)]
    assert find_files(f"{uri}/2024-0?/*.csv") == find_files(f"{uri}/*/events.csv")
    assert find_files(f"{uri}/2024-01") == [f"{uri}/2024-01/events.csv"]
    assert find_remote(f"{uri}/*.csv") == []  # `*` stays within a folder
    with pytest.raises(ConfigError, match="has no file at 'file://"):
        find_files(f"{uri}/none.csv")


def test_a_change_is_noticed_without_reading(folder):
    tables = Tables(
        Interactions(f"file://{folder}/2024-01/events.csv"), Items(f"file://{folder}/events.parquet")
    )
    before = source_digest(tables)
    assert source_digest(tables) == before
    with (folder / "2024-01" / "events.csv").open("a") as stream:
        stream.write("c,z,3\n")
    assert source_digest(tables) != before


def test_an_unknown_scheme_names_the_known_ones():
    assert not is_remote("tables/events.csv")
    with pytest.raises(ConfigError, match="Use a path, gs:// or s3://"):
        find_files("ftps://somewhere/events.csv")
