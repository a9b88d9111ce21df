"""The benchmark runs at a small size and writes what it prints."""

import json

import numpy as np

from benchmarks.index import main
from benchmarks.index_codes import main as codes_main
from benchmarks.index_codes import product_codes


def test_small_run(tmp_path, capsys):
    path = tmp_path / "index.json"
    sizes = ["--num-candidates", "1500", "--dim", "8", "--k", "10", "--rounds", "1"]
    report = main([*sizes, "--profile", "--json", str(path)])
    assert json.loads(path.read_text()) == json.loads(json.dumps(report))
    assert report["results"]["TFRS BruteForce"]["recall"] == 1.0
    for name in ("InvertedFile", "InvertedFile int8"):
        assert report["results"][name]["held_out_recall"] >= 0.95
        assert report["results"][name]["recall"] >= 0.9
    assert all(row["p50_ms"] > 0 for row in report["results"].values())
    operations = dict(report["results"]["InvertedFile"]["operations"])
    assert operations["TopKV2"] > 0 and operations["RaggedRange"] > 0
    printed = capsys.readouterr().out
    assert "| InvertedFile |" in printed and "InvertedFile, µs an operation:" in printed


def test_product_codes_stand_for_what_they_encode():
    """Vectors made of 3 values a part are told apart without loss."""
    random = np.random.default_rng(0)
    values = random.normal(size=(2, 3, 2)).astype("float32")
    vectors = np.concatenate([values[part][random.integers(3, size=2000)] for part in (0, 1)], 1)
    codes, books = product_codes(vectors, 2)
    decoded = np.concatenate([books[part][codes[:, part]] for part in (0, 1)], 1)
    np.testing.assert_allclose(decoded, vectors, atol=1e-5)


def test_small_run_of_codes(capsys):
    results = codes_main(["--rows", "1000", "--candidates", "450"])
    result = {row["codes"]: row["recall"] for row in results}
    assert result["float32"] == 1.0
    assert result["product, 8 codes"] <= result["product, 32 codes"] <= 1.0
    assert "| int8 | 68 |" in capsys.readouterr().out
