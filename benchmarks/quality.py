"""Benchmark of the defaults' recommendations beside its peers, on the same split in the same run.

    python -m benchmarks.quality [--seeds 1 2 3] [--protocols …] [--peers …] [--json FILE] [--plot FILE]

The whole catalogue is ranked, never a sample of it. What a user met in training and validation is left out,
ties are broken by a fixed shuffle, every choice is made on validation. Peers are tuned over the grids in
`quality_peers`; ours are the defaults of `tfrec_fusion.config` as they are, and nothing is tuned. Users whom
training never saw are known to every model by what they met before the test. The interval is that of a paired
bootstrap over users, seeds averaged, of the difference to the peer that is best by the same figure.
RecBole's SASRec and LightGCN take part where `make peers` made their environment; where their time was too
short they are marked "not converged", and nothing is claimed against them.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import platform
import resource
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from benchmarks import quality_ratings
from benchmarks.quality_data import NEEDS, PROTOCOLS, Protocol
from benchmarks.quality_models import FUSED, VARIANTS, Answer, answers
from benchmarks.quality_peers import PEERS, PEERS_PYTHON, RECBOLE, Peer, RecBole, fit_peer, fit_recbole
from tfrec_fusion.metrics import accuracy, bootstrap

# Cold items were never met in training, rare ones at most twice; of new users nothing is known; light ones
# met at most 20 items. With repeats: items met before are not left out.
FIGURES = (
    "ndcg@10",
    "recall@10",
    "recall@100",
    "ndcg@10 with repeats",
    "recall@10 with repeats",
    "rare recall@10",
    "cold ndcg@10",
    "cold recall@100",
    "light ndcg@10",
    "new ndcg@10",
)
LIGHT, RARE = 20, 2


def judge(scores: Callable[[np.ndarray], np.ndarray], protocol: Protocol) -> dict[str, np.ndarray]:
    """Each user's figures, float `[users]`; NaN where a user chose nothing that counts.

    Args:
        scores: places of users → float `[places, N + 1]`.
        protocol: the question.
    """
    size = len(protocol.data.catalogue)

    def ranked_without(seen: list[np.ndarray] | None) -> np.ndarray:
        return accuracy.rank_scores(
            scores, len(protocol.rows), size, seen, k=100, allowed=protocol.allowed, batch_size=256
        )

    ranked = ranked_without(protocol.seen)
    figures = accuracy.ranking_metrics(ranked, protocol.relevant, (10, 100))
    repeats = {name: np.full(len(ranked), np.nan) for name in ("ndcg@10", "recall@10")}
    if protocol.also_repeats:
        repeats = accuracy.ranking_metrics(ranked_without(None), protocol.relevant, (10,))
    figures |= {f"{name} with repeats": repeats[name] for name in ("ndcg@10", "recall@10")}
    rare = protocol.data.catalogue.counts <= RARE
    of_rare = [items[rare[items]] for items in protocol.relevant]
    figures["rare recall@10"] = accuracy.ranking_metrics(ranked, of_rare, (10,))["recall@10"]
    cold = protocol.data.catalogue.counts == 0
    of_cold = [items[cold[items]] for items in protocol.relevant]
    figures |= {
        f"cold {name}": values
        for name, values in accuracy.ranking_metrics(ranked, of_cold, (10, 100)).items()
    }
    num_seen = np.array([len(items) for items in protocol.seen])
    figures["light ndcg@10"] = np.where((num_seen > 0) & (num_seen <= LIGHT), figures["ndcg@10"], np.nan)
    figures["new ndcg@10"] = np.where(num_seen == 0, figures["ndcg@10"], np.nan)
    return {name: figures[name] for name in FIGURES}


def measure(
    where: str,
    peers: Sequence[str],
    variants: tuple[str, ...],
    seeds: list[int],
    recbole: RecBole,
    note: Callable[[str], None],
    epochs: int | None = None,
) -> dict[str, list[dict]]:
    """Model → for each seed each user's figures, its settings, seconds and megabytes; `epochs` at most of
    ours, None for the default."""
    protocol = PROTOCOLS[where]()
    results: dict[str, list[dict]] = {}

    def keep(name: str, answer: Peer | Answer, of: str) -> None:
        row = judge(answer.scores, protocol)
        details = {"seconds": answer.seconds, "megabytes": answer.megabytes, "settings": answer.settings}
        results.setdefault(name, []).append(row | details)
        note(f"{name}, {of} {answer.settings}: ndcg@10 {np.nanmean(row['ndcg@10']):.4f}")

    for name in peers:
        peer = fit_recbole(name, protocol, where, recbole) if name in RECBOLE else fit_peer(name, protocol)
        keep(name, peer, "tuned")
    for seed in seeds:
        for name, answer in answers(protocol, variants, seed, epochs).items():
            keep(name, answer, f"seed {seed}")
    return {name: results[name] for name in (*peers, *VARIANTS) if name in results}


def summary(results: dict[str, list[dict]]) -> dict:
    """Means over users and seeds, standard errors over seeds, and the interval of the difference to the best
    peer."""
    table = {}
    for name, runs in results.items():
        row: dict = {
            "seconds": float(np.mean([run["seconds"] for run in runs])),
            "megabytes": float(np.max([run["megabytes"] for run in runs])),
            "settings": runs[0]["settings"],
        }
        for figure in FIGURES:
            means = [
                float(np.nanmean(run[figure])) if np.isfinite(run[figure]).any() else None for run in runs
            ]
            row[figure] = None if means[0] is None else float(np.mean(means))
            if len(means) > 1 and means[0] is not None:
                row[f"{figure} error"] = float(np.std(means, ddof=1) / np.sqrt(len(means)))
        table[name] = row
    peers = [name for name in results if name not in VARIANTS]
    if not peers or FUSED not in results:
        return {"users": len(next(iter(results.values()))[0]["ndcg@10"]), "models": table}
    best = max(peers, key=lambda name: table[name]["ndcg@10"])
    ours = np.mean([run["ndcg@10"] for run in results[FUSED]], 0)
    difference = ours - results[best][0]["ndcg@10"]
    users = np.flatnonzero(np.isfinite(difference))
    sums = np.stack([difference[users], np.ones(len(users))], 1)
    draws = bootstrap.resample(bootstrap.group_sums(np.random.default_rng(0).permutation(len(users)), sums))
    low, high = bootstrap.interval(draws[:, 0] / draws[:, 1])
    comparison = {"best peer": best, "difference": float(difference[users].mean()), "interval": [low, high]}
    return {"users": len(users), "models": table, "ndcg@10 against the best peer": comparison}


def show(name: str, result: dict) -> None:
    """The table of one protocol."""
    print(f"\n{name}: {result['users']} users")
    print(
        "| model | "
        + " | ".join(FIGURES)
        + " | seconds | MB | settings |\n|---|"
        + "---|" * (len(FIGURES) + 3)
    )
    for model, row in result["models"].items():
        cells = []
        for figure in FIGURES:
            error = f" ± {row[f'{figure} error']:.4f}" if f"{figure} error" in row else ""
            cells.append("" if row[figure] is None else f"{row[figure]:.4f}{error}")
        print(
            f"| {model} | {' | '.join(cells)} | {row['seconds']:.0f} | {row['megabytes']:.0f} |"
            f" {row['settings']} |"
        )
    versus = result.get("ndcg@10 against the best peer")
    if versus is None:
        return
    low, high = versus["interval"]
    print(
        f"{FUSED} − {versus['best peer']}: {versus['difference']:+.4f} [{low:+.4f}, {high:+.4f}]",
        flush=True,
    )


def plot(results: dict[str, dict], path: str) -> None:
    """NDCG@10 of every model, or its RMSE, a panel a protocol."""
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, len(results), figsize=(4.2 * len(results), 3.4), squeeze=False)
    first = list(next(iter(results.values()))["models"])
    for panel, (name, result) in zip(panels[0], results.items(), strict=True):
        models = list(result["models"])
        of = "rmse" if name == quality_ratings.NAME else "ndcg@10"
        ours = quality_ratings.VARIANTS if name == quality_ratings.NAME else VARIANTS
        values = [result["models"][model][of] for model in models]
        errors = [result["models"][model].get(f"{of} error", 0.0) for model in models]
        colours = ["#b8bec8" if model not in ours else "#3b6fb6" for model in models]
        panel.barh(models, values, xerr=errors, color=colours)
        panel.invert_yaxis()
        panel.set_title(f"{name} ({of.upper()})", fontsize=9)
        panel.tick_params(labelsize=8)
        if panel is not panels[0][0] and models == first:
            panel.set_yticklabels([])
        panel.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    protocols = [*PROTOCOLS, quality_ratings.NAME]
    parser.add_argument("--protocols", nargs="+", choices=protocols, default=protocols)
    parser.add_argument("--json", help="file that receives all figures")
    parser.add_argument("--plot", help="PNG file that receives a picture of NDCG@10")
    parser.add_argument("--recbole-minutes", type=float, default=20.0, help="for each of RecBole's models")
    parser.add_argument("--recbole-device", default="cpu", help="or cuda")
    parser.add_argument(
        "--recbole-folder", help="keeps their questions and answers; what is answered is taken"
    )
    known = (*PEERS, *RECBOLE)
    default = known if PEERS_PYTHON.exists() else PEERS
    parser.add_argument("--peers", nargs="+", choices=known, default=list(default), help="at least one")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS), help="of ours")
    parser.add_argument("--epochs", type=int, help="of ours, fewer than by default: a look, not a result")
    options = parser.parse_args()
    results = {}
    for name in options.protocols:
        missing = [path for start, path in NEEDS.items() if name.startswith(start) and not path.exists()]
        if missing:
            print(f"{name} is left out: there is no {missing[0]}")
            continue
        if name == quality_ratings.NAME:
            results[name] = quality_ratings.measure(options.seeds)
            quality_ratings.show(results[name])
        else:
            result = measure(
                name,
                options.peers,
                tuple(options.variants),
                options.seeds,
                RecBole(options.recbole_minutes, options.recbole_device, options.recbole_folder),
                lambda text, name=name: print(f"  {name}: {text}", flush=True),
                options.epochs,
            )
            results[name] = summary(result)
            show(name, results[name])
        if options.json:
            pathlib.Path(options.json).write_text(json.dumps(results, indent=2), encoding="utf-8")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"\nmean ± standard error over seeds {options.seeds}; {platform.processor() or platform.machine()},"
        f" TensorFlow {tf.__version__}, peak memory {peak:.1f} GB"
    )
    if options.plot and results:
        plot(results, options.plot)


if __name__ == "__main__":
    main()
