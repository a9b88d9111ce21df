"""RecBole's SASRec and LightGCN on a protocol of `benchmarks.quality`, in an environment of their own.

    .venv-peers/bin/python benchmarks/recbole_peers.py MODEL QUESTION.npz ANSWER.npz --minutes 20

`quality_peers` writes the question and reads the answer. The models are RecBole's classes with RecBole's defaults; training
is Adam in batches of 2048, stopped when validation has not risen for ten evaluations, as RecBole's trainer does. Whatever
the time does not suffice for is marked so: `converged` is then false.
"""

from __future__ import annotations

import argparse
import resource
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

BATCH, PATIENCE = 2048, 10
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


class Sequences(Columns):
    """SASRec: the next item after each history of training."""

    def __init__(self, question, device):
        self.device = device
        self.rows, self.width = question, question["history"].shape[1]
        settings = {"n_layers": 2, "n_heads": 2, "hidden_size": 64, "inner_size": 256}
        settings |= {"hidden_dropout_prob": 0.5, "attn_dropout_prob": 0.5, "hidden_act": "gelu"}
        settings |= {"layer_norm_eps": 1e-12, "initializer_range": 0.02, "loss_type": "CE"}
        data = types.SimpleNamespace(num=lambda field: int(question["num_items"]))
        self.model = SASRec(NAMES | settings | {"MAX_ITEM_LIST_LENGTH": self.width, "device": device}, data)
        self.model.to(device)
        self.train = np.flatnonzero((question["history"] > 0).any(1))

    def loss(self, rows, rng):
        histories = self._histories(self.rows["history"][rows])
        return self.model.calculate_loss(histories | self._tensors(item=self.rows["item"][rows]))

    def scores(self, users, histories):
        histories = histories[:, -self.width :]
        empty = ~(histories > 0).any(1)
        found = (
            self.model.full_sort_predict(self._histories(np.where(empty[:, None], 1, histories)))
            .cpu()
            .numpy()
        )
        found[empty] = 0
        return found

    def _histories(self, histories):
        # RecBole's stand at the left.
        length = (histories > 0).sum(1)
        place = (np.arange(histories.shape[1]) - length[:, None]) % histories.shape[1]
        turned = np.take_along_axis(histories, place, 1)
        return self._tensors(item_list=turned, length=np.maximum(length, 1))


class Graph(Columns):
    """LightGCN: who met what."""

    def __init__(self, question, device):
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
        self.train = np.flatnonzero(question["user"] > 0)
        self.pairs = set(zip(question["user"].tolist(), question["item"].tolist(), strict=True))

    def loss(self, rows, rng):
        user, item = self.rows["user"][rows], self.rows["item"][rows]
        other = rng.integers(1, self.met.shape[1], len(rows))
        for place, pair in enumerate(zip(user.tolist(), other.tolist(), strict=True)):
            while pair in self.pairs:
                pair = (pair[0], int(rng.integers(1, self.met.shape[1])))
            other[place] = pair[1]
        return self.model.calculate_loss(self._tensors(user=user, item=item, neg_item=other))

    def scores(self, users, histories):
        self.model.restore_user_e = self.model.restore_item_e = None
        found = self.model.full_sort_predict(self._tensors(user=users)).cpu().numpy().reshape(len(users), -1)
        found[users == 0] = 0
        return found


def gain(peer, question) -> float:
    """As `quality_peers` tunes by: mean `1 / log2(1 + rank)` among what the history does not hold."""
    gains = []
    for start in range(0, len(question["v_item"]), 512):
        rows = np.arange(start, min(start + 512, len(question["v_item"])))
        histories, target = question["v_history"][rows], question["v_item"][rows]
        found = peer.scores(question["v_user"][rows], histories)
        own = found[np.arange(len(rows)), target][:, None]
        better = (found > own) + 0.5 * (found == own)
        better[np.arange(len(rows))[:, None], histories] = 0
        gains.append(1 / np.log2(1.5 + better.sum(1)))
    return float(np.concatenate(gains).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", choices=("SASRec", "LightGCN"))
    parser.add_argument("question")
    parser.add_argument("answer")
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", default="cpu", help="or cuda")
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    rng = np.random.default_rng(options.seed)
    question = dict(np.load(options.question))
    peer = {"SASRec": Sequences, "LightGCN": Graph}[options.model](question, torch.device(options.device))
    optimizer = torch.optim.Adam(peer.model.parameters(), lr=1e-3)
    best, kept, since, epoch, start = -1.0, None, 0, 0, time.perf_counter()
    while since < PATIENCE and time.perf_counter() - start < 60 * options.minutes:
        peer.model.train()
        order = rng.permutation(peer.train)
        for first in range(0, len(order), BATCH):
            optimizer.zero_grad()
            peer.loss(order[first : first + BATCH], rng).backward()
            optimizer.step()
        peer.model.eval()
        epoch += 1
        with torch.no_grad():
            found = gain(peer, question)
        since += 1
        if found > best:
            best, since = found, 0
            kept = {name: value.clone() for name, value in peer.model.state_dict().items()}
        print(f"epoch {epoch}: {found:.5f}, {time.perf_counter() - start:.0f} s", flush=True)
    peer.model.load_state_dict(kept)
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
        converged=since >= PATIENCE,
        epochs=epoch,
        seconds=time.perf_counter() - start,
        peak_gb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    )


if __name__ == "__main__":
    main()
