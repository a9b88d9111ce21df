"""Pictures on their way through the pipeline: Examples hold the vectors that a fit in memory reads, and the
checks before a run name faults."""

import dataclasses
import json
import shutil

import numpy as np
import pandas as pd
import pytest
import yaml
from tfx.types import standard_artifacts

from benchmarks.planted_media import write_file
from pipeline.components import items_example_gen
from pipeline.components.artifacts import DataReport
from pipeline.config.pipeline_config import load_config, tables_of
from pipeline.definition.index_update import check_encoders
from pipeline.definition.reading import example_gen
from pipeline.onboarding.media_checks import check_media
from tests.pipeline.test_example_gen import execute, read
from tfrec_fusion.config import ConfigError, SplitConfig
from tfrec_fusion.datasets.digests import items_digest, source_digest
from tfrec_fusion.datasets.media import Media
from tfrec_fusion.datasets.tables import Interactions, Items, Tables
from tfrec_fusion.features.columns import media_features
from tfrec_fusion.features.media_vectors import encode_media
from tfrec_fusion.features.preparing import prepare


@pytest.fixture
def folder(tmp_path):
    """Five items: three with a picture, one whose file is no picture, and one without; sounds of two."""
    rows = [(f"u{user}", f"i{(user + step) % 3}", 10 * step + user) for user in range(3) for step in range(4)]
    pd.DataFrame(rows, columns=["user", "item", "time"]).to_csv(tmp_path / "choices.csv", index=False)
    pictures = ["0.png", "1.png", " 2.png ", "page.png", None]
    items = {
        "item": [f"i{number}" for number in range(5)],
        "picture": pictures,
        "clip": ["0.wav"] * 2 + [None] * 3,
    }
    pd.DataFrame(items).to_csv(tmp_path / "items.csv", index=False)
    for number in range(3):
        write_file(tmp_path / f"{number}.png", "images", number, np.random.default_rng(number))
    (tmp_path / "page.png").write_text("<html>")
    write_file(tmp_path / "0.wav", "audio", 1, np.random.default_rng(0))
    return tmp_path


@pytest.fixture
def tables(folder):
    media = Media(folder=str(folder), image_encoder="patterns", dim=16)
    return Tables(
        Interactions(str(folder / "choices.csv"), "user", "item", "time"),
        Items(str(folder / "items.csv"), "item", images=("picture",), audio=("clip",), media=media),
    )


def test_examples_hold_the_vectors_that_a_fit_in_memory_makes(tables, tmp_path):
    report, examples = execute(tmp_path, tables, SplitConfig(), share=0.5)
    memory = prepare(tables, SplitConfig(), max_reject_share=0.5)
    for feature in media_features(tables.items):
        found = {row["item_id"][0]: np.array(row.get(feature.name, [0.0] * 16), np.float32)
                 for row in examples("items")}  # fmt: skip
        expected = memory.catalogue.features[feature.name]
        for row, item in enumerate(memory.catalogue.ids[1:], 1):
            np.testing.assert_allclose(found[item], expected[row], atol=1e-6)
        missing = {item for item, vector in found.items() if not vector.any()}
        assert (
            missing
            == {"images": {"i3", "i4"}, "audio": {"i2", "i3", "i4"}}[
                "images" if feature.modality == "image" else "audio"
            ]
        )
    assert [(one.shown, one.modality, one.size) for one in memory.space.item_features] == [
        ("picture", "image", 16),
        ("clip", "sound", 16),
    ]
    assert report["tables"]["items.picture"] == {"kept": 3, "read": 4, "rejected": 1}
    reason = "no picture (JPEG, PNG, GIF, BMP, WEBP)"
    assert {"table": "items.picture", "reason": reason, "rows": 1} in report["rejected"]
    assert memory.rejects["items.picture", reason] == 1
    with pytest.raises(
        ConfigError, match=r"items.picture table's rows may be unusable.*1 of 4: 1 no picture"
    ):
        prepare(tables, SplitConfig(), max_reject_share=0.1)


def test_items_alone_are_encoded_from_what_was_kept(tables, tmp_path):
    cache = tmp_path / "cache"
    prepare(tables, SplitConfig(), max_reject_share=0.5, vectors=str(cache))
    outputs = {"items": [standard_artifacts.Examples()], "report": [DataReport()]}
    for name, (artifact,) in outputs.items():
        artifact.uri = str(tmp_path / "new" / name)
    settings = {"table": json.dumps(dataclasses.asdict(tables.items)), "item_ids": "as_written"}
    settings |= {"reject_folder": str(tmp_path / "rejected"), "media_cache": str(cache)}
    items_example_gen.Executor().Do({}, outputs, {**settings, "max_reject_share": 0.5})
    report = json.loads((tmp_path / "new" / "report" / "media_0.json").read_text())
    assert (report["column"], report["files"], report["encoded"]) == ("picture", 4, 0)
    rows = read(tmp_path / "new" / "items", "all")
    name = media_features(tables.items)[0].name
    assert sum(name in row for row in rows) == 3


def test_an_encoder_that_changed_renews_no_index(tables, tmp_path):
    digest = encode_media("images", [], tables.items.media).report["encoder_digest"]
    (tmp_path / "media_0.json").write_text(json.dumps({"encoder_digest": digest}))
    check_encoders(tables.items, str(tmp_path))
    check_encoders(tables.items, None)
    (tmp_path / "media_0.json").write_text(json.dumps({"encoder_digest": "0" * 64}))
    with pytest.raises(ConfigError, match=r"encoder of 'picture' must be .*\(digest 000000000000\)"):
        check_encoders(tables.items, str(tmp_path))


def test_a_changed_picture_changes_the_digest_of_the_source(tables, folder):
    before, alone = source_digest(tables), items_digest(tables.items)
    assert source_digest(tables) == before
    write_file(folder / "0.png", "images", 3, np.random.default_rng(7))
    assert source_digest(tables) != before
    assert items_digest(tables.items) != alone
    without = dataclasses.replace(tables, items=Items(tables.items.path, "item"))
    (folder / "1.png").unlink()
    assert source_digest(without) == source_digest(without)


def config_of(place, **media):
    items = {"path": "items.csv", "id": "item", "images": ["picture"], "audio": ["clip"], "media": media}
    choices = {"path": "choices.csv", "user": "user", "item": "item", "time": "time"}
    values = {"name": "shop", "data": {"interactions": choices, "items": items}, "text": "none"}
    (place / "shop.yaml").write_text(yaml.safe_dump(values))
    return load_config(str(place / "shop.yaml"))


def test_paths_start_at_the_table_or_the_named_folder(folder):
    config = config_of(folder)
    assert tables_of(config).items.media.folder == str(folder)
    assert tables_of(config).items.media.image_encoder == "efficientnet"
    config = config_of(folder, folder="pictures", image_encoder="models/own.keras")
    assert config.data.items.media.folder == str(folder / "pictures")
    assert config.data.items.media.image_encoder == str(folder / "models" / "own.keras")
    with pytest.raises(ConfigError, match=r"`data.items.media.dim` must be"):
        config_of(folder, dim=0)


def findings(folder, share=0.05, **media):
    config = config_of(folder, **media)
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, max_reject_share=share))
    return [(one.state, one.about, one.seen) for one in check_media(config.data.items, config)]


def test_validate_says_what_cannot_be_used(folder):
    wrong, sounds = findings(folder)
    assert wrong[:2] == ("wrong", "items.picture")
    assert "1 no picture (JPEG, PNG, GIF, BMP, WEBP) (such as 'page.png'" in wrong[2]
    assert sounds == ("ok", "items.clip", "1 files; all that lie here can be read")
    assert findings(folder, 0.5)[0][0] == "note"
    shutil.copy(folder / "items.csv", folder / "kept.csv")
    (folder / "items.csv").write_text("item,picture,clip\ni0,page.png,0.wav\n")
    assert findings(folder, 1.0)[0][0] == "wrong"  # a run stops, whatever the share
    shutil.move(folder / "kept.csv", folder / "items.csv")
    (fault, *_) = findings(folder, 0.5, image_encoder="own.keras")
    assert fault[:2] == ("wrong", "items.images")
    assert "which is not there" in fault[2]
    shutil.move(folder / "0.wav", folder / "page.png")
    (folder / "items.csv").write_text("item,picture,clip\ni0,https://example.org/a.png,\ni1,3.png,\n")
    pictures, sounds = findings(folder)
    assert "1 on the web" in pictures[2]
    assert "no such file" in pictures[2]
    assert sounds[2].startswith("no item has a file")


def test_vertex_is_refused(tables):
    class OnVertex:
        vertex = object()

    OnVertex.tables = tables
    with pytest.raises(
        ConfigError, match=r"read on this machine. Received: 'picture' for a run on Vertex AI"
    ):
        example_gen(None, OnVertex)
