"""Report of the rows read, kept and rejected: counts by reason, the rejected rows, and the verdict on
them."""

import json
import logging
from collections.abc import Mapping, Sequence

import apache_beam as beam
import tensorflow as tf

from tfrec_fusion.config import ConfigError
from tfrec_fusion.datasets.events import NO_CHOICE
from tfrec_fusion.datasets.times import SECOND


def write_report(
    pipeline: beam.Pipeline,
    rejects: list,
    kept: dict,
    cutoffs: beam.pvalue.AsSingleton | None,
    folder: str,
    used: Mapping[str, int] | None = None,
) -> None:
    """Writes `report.json` and the rejected rows.

    Args:
        pipeline: the job.
        rejects: collections of (table, reason, row).
        kept: (table, split) → its Examples.
        cutoffs: a singleton side input, the two moments that divide by time; or None.
        folder: receives both.
        used: rows that were used of tables which become no Examples.
    """
    rejected = rejects | "all rejects" >> beam.Flatten()
    _ = (
        rejected
        | "as lines"
        >> beam.Map(
            lambda reject: json.dumps(
                dict(zip(("table", "reason", "row"), reject, strict=True)), ensure_ascii=False
            )
        )
        | "write rejects" >> beam.io.WriteToText(f"{folder}/rejects", file_name_suffix=".jsonl", num_shards=1)
    )
    by_reason = (
        rejected
        | "reasons" >> beam.Map(lambda reject: reject[:2])
        | "by reason" >> beam.combiners.Count.PerElement()
    )
    sizes = []
    for (name, part), examples in kept.items():
        size = examples | f"size {name} {part}" >> beam.combiners.Count.Globally()
        sizes.append(
            size | f"name {name} {part}" >> beam.Map(lambda count, key: (key, count), f"{name}/{part}")
        )
    _ = (
        pipeline
        | "report" >> beam.Create([None], reshuffle=False)
        | "make report"
        >> beam.Map(
            make_report,
            beam.pvalue.AsList(by_reason),
            beam.pvalue.AsDict(sizes | "all sizes" >> beam.Flatten()),
            cutoffs,
            dict(used or {}),
        )
        | "write report" >> beam.io.WriteToText(f"{folder}/report.json", shard_name_template="", num_shards=1)
    )


def make_report(
    _: None,
    by_reason: list,
    sizes: dict[str, int],
    cutoffs: tuple[int, int] | None,
    used: Mapping[str, int] | None = None,
) -> str:
    """The counts as JSON: rows read, kept and rejected by table, rejects by reason, sizes of the splits."""
    rejected = [
        {"table": table, "reason": reason, "rows": rows} for (table, reason), rows in sorted(by_reason)
    ]
    kept: dict[str, int] = dict(used or {})
    for name, rows in sizes.items():
        table = name.split("/")[0]
        kept[table] = kept.get(table, 0) + rows
    tables = {}
    for name, rows in kept.items():
        out = {False: 0, True: 0}
        for entry in rejected:
            if entry["table"] == name:
                out[entry["reason"].startswith(NO_CHOICE)] += entry["rows"]
        tables[name] = {"read": rows + sum(out.values()), "kept": rows, "rejected": out[False]}
        if out[True]:
            tables[name]["left_out"] = out[True]  # rows that the configuration counts 0
    report = {"tables": tables, "rejected": rejected, "splits": sizes}
    if cutoffs:
        report["cutoffs"] = {"validation_from": _seconds(cutoffs[0]), "test_from": _seconds(cutoffs[1])}
    return json.dumps(report, indent=2, sort_keys=True)


def _seconds(time: int) -> int | float:
    """Nanoseconds as seconds, whole where they are."""
    return time // SECOND if time % SECOND == 0 else time / SECOND


def add_notes(folder: str, notes: Sequence[str]) -> None:
    """Adds how the tables were read to `report.json`, where the configuration left that open."""
    report = read_report(folder) | {"read_as": list(notes)}
    with tf.io.gfile.GFile(f"{folder}/report.json", "w") as stream:
        json.dump(report, stream, indent=2, sort_keys=True, ensure_ascii=False)
    for note in notes:
        logging.info("Read: %s", note)


def check_report(folder: str, max_share: float, reject_folder: str) -> None:
    """Stops the run where too much was rejected.

    Args:
        folder: holds `report.json` and the rejects.
        max_share: the share of a table's rows that may be rejected.
        reject_folder: receives the rejects where the run stops: TFX removes what a failed component wrote.

    Raises:
        ConfigError: naming the table, the reasons and the file with the rejected rows.
    """
    report = read_report(folder)
    for name, counts in report["tables"].items():
        share = counts["rejected"] / max(1, counts["read"])
        if share > max_share or (counts["read"] and not counts["kept"]):
            kept_file = f"{reject_folder}/rejects.jsonl"
            tf.io.gfile.makedirs(reject_folder)
            tf.io.gfile.copy(tf.io.gfile.glob(f"{folder}/rejects-*")[0], kept_file, overwrite=True)
            reasons = ", ".join(
                f"{entry['rows']} {entry['reason']}"
                for entry in report["rejected"]
                if entry["table"] == name and not entry["reason"].startswith(NO_CHOICE)
            )
            raise ConfigError(
                f"{counts['rejected']} of {counts['read']} rows of the {name} table ({share:.1%}) cannot be"
                f" used: {reasons}. `data.max_reject_share` allows {max_share:.1%}. The rows are in"
                f" {kept_file}: mend them, or the columns named in the configuration, or raise the share."
            )


def read_report(folder: str) -> dict:
    """What `report.json` holds."""
    with tf.io.gfile.GFile(f"{folder}/report.json") as stream:
        return json.load(stream)
