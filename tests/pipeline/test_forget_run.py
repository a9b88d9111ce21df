"""A whole run, and somebody who is forgotten afterwards: no file but what the command names holds the id."""

import pathlib

import pytest

from pipeline.cli.main import main
from tests.pipeline.small_shop import write_shop
from tests.pipeline.test_history import texts

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

WHO = "zebra-7f3a@example.org"


def test_after_a_run_only_models_and_own_tables_hold_who_was_forgotten(tmp_path, capsys):
    config = write_shop(tmp_path, people=30)
    for name in ("orders", "customers"):
        path = tmp_path / f"{name}.csv"
        path.write_text("\n".join(path.read_text().replace("p3,", f"{WHO},").splitlines()) + "\n")
    yaml = tmp_path / "shop.yaml"
    yaml.write_text(
        f"name: shop\nroot: {config.root}\ndata:\n"
        "  interactions: {path: orders.csv, user: who, item: sku, time: at, context: [place]}\n"
        "  items: {path: items.csv, id: sku, title: name, categories: [shelf], numbers: [price]}\n"
        "  users: {path: customers.csv, id: who, numbers: [age]}\n"
        "text: none\nranking: none\n"
        "split: {history_length: 6, long_history: 8}\n"
        "retrieval:\n  tower: {dim: 8, history_encoder: mean}\n"
        "  training: {epochs: 1, batch_size: 32}\n"
        "evaluation: {baselines: {popularity: match}, min_users: 1000}\n"
    )
    assert main(["run", str(yaml)]) in (0, 2)

    def held():
        return {file for file, data in texts(config.home) if WHO.encode() in data}

    before = held()
    folders = {pathlib.Path(file).relative_to(config.home).parts[0] for file in before}
    assert {"artifacts", "serving"} <= folders and len(before) > 5, before
    capsys.readouterr()
    assert main(["forget", str(yaml), "--user", WHO]) == 0
    said = capsys.readouterr()
    named = [line.rpartition(": ")[2] for line in said.out.splitlines() if line.startswith("still holds")]
    assert named and all(pathlib.Path(path).is_dir() for path in named)
    assert not {file for file in held() if not any(file.startswith(path) for path in named)}
    assert "orders.csv: 8 rows name" in said.err and "customers.csv: 1 rows name" in said.err
