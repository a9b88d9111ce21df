"""The benchmark runs at a small size and writes what it prints."""

import json

from benchmarks.index import main


def test_small_run(tmp_path, capsys):
    path = tmp_path / "index.json"
    sizes = ["--num-candidates", "3000", "--dim", "8", "--k", "10", "--rounds", "1"]
    report = main([*sizes, "--json", str(path)])
    assert json.loads(path.read_text()) == report
    assert report["results"]["TFRS BruteForce"]["recall"] == 1.0
    for name in ("InvertedFile", "InvertedFile int8"):
        assert report["results"][name]["held_out_recall"] >= 0.95
        assert report["results"][name]["recall"] >= 0.9
    assert all(row["p50_ms"] > 0 for row in report["results"].values())
    assert "| InvertedFile |" in capsys.readouterr().out
