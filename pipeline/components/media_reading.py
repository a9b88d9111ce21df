"""Vectors of items' pictures and sounds on their way into Examples: encoded once, kept in a file that workers
read."""

import io
import json
from collections.abc import Iterator

import apache_beam as beam
import numpy as np
import tensorflow as tf

from pipeline.components.graph_reading import read_archive
from tfrec_fusion.datasets.digests import media_references
from tfrec_fusion.datasets.media_files import short
from tfrec_fusion.datasets.tables import Items
from tfrec_fusion.features.columns import media_features
from tfrec_fusion.features.media_vectors import check_any, encode_media


class MediaFile:
    """Vectors of the files of one column.

    Args:
        path: of the vectors.
        name: the feature, whose values in rows are what files are called.
        table: what the column is called in reports.
        used: how many files have a vector.
        rejects: (table, reason, row) of those that cannot be used.
    """

    def __init__(self, path: str, name: str, table: str, used: int, rejects: list[tuple[str, str, str]]):
        self.path, self.name, self.table, self.used, self.rejects = path, name, table, used, rejects

    def of(self, reference: str | None) -> list[float] | None:
        """A file's vector; None where it has none."""
        rows, vectors = read_archive(self.path)
        row = None if reference is None else rows.get(reference)
        return None if row is None else vectors[row].tolist()


def write_media(items: Items, folder: str, cache: str | None) -> list[MediaFile]:
    """Encodes the files that the items' table names, and writes a file of vectors for each column.

    Args:
        items: the table, settled.
        folder: receives the files.
        cache: keeps vectors between runs; None or empty keeps none.

    Raises:
        ConfigError: if an encoder cannot be had, or no file of a column can be used.
    """
    written = []
    for number, (feature, (kind, column)) in enumerate(
        zip(media_features(items), items.media_columns, strict=True)
    ):
        found = encode_media(kind, media_references(items, column), items.media, cache or None)
        check_any(found, column)
        path, table = f"{folder}/media_{number}.npz", f"items.{column}"
        keys = np.array([key.encode("utf-8", "surrogateescape") for key in found.keys])
        archive = io.BytesIO()  # a file of TensorFlow's cannot be written and read at once
        np.savez(archive, keys=keys, vectors=found.vectors)
        with tf.io.gfile.GFile(path, "wb") as stream:
            stream.write(archive.getvalue())
        rejects = [
            (table, reason, json.dumps({"file": short(name), "seen": seen}, ensure_ascii=False))
            for reason, name, seen in found.rejects
        ]
        with tf.io.gfile.GFile(f"{folder}/media_{number}.json", "w") as stream:
            stream.write(json.dumps({"column": column, **found.report}, indent=2))
        written.append(MediaFile(path, feature.name, table, len(found.keys), rejects))
    return written


class AddMedia(beam.DoFn):
    """(item, row) → the same with vectors in place of what files are called."""

    def __init__(self, media: list[MediaFile]):
        # Workers have no use for what was rejected.
        self.media = [MediaFile(one.path, one.name, one.table, one.used, []) for one in media]

    def process(self, entry: tuple[str, dict]) -> Iterator[tuple[str, dict]]:
        item, row = entry
        yield item, {**row, **{one.name: one.of(row.get(one.name)) for one in self.media}}
