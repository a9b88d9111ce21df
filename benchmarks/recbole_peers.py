"""RecBole's SASRec and LightGCN on a protocol of `benchmarks.quality`, in an environment of their own.

    .venv-peers/bin/python benchmarks/recbole_peers.py MODEL QUESTION.npz ANSWER.npz --minutes 20

`quality_peers` writes the question and reads the answer. The models are RecBole's classes, tuned over the
grids here and trained with Adam until validation has not risen for `PATIENCE` evaluations. LightGCN learns
from batches of pairs as in RecBole. SASRec learns as in its paper (Kang and McAuley, 2018): a sequence
teaches the next item at each of its places at once, which RecBole spreads over as many rows as there are
places, each computed from its start; losses are the same, at a fiftieth of the work, so that two cores
suffice. The loss is softmax over the catalogue, which makes SASRec stronger than its paper's (Klenitskiy and
Vasilev, 2023, doi:10.1145/3604915.3610644). Whatever the time does not suffice for is marked so: `converged`
is then false, of the setting that was chosen.
"""

from __future__ import annotations

import argparse
import pathlib
import resource
import sys
import time
import types

import numpy as np
import scipy.sparse
import torch

if not hasattr(np, "float_"):  # RecBole 1.2 was written for NumPy 1.
    np.float_, np.complex_, np.unicode_ = np.float64, np.complex128, np.str_
# RecBole reads scipy.sparse's dictionaries in a way that newer releases took away.
if not hasattr(scipy.sparse.dok_matrix, "_update"):
    scipy.sparse.dok_matrix._update = lambda self, values: [
        self.__setitem__(key, value) for key, value in values.items()
    ]

from recbole.model.general_recommender.lightgcn import LightGCN
from recbole.model.sequential_recommender.sasrec import SASRec
from recbole_question import digest  # beside this file

# The library is not installed in this environment; its metrics need NumPy alone.
sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent))
from tfrec_fusion.metrics.ranks import gain as rank_gain
from tfrec_fusion.metrics.ranks import mean_of_known, next_item_ranks, tie_order

# Evaluations without a rise; one is every `EVERY` passes over the data.
PATIENCE, EVERY = 6, {"SASRec": 5, "LightGCN": 5}
GRIDS = {
    "SASRec": [{"dropout": rate} for rate in (0.2, 0.5)],
    "LightGCN": [{"learning_rate": rate} for rate in (0.001, 0.005)],
}
NAMES = {
    "USER_ID_FIELD": "user",
    "ITEM_ID_FIELD": "item",
    "LIST_SUFFIX": "_list",
    "ITEM_LIST_LENGTH_FIELD": "length",
    "NEG_PREFIX": "neg_",
}


class Columns:
    """What both models read, on the device where they are."""

    device: torch.device

    def _tensors(self, **columns):
        return {
            name: torch.from_numpy(np.asarray(values, np.int64)).to(self.device)
            for name, values in columns.items()
        }


class WholeSequences(SASRec):
    """SASRec that answers at every place of its sequences while it learns."""

    def gather_indexes(self, output, gather_index):
        return output if self.training else super().gather_indexes(output, gather_index)


class Sequences(Columns):
    """SASRec: the next item after each place of a history of training."""

    batch = 128

    def __init__(self, question, device, dropout):
        self.device = device
        self.rows, self.width = question, question["history"].shape[1]
        settings = {"n_layers": 2, "n_heads": 2, "hidden_size": 64, "inner_size": 256}
        settings |= {"hidden_dropout_prob": dropout, "attn_dropout_prob": dropout, "hidden_act": "gelu"}
        settings |= {"layer_norm_eps": 1e-12, "initializer_range": 0.02, "loss_type": "CE"}
        data = types.SimpleNamespace(num=lambda field: int(question["num_items"]))
        self.model = WholeSequences(
            NAMES | settings | {"MAX_ITEM_LIST_LENGTH": self.width, "device": device}, data
        )
        self.model.to(device)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-3)
        known = np.flatnonzero((question["history"] > 0).any(1))
        # Within a user training's rows stand in the order of time.
        self.train = known[np.argsort(question["user"][known], kind="stable")]

    def order(self, rng):
        """Rows whose histories together hold every place about once; where they begin is drawn anew."""
        users = self.rows["user"][self.train]
        _, first, counts = np.unique(users, return_index=True, return_counts=True)
        position = np.arange(len(users)) - np.repeat(first, counts)
        left = np.repeat(counts, counts) - 1 - position
        start = np.repeat(rng.integers(0, self.width, len(counts)), counts)
        return rng.permutation(self.train[((left - start) % self.width == 0) | (left == 0)])

    def loss(self, rows, rng):
        history, item = self.rows["history"][rows], self.rows["item"][rows]
        history = self._to_the_left(history)
        target = np.concatenate([history[:, 1:], np.zeros((len(history), 1), history.dtype)], 1)
        target[np.arange(len(history)), (history > 0).sum(1) - 1] = item
        columns = self._tensors(item_list=history, length=(history > 0).sum(1), target=target)
        answers = self.model(columns["item_list"], columns["length"])
        taught = columns["target"] > 0
        logits = answers[taught] @ self.model.item_embedding.weight.T
        return torch.nn.functional.cross_entropy(logits, columns["target"][taught])

    def scores(self, users, histories):
        histories = histories[:, -self.width :]
        empty = ~(histories > 0).any(1)
        histories_left = self._to_the_left(np.where(empty[:, None], 1, histories))
        columns = self._tensors(item_list=histories_left, length=(histories_left > 0).sum(1))
        result = self.model.full_sort_predict(columns).cpu().numpy()
        result[empty] = 0
        return result

    def _to_the_left(self, histories):
        # Ours stand at the right.
        length = (histories > 0).sum(1)
        position = (np.arange(histories.shape[1]) - length[:, None]) % histories.shape[1]
        return np.take_along_axis(histories, position, 1)


class Graph(Columns):
    """LightGCN: who met what."""

    batch = 2048

    def __init__(self, question, device, learning_rate):
        self.device = device
        self.rows = question
        ones = np.ones(len(question["item"]), np.float32)
        shape = (int(question["num_users"]), int(question["num_items"]))
        self.met = scipy.sparse.coo_matrix((ones, (question["user"], question["item"])), shape=shape)
        settings = {"embedding_size": 64, "n_layers": 2, "reg_weight": 1e-5, "require_pow": True}
        sizes = {"user": shape[0], "item": shape[1]}
        data = types.SimpleNamespace(num=sizes.get, inter_matrix=lambda form: self.met)
        self.model = LightGCN(NAMES | settings | {"device": device}, data)
        self.model.to(device)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=learning_rate)
        self.train = np.flatnonzero(question["user"] > 0)
        self.pairs = np.unique(self._pair(question["user"], question["item"]))

    def order(self, rng):
        """Every row, shuffled."""
        return rng.permutation(self.train)

    def loss(self, rows, rng):
        user, item = self.rows["user"][rows], self.rows["item"][rows]
        other = rng.integers(1, self.met.shape[1], len(rows))
        while (history := np.isin(self._pair(user, other), self.pairs)).any():
            other[history] = rng.integers(1, self.met.shape[1], history.sum())
        return self.model.calculate_loss(self._tensors(user=user, item=item, neg_item=other))

    def scores(self, users, histories):
        columns = self._tensors(user=users)
        result = self.model.full_sort_predict(columns).cpu().numpy().reshape(len(users), -1)
        result[users == 0] = 0
        return result

    def _pair(self, users, items):
        return users.astype(np.int64) * self.met.shape[1] + items


def gain(peer, question) -> float:
    """As `quality_peers` tunes by: the mean gain among what the history does not hold."""
    gains = []
    for start in range(0, len(question["v_item"]), 512):
        rows = np.arange(start, min(start + 512, len(question["v_item"])))
        histories, target = question["v_history"][rows], question["v_item"][rows]
        result = peer.scores(question["v_user"][rows], histories)
        rank = next_item_ranks(result, target, histories, tie_order(result.shape[1]))
        gains.append(rank_gain(rank))
    return mean_of_known(np.concatenate(gains))


def learn(peer, question, every: int, seconds: float, seed: int) -> tuple[float, int, bool]:
    """Trains until validation rises no more, and takes what it was best with.

    Args:
        peer: `Sequences` or `Graph`.
        question: as `quality_peers` wrote it.
        every: passes between two evaluations.
        seconds: at most.
        seed: of batches.

    Returns:
        The best figure, the passes made, and whether it had stopped rising.
    """
    rng, start = np.random.default_rng(seed), time.perf_counter()
    best, kept, since, epoch = -1.0, None, 0, 0
    while since < PATIENCE and time.perf_counter() - start < seconds:
        peer.model.train()
        for _ in range(every):
            order = peer.order(rng)
            for first in range(0, len(order), peer.batch):
                peer.optimizer.zero_grad()
                peer.loss(order[first : first + peer.batch], rng).backward()
                peer.optimizer.step()
        peer.model.eval()
        epoch += every
        with torch.no_grad():
            gain_now = gain(peer, question)
        since += 1
        if gain_now > best:
            best, since = gain_now, 0
            kept = {name: value.clone() for name, value in peer.model.state_dict().items()}
        print(f"epoch {epoch}: {gain_now:.5f}, {time.perf_counter() - start:.0f} s", flush=True)
    peer.model.load_state_dict(kept)
    if hasattr(peer.model, "restore_user_e"):
        peer.model.restore_user_e = peer.model.restore_item_e = None
    return best, epoch, since >= PATIENCE


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", choices=("SASRec", "LightGCN"))
    parser.add_argument("question")
    parser.add_argument("answer")
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", default="cpu", help="or cuda")
    options = parser.parse_args()
    question = dict(np.load(options.question))
    start = time.perf_counter()
    best = None
    grid = GRIDS[options.model]
    for point in grid:
        torch.manual_seed(options.seed)
        peer = {"SASRec": Sequences, "LightGCN": Graph}[options.model](
            question, torch.device(options.device), **point
        )
        result, epochs, ended = learn(
            peer, question, EVERY[options.model], 60 * options.minutes / len(grid), options.seed
        )
        if best is None or result > best[0]:
            best = result, epochs, ended, point, peer
    _, epochs, converged, point, peer = best
    with torch.no_grad():
        scores = [
            peer.scores(question["t_user"][rows], question["t_history"][rows])
            for rows in np.array_split(
                np.arange(len(question["t_user"])), max(1, len(question["t_user"]) // 512)
            )
        ]
    np.savez_compressed(
        options.answer,
        scores=np.concatenate(scores).astype(np.float32),
        question=digest(options.question),
        device=options.device,
        converged=converged,
        epochs=epochs,
        settings=" ".join(f"{name}={value:g}" for name, value in point.items()),
        seconds=time.perf_counter() - start,
        peak_gb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    )


if __name__ == "__main__":
    main()
