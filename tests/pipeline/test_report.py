"""The report's parts that need no run: drift, pictures, and lists by popularity."""

import numpy as np
import pytest
from tensorflow_metadata.proto.v0 import statistics_pb2

from pipeline.config.pipeline_config import load_config
from pipeline.report import plots, statistics
from pipeline.report.analysis import exposure_by_tenth, interactions_by_tenth, popular_lists
from pipeline.report.asking import SampledUser
from pipeline.report.run_files import Item, RunFiles
from tfrec_fusion.config import ConfigError


def write_statistics(folder, shares, mean):
    """Statistics as TFDV writes them: one feature of strings and one of numbers."""
    found = statistics_pb2.DatasetFeatureStatisticsList()
    data = found.datasets.add(num_examples=100)
    words = data.features.add(type=statistics_pb2.FeatureNameStatistics.STRING)
    words.path.step.append("device")
    words.string_stats.common_stats.num_non_missing = 80
    words.string_stats.unique = len(shares)
    for place, (value, count) in enumerate(shares.items()):
        words.string_stats.top_values.add(value=value, frequency=count)
        words.string_stats.rank_histogram.buckets.add(
            low_rank=place, high_rank=place, label=value, sample_count=count
        )
    numbers = data.features.add(type=statistics_pb2.FeatureNameStatistics.FLOAT)
    numbers.path.step.append("price")
    numbers.num_stats.common_stats.num_non_missing = 100
    numbers.num_stats.mean, numbers.num_stats.min, numbers.num_stats.max = mean, mean - 1, mean + 1
    histogram = numbers.num_stats.histograms.add()
    histogram.buckets.add(low_value=mean - 1, high_value=mean + 1, sample_count=100)
    (folder / "Split-train").mkdir(parents=True)
    (folder / "Split-train" / "FeatureStats.pb").write_bytes(found.SerializeToString())
    return str(folder)


def test_statistics_and_drift(tmp_path):
    before = write_statistics(tmp_path / "before", {"phone": 60, "desk": 20}, 5.0)
    now = write_statistics(tmp_path / "now", {"phone": 20, "desk": 60}, 5.0)
    rows = {row.name: row for row in statistics.feature_rows(now, "train")}
    assert rows["device"].present == pytest.approx(0.8)
    assert rows["device"].values == "2 distinct; phone (20), desk (60)"
    assert rows["price"].values.startswith("4 to 6, mean 5")
    drift = {row.name: row for row in statistics.drift(now, before, "train")}
    assert drift["device"].distance == pytest.approx(0.5)
    assert drift["device"].much
    assert drift["price"].distance == pytest.approx(0.0, abs=1e-6)
    assert not drift["price"].much


def test_pictures_take_the_colour_of_the_text_and_ids_of_their_own(tmp_path):
    pictures = plots.Pictures(tmp_path)
    rows = [
        {"name": "a <b>", "value": 0.1, "low": 0.05, "high": 0.2},
        {"name": "few", "value": 0.1, "low": None, "high": None},
    ]
    svg = pictures.draw(
        "gains", "Gains", 4, 2, lambda figure: plots.intervals(figure.subplots(), rows, zero=True)
    )
    assert svg.startswith('<svg role="img" aria-label="Gains"')
    assert "currentColor" in svg
    assert plots.INK not in svg
    assert "a &lt;b&gt;" in svg
    assert 'id="gains-' in svg
    assert (tmp_path / "gains.png").read_bytes().startswith(b"\x89PNG")


def test_popularity_by_tenths_and_without_what_was_met():
    items = {f"i{number}": Item(f"Item {number}", 20 - number) for number in range(20)}
    users = [SampledUser("u", ["i1"], ["i0", "i1"], ["i5"], "light", {}, {})]
    (found,) = popular_lists(users, items)
    assert found == [f"i{number}" for number in range(2, 12)]
    shares = interactions_by_tenth(items)
    assert shares.sum() == pytest.approx(1)
    assert shares[0] == pytest.approx((20 + 19) / 210)
    np.testing.assert_allclose(exposure_by_tenth([["i0", "i1", "i19"]], items), [2 / 3, *[0] * 8, 1 / 3])


def test_without_a_run_there_is_no_report(tmp_path):
    with pytest.raises(ConfigError, match="There is no run in"):
        RunFiles(load_config("movielens_100k", [f"root={tmp_path}"]))
