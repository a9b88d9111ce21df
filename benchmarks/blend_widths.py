"""What widths chosen on validation are worth against fixed ones, of the solved parts alone.

    python -m benchmarks.blend_widths --protocols "shop, by time"

The towers are left untrained, so that what differs is what is solved beside them. The split, who is asked for
what and the figures are those of `benchmarks.quality`; the interval is that of a paired bootstrap over users.
"""

from __future__ import annotations

import argparse
import dataclasses
import time

import numpy as np

from benchmarks.quality import judge
from benchmarks.quality_data import PROTOCOLS, Protocol
from benchmarks.quality_models import batches, scores
from tfrec_fusion.config import RetrievalConfig
from tfrec_fusion.metrics import bootstrap
from tfrec_fusion.models.build import build_two_tower
from tfrec_fusion.models.hybrid.blend_fitting import HybridEstimator

FIGURES = ("ndcg@10", "recall@100", "cold ndcg@10", "cold recall@100")
VARIANTS = {"64 and 64": {"collaborative_dim": 64, "content_dim": 64}, "auto": {}}


def measure(protocol: Protocol, settings: dict) -> tuple[dict[str, np.ndarray], str]:
    """Each user's figures, and what was chosen in how many seconds."""
    data = protocol.data
    model = build_two_tower(dataclasses.replace(RetrievalConfig(), **settings), data.space, data.catalogue)
    start = time.perf_counter()
    HybridEstimator().fit(model, batches(data.train, 4096, False), batches(data.validation, 1024, False))
    seconds = time.perf_counter() - start
    blend = model.blend
    widths = (blend.factors_dim, blend.content_dim) if blend is not None else ()
    return judge(scores(model, protocol), protocol), f"{widths} in {seconds:.0f} s"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--protocols", nargs="+", default=list(PROTOCOLS), choices=list(PROTOCOLS))
    options = parser.parse_args()
    print("| data | widths | factors, content | " + " | ".join(FIGURES) + " |\n|---|---|---|" + "---|" * 4)
    for name in options.protocols:
        protocol, by_variant = PROTOCOLS[name](), {}
        for variant, settings in VARIANTS.items():
            by_variant[variant], chosen = measure(protocol, settings)
            shown = " | ".join(f"{np.nanmean(by_variant[variant][figure]):.4f}" for figure in FIGURES)
            print(f"| {name} | {variant} | {chosen} | {shown} |", flush=True)
        fixed, auto = (by_variant[variant]["ndcg@10"] for variant in VARIANTS)
        change = (auto - fixed)[~np.isnan(auto - fixed)]
        sums = np.stack([change, np.ones_like(change)], 1)
        draws = bootstrap.resample(bootstrap.group_sums(np.arange(len(change)), sums))
        low, high = bootstrap.interval(draws[:, 0] / draws[:, 1])
        print(f"{name}: ndcg@10 changes by {change.mean():.4f} (95 % interval {low:.4f} to {high:.4f})")


if __name__ == "__main__":
    main()
