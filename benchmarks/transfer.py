"""What it is worth to start from other domains: a shop and cosmetics after films, with no, few and more
choices.

    python -m benchmarks.transfer [--sources films small] [--targets shop beauty] [--shares 0 0.01 0.1]
        [--seeds 1 2 3] [--epochs 8] [--encoder subwords] [--json FILE]

A tower is pretrained on the sources from text alone (`films`: MovieLens 100K, `small`: MovieLens
latest-small). For each target (`shop`: a year of invoices, by time; `beauty`: Amazon Beauty, the last item),
and each share of its users of training and validation, chosen by seed, the towers are trained three times: as
they are by default, with the pretrained tower's layers untrained, and from the pretrained tower. Share 0
trains nothing: the first two are as they are built. Beside them stands the mean of the history's text
vectors, which knows no tower. The whole catalogue is ranked without what the user had met; NDCG@10 is the
mean over users of test and seeds. Intervals are of the difference to the default, by a bootstrap over users
of each user's mean over seeds. What is solved beside the towers is left out: it knows nothing of other
domains."""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
import tempfile
import time

import numpy as np
import tensorflow as tf

from benchmarks.pareto import means
from benchmarks.quality_data import (
    WORK,
    beauty_tables,
    latest_small_tables,
    movielens_tables,
    shop_tables,
)
from pipeline.config.pipeline_config import DataConfig, PipelineConfig
from pipeline.studies import ablation
from pipeline.studies.offline_figures import relevant_items
from tfrec_fusion import files
from tfrec_fusion.config import HISTORY_ENCODERS, RetrievalConfig, SplitConfig, TextConfig
from tfrec_fusion.features.preparing import Prepared
from tfrec_fusion.in_memory.pretraining import domain_of
from tfrec_fusion.metrics import accuracy, bootstrap
from tfrec_fusion.models.build import build_two_tower
from tfrec_fusion.training.pretraining import pretrain

LAST, BY_TIME = SplitConfig(method="leave_last_out"), SplitConfig(method="temporal")
DOMAINS = {
    "films": (movielens_tables, LAST, "movielens_last"),
    "small": (latest_small_tables, LAST, "latest_small_last"),
    "shop": (shop_tables, BY_TIME, "shop_time"),
    "beauty": (beauty_tables, LAST, "beauty_last"),
}
DEFAULT, SCRATCH, WARM, TEXT = "default", "same layers, untrained", "warm start", "text vectors alone"


def domain(name: str, options: argparse.Namespace) -> PipelineConfig:
    """A domain's tables, and how they are split and encoded; texts are encoded once for good."""
    tables, usual, folder = DOMAINS[name]
    described = tables()
    data = DataConfig(interactions=described.interactions, items=described.items)
    text, split = text_of(options), dataclasses.replace(usual, history_length=options.history)
    return PipelineConfig(folder, data, root=str(WORK), text=text, split=split)


def text_of(options: argparse.Namespace) -> TextConfig:
    """The text tower."""
    if options.encoder == "subwords":
        return TextConfig("subwords", dim=256, max_length=128)
    return TextConfig(options.encoder, max_length=128)


def settings(options: argparse.Namespace, epochs: int, seed: int = 1) -> RetrievalConfig:
    """The towers alone."""
    default = RetrievalConfig(collaborative_dim=0, negatives=options.negatives)
    tower = dataclasses.replace(default.tower, dim=options.dim, history_encoder=options.history_encoder)
    training = dataclasses.replace(default.training, epochs=epochs, seed=seed)
    return dataclasses.replace(default, tower=tower, training=training)


def variants(
    options: argparse.Namespace, folder: pathlib.Path, share: float, seed: int
) -> dict[str, RetrievalConfig]:
    """What is compared."""
    base = settings(options, options.epochs, seed)
    experts = dataclasses.replace(base, tower=dataclasses.replace(base.tower, text_adaptor="experts"))
    training = base.training if share else dataclasses.replace(base.training, epochs=0)
    warm = dataclasses.replace(base, warm_start=str(folder), training=training)
    return {DEFAULT: base, SCRATCH: experts, WARM: warm}


def part(data: Prepared, share: float, seed: int) -> Prepared:
    """The data of a share of training's users, one at least; validation is of the same users."""
    users = np.unique(data.train["user_index"])
    count = max(1, round(share * len(users)))
    chosen = np.random.default_rng(seed).permutation(users)[:count]
    kept = {}
    for split in ("train", "validation"):
        columns = getattr(data, split)
        rows = np.isin(columns["user_index"], chosen)
        kept[split] = {name: values[rows] for name, values in columns.items()}
    counts = np.bincount(kept["train"]["item_index"], minlength=len(data.catalogue)).astype(np.int64)
    catalogue = dataclasses.replace(data.catalogue, counts=counts)
    return dataclasses.replace(data, catalogue=catalogue, train=kept["train"], validation=kept["validation"])


def gains(data: Prepared, vectors: np.ndarray, queries: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """NDCG@10 of each user of test.

    Args:
        data: the target.
        vectors: float `[N + 1, dim]`, of items.
        queries: float `[users, dim]`, of the test rows `rows`.
        rows: int `[users]`, places among `relevant_items`.
    """
    _, seen, relevant = relevant_items(data)
    size = len(data.catalogue)
    ranked = accuracy.rank_scores(
        lambda some: queries[some] @ vectors.T,
        len(rows),
        size,
        [seen[row] for row in rows],
        k=10,
        allowed=np.arange(size) > 0,
    )
    return accuracy.ranking_metrics(ranked, [relevant[row] for row in rows], (10,))["ndcg@10"]


def asked(data: Prepared, options: argparse.Namespace) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Users of test with something to find, at most `--users` of them, and what a model takes to answer."""
    first, _, relevant = relevant_items(data)
    rows = np.flatnonzero([len(items) > 0 for items in relevant])
    rows = np.sort(np.random.default_rng(0).permutation(rows)[: options.users])
    return rows, {name: values[first[rows]] for name, values in data.test.items()}


def by_text(data: Prepared, batch: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The mean of the newest ten items' text vectors as a query, around the catalogue's mean, of length 1."""
    vectors = np.asarray(data.catalogue.text_vectors, np.float32)
    there = np.any(vectors != 0, axis=1)
    vectors = np.where(there[:, None], vectors - vectors[there].mean(0), 0)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    return vectors, vectors[batch["history"][:, -10:]].sum(1)


def judged(data: Prepared, config: PipelineConfig, share: float, options: argparse.Namespace) -> np.ndarray:
    """Trains one model, or takes it as it is built, and judges it."""
    rows, batch = asked(data, options)
    if share or config.retrieval.warm_start:
        model, _ = ablation.train(data, config, lambda logs: None)
    else:
        model = build_two_tower(config.retrieval, data.space, data.catalogue)
    vectors = model.candidate_embeddings()
    queries = [
        model.query_embeddings({name: tf.constant(values[at : at + 1024]) for name, values in batch.items()},
                               items=vectors).numpy()
        for at in range(0, len(rows), 1024)
    ]  # fmt: skip
    return gains(data, vectors.numpy(), np.concatenate(queries), rows)


def compare(name: str, folder: pathlib.Path, options: argparse.Namespace) -> dict:
    """The table of one target: share → row → NDCG@10, and the interval of the difference to the default."""
    config = domain(name, options)
    data = ablation.prepared(config)
    rows, batch = asked(data, options)
    text = gains(data, *by_text(data, batch), rows)
    sizes = f"{len(data.catalogue) - 1:,} items, {len(data.train['item_index']):,} choices in training"
    print(f"\n{name}: {sizes}, {len(rows):,} users asked", flush=True)
    print(f"{name}, {TEXT}: {text.mean():.4f}", flush=True)
    table: dict = {}
    for share in options.shares:
        found: dict[str, list[np.ndarray]] = {TEXT: [text]}
        for seed in options.seeds:
            some = part(data, share, seed) if share else data
            for row, retrieval in variants(options, folder, share, seed).items():
                clock, chosen = time.perf_counter(), dataclasses.replace(config, retrieval=retrieval)
                found.setdefault(row, []).append(judged(some, chosen, share, options))
                print(f"{name} {share:g}, seed {seed}, {row}: {found[row][-1].mean():.4f}"
                      f" ({time.perf_counter() - clock:.0f} s)", flush=True)  # fmt: skip
        default = np.mean(found[DEFAULT], axis=0)
        table[f"{share:g}"] = {
            row: {
                "ndcg@10": float(np.mean(values)),
                "interval": bootstrap.interval(means((np.mean(values, axis=0) - default)[:, None])[:, 0]),
            }
            for row, values in found.items()
        }
    return table


def show(targets: dict) -> None:
    """Prints the table."""
    rows = (TEXT, DEFAULT, SCRATCH, WARM)
    print(f"\n| target, share of users | {' | '.join(rows)} |\n|---|{'---:|' * len(rows)}")
    for name, table in targets.items():
        for share, row in table.items():
            cells = []
            for one in rows:
                low, high = row[one]["interval"]
                ends = "" if one == DEFAULT else f" [{low:+.4f}, {high:+.4f}]"
                cells.append(f"{row[one]['ndcg@10']:.4f}{ends}")
            print(f"| {name}, {float(share):.0%} | {' | '.join(cells)} |")


def parsed() -> argparse.Namespace:
    """The command line."""
    default = RetrievalConfig()
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sources", nargs="+", choices=DOMAINS, default=["films", "small"])
    parser.add_argument("--targets", nargs="+", choices=DOMAINS, default=["shop", "beauty"])
    parser.add_argument("--shares", type=float, nargs="+", default=[0.0, 0.01, 0.1], help="of users")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--epochs", type=int, default=default.training.epochs, help="in a target, at most")
    parser.add_argument("--pretrain-epochs", type=int, default=default.training.epochs)
    parser.add_argument("--users", type=int, default=1_000_000, help="of test, at most")
    parser.add_argument("--source-share", type=float, default=1.0, help="of the sources' users")
    parser.add_argument("--dim", type=int, default=default.tower.dim)
    parser.add_argument("--history", type=int, default=50, help="items of a history")
    parser.add_argument("--history-encoder", choices=HISTORY_ENCODERS, default=default.tower.history_encoder)
    parser.add_argument("--negatives", type=int, default=default.negatives)
    parser.add_argument("--encoder", default=TextConfig().encoder)
    parser.add_argument("--json", help="file that receives all figures")
    return parser.parse_args()


def main() -> None:
    options = parsed()
    results: dict = {"options": {name: value for name, value in vars(options).items()}}
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch, "tower")
        read = {name: ablation.prepared(domain(name, options)) for name in options.sources}
        sources = [(name, part(data, options.source_share, 0)) for name, data in read.items()]
        tower = pretrain(
            [domain_of(name, data) for name, data in sources],
            settings(options, options.pretrain_epochs),
            text_of(options),
            folder,
            progress=lambda logs: print({name: round(value, 4) for name, value in logs.items()}, flush=True),
        )
        print(tower.words, tower.figures)
        results["tower"] = dataclasses.asdict(tower)
        results["targets"] = {name: compare(name, folder, options) for name in options.targets}
    show(results["targets"])
    if options.json:
        files.write_json(options.json, results)


if __name__ == "__main__":
    main()
