"""`tfrec ablate`, the gate, the library and the benchmarks give the same number for the same lists."""

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from tensorflow_model_analysis.metrics import metric_types

from benchmarks.quality import judge
from benchmarks.quality_data import Protocol
from pipeline.config.pipeline_config import load_config
from pipeline.evaluation.baseline_ranks import Baselines, TrainingPairs
from pipeline.evaluation.retrieval import RetrievalCombiner
from pipeline.studies.ablation import prepared
from pipeline.studies.offline_figures import figures, relevant_items
from tfrec_fusion.export.judging import ranked
from tfrec_fusion.metrics import accuracy
from tfrec_fusion.metrics.ranks import next_item_ranks, per_user_figures, tie_order


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """Two shelves of eight things; everybody buys one new thing three times in the test window, some another
    one once."""
    folder, rng, rows = tmp_path_factory.mktemp("repeats"), np.random.default_rng(0), []
    for user in range(60):
        items = [f"{'tea' if user % 2 else 'tool'}{number}" for number in rng.permutation(8)]
        rows += [(f"p{user}", item, 100 * step + user) for step, item in enumerate(items[:5])]
        rows.append((f"p{user}", items[5], 20_000 + user))
        rows += [(f"p{user}", items[6], 30_000 + 1_000 * step + user) for step in range(3)]
        if user % 3 == 0:
            rows.append((f"p{user}", items[7], 32_050 + user))
            rows.append((f"p{user}", items[0], 32_150 + user))  # seen before: cannot be recommended
    orders = pd.DataFrame(rows, columns=["who", "sku", "at"])
    orders.to_csv(folder / "orders.csv", index=False)
    pd.DataFrame({"sku": sorted(orders["sku"].unique())}).to_csv(folder / "items.csv", index=False)
    (folder / "shop.yaml").write_text(
        "name: shop\n"
        "data:\n  interactions: {path: orders.csv, user: who, item: sku, time: at}\n"
        "  items: {path: items.csv, id: sku}\n"
        "split: {method: temporal, validation: 0.1034, test: 0.3793}\ntext: none\nevaluation: {k: [3, 10]}\n"
    )
    config = load_config(str(folder / "shop.yaml"), [f"data.{name}.path={folder}/{file}.csv" for name, file in
                         (("interactions", "orders"), ("items", "items"))] + [f"root={folder}"])  # fmt: skip
    return config, prepared(config)


def evaluated(data, scores, cutoffs):
    """What the Evaluator makes of each test interaction, repeats and all."""
    test, size = data.test, len(scores[0])
    width = max(map(len, data.seen))
    seen = np.array([[*row, *[0] * (width - len(row))] for row in data.seen], np.int32)
    ties = tf.constant(tie_order(size))
    target = tf.constant(test["item_index"])
    rank, top = ranked(tf.constant(scores[data.users]), ties, target, tf.constant(seen))
    # As the signature does: what was seen, and what is not known, cannot be recommended.
    usable = (target > 0) & ~tf.reduce_any(seen == target[:, None], 1)
    rank = tf.where(usable, rank, np.nan).numpy()
    combiner = RetrievalCombiner(cutoffs, [])
    rows = combiner.pack(
        metric_types.StandardMetricInputs(
            {
                "features": {
                    "user_id": data.users.astype(str).astype(object),
                    "item_id": data.catalogue.ids[test["item_index"]],
                },
                "predictions": {
                    "rank": rank,
                    "top": top.numpy(),
                    "unexpected": np.ones(len(rank)),
                    "novelty": np.ones(len(rank)),
                    "diversity": np.ones(len(rank)),
                    "catalogue_size": np.full(len(rank), size - 1),
                },
            }
        )
    )
    result = combiner.extract_output(combiner.add_input(combiner.create_accumulator(), rows))
    return {key.name: value for key, value in result.items()}


@pytest.mark.parametrize("kind", ["random", "tied", "equal"])
def test_same_lists_same_figures(shop, kind):
    config, data = shop
    size, num_users = len(data.catalogue), int(data.users.max()) + 1
    rng = np.random.default_rng(1)
    scores = {
        "random": rng.normal(size=(num_users, size)),
        "tied": rng.integers(0, 3, (num_users, size)),
        "equal": np.zeros((num_users, size)),
    }[kind].astype(np.float32)
    by_row = lambda rows: scores[data.users[rows]]  # noqa: E731

    rows, seen, relevant = relevant_items(data)
    assert max(np.unique(data.users, return_counts=True)[1]) == 5
    assert max(map(len, relevant)) == 2
    options = {"k": 10, "allowed": np.arange(size) > 0}
    lists = accuracy.rank_scores(lambda part: by_row(rows[part]), num_users, size, seen, **options)
    library = accuracy.evaluate(lists, relevant, (3, 10))

    ablated = figures(by_row, data, config)
    protocol = Protocol(data, rows, seen, relevant, np.arange(size) > 0)
    benchmark = judge(lambda positions: by_row(rows[positions]), protocol)
    gate = evaluated(data, scores, [3, 10])
    for name in ("ndcg@3", "ndcg@10", "recall@10", "map@10"):
        assert gate[name] == pytest.approx(library[name], abs=1e-6), name
        assert 0 <= gate[name] <= 1
    assert ablated["ndcg@3"] == pytest.approx(library["ndcg@3"])
    assert ablated["recall@10"] == pytest.approx(library["recall@10"])
    assert np.nanmean(benchmark["ndcg@10"]) == pytest.approx(library["ndcg@10"])
    assert gate["held_out_items"] == sum(map(len, relevant))
    assert gate["example_count"] > gate["held_out_items"]
    for name in ("coverage", "gini"):
        assert gate[f"{name}@10"] == pytest.approx(beyond(lists, size)[name])


def beyond(lists, size):
    from tfrec_fusion.metrics import beyond_accuracy

    return {
        "coverage": beyond_accuracy.coverage(lists, size - 1),
        "gini": beyond_accuracy.gini(np.where(lists > 0, lists - 1, -1), size - 1),
    }


def test_a_baselines_ranks_are_those_of_its_lists(shop):
    """Popularity has many ties; what `tfrec ablate` calls popularity is what the gate compares with."""
    config, data = shop
    ids = [name.encode() for name in data.catalogue.ids]
    users = [str(user).encode() for user in data.train["user_index"]]
    chosen = np.array([ids[item] for item in data.train["item_index"]])
    pairs = TrainingPairs(
        [(np.array(users), chosen, np.ones(len(chosen), np.float32))],
        {name: row for row, name in enumerate(ids)},
    )
    fitted = Baselines(["popularity"], pairs, len(ids), None)
    user_ids = [str(user).encode() for user in data.test["user_index"]]
    ranks = fitted.ranks(user_ids, data.test["item_index"], data.seen)["popularity"]
    used = ~np.isnan(ranks)
    items = data.test["item_index"][used]
    gate = per_user_figures(data.users[used], ranks[used], [3, 10], items)
    counts = data.catalogue.counts.astype(np.float32)
    ablated = figures(lambda rows: np.tile(counts, (len(rows), 1)), data, config)
    assert gate["ndcg@3"].mean() == pytest.approx(ablated["ndcg@3"])
    assert gate["recall@10"].mean() == pytest.approx(ablated["recall@10"])


def test_the_rank_of_what_came_next_is_its_place_in_the_list(shop):
    """Early stopping and tuning judge single choices: by the same lists as everybody else."""
    _, data = shop
    size, rows = len(data.catalogue), data.validation
    scores = np.random.default_rng(2).integers(0, 3, (len(rows["item_index"]), size)).astype(np.float32)
    ranks = next_item_ranks(scores, rows["item_index"], rows["history"], tie_order(size))
    lists = accuracy.rank_scores(
        lambda part: scores[part],
        len(scores),
        size,
        list(rows["history"]),
        k=size,
        allowed=np.arange(size) > 0,
    )
    for rank, listed, item in zip(ranks, lists, rows["item_index"], strict=True):
        assert np.isnan(rank) if item not in listed else listed[int(rank) - 1] == item
