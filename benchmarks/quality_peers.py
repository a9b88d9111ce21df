"""Peers of the quality benchmark, tuned on validation: the grids stand here."""

from __future__ import annotations

import contextlib
import pathlib
import re
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import scipy.sparse

from benchmarks.peak_memory import forget_peak, peak_megabytes
from benchmarks.quality_data import Protocol
from benchmarks.quality_tfrs import TFRSTwoTower
from benchmarks.recbole_question import digest
from tfrec_fusion.features.preparing import Prepared
from tfrec_fusion.metrics.ranks import gain, mean_of_known, next_item_ranks, tie_order
from tfrec_fusion.models.baselines import (
    ALS,
    BPR,
    EASE,
    Baseline,
    ContentKNN,
    ItemKNN,
    Popularity,
    interaction_matrix,
)

SAMPLE, LARGE_CATALOGUE = 2000, 8000


class Peer(NamedTuple):
    """A fitted peer: its scores of the protocol's users, what was chosen from the grid, and the grid's
    seconds and peak memory in MB."""

    scores: Callable[[np.ndarray], np.ndarray]
    settings: str
    seconds: float
    megabytes: float


class RidgeToFactors(Baseline):
    """ALS whose item factors are predicted from text by ridge regression, of all items or of unmet ones."""

    def __init__(self, vectors: np.ndarray, dim: int, ridge: float, everywhere: bool):
        self.vectors = np.concatenate([vectors, np.ones((len(vectors), 1))], 1)
        self.dim, self.ridge, self.everywhere = dim, ridge, everywhere

    def _fit(self, interactions):
        self.als = ALS(dim=self.dim).fit(interactions)
        known = self.als.item_factors
        has_choices = np.asarray(interactions.sum(0))[0] > 0
        text = self.vectors[has_choices]
        penalty = self.ridge * np.eye(text.shape[1])
        predicted = self.vectors @ np.linalg.solve(text.T @ text + penalty, text.T @ known[has_choices])
        self.item_factors = predicted if self.everywhere else np.where(has_choices[:, None], known, predicted)

    def _scores_of(self, interactions):
        return self.als.factors_of(interactions) @ self.item_factors.T


def grid(name: str, text: np.ndarray) -> Iterator[tuple[str, Baseline]]:
    """The settings tried for a peer; fewer of EASE over a large catalogue, of which each is an inverse."""
    if name == "popularity":
        yield "", Popularity()
    elif name == "item k-NN":
        for k in (20, 50, 100, 200):
            for shrink in (0.0, 10.0, 50.0):
                yield f"k={k} shrink={shrink:g}", ItemKNN(k, shrink)
    elif name == "EASE":
        few = len(text) > LARGE_CATALOGUE
        for l2 in (100.0, 500.0) if few else (50.0, 100.0, 200.0, 500.0, 1000.0):
            yield f"l2={l2:g}", EASE(l2)
    elif name == "ALS":
        for dim in (16, 32, 64):
            yield f"dim={dim}", ALS(dim=dim)
    elif name == "BPR":
        for dim in (32, 64):
            for rate in (0.02, 0.05):
                yield f"dim={dim} rate={rate:g}", BPR(dim=dim, learning_rate=rate)
    elif name == "TFRS":
        for rate in (0.1, 0.5):
            for epochs in (5, 20):
                yield f"rate={rate:g} epochs={epochs}", TFRSTwoTower(rate, epochs)
    elif name == "content k-NN":
        yield "", ContentKNN(text)
    elif name == "text to ALS":
        for dim in (16, 32, 64):
            for ridge in (1.0, 10.0):
                yield f"dim={dim} ridge={ridge:g}", RidgeToFactors(text, dim, ridge, everywhere=False)


PEERS = ("popularity", "item k-NN", "EASE", "ALS", "BPR", "TFRS", "content k-NN", "text to ALS")
RECBOLE = ("SASRec", "LightGCN")
PEERS_PYTHON = pathlib.Path(__file__).parents[1] / ".venv-peers" / "bin" / "python"


def fit_peer(name: str, protocol: Protocol) -> Peer:
    """Tunes a peer on validation and fits it; users are then known by all that they met before the test."""
    data = protocol.data
    forget_peak()
    start = time.perf_counter()
    train = interaction_matrix(
        data.train["user_index"], data.train["item_index"], data.space.num_users, data.space.num_items
    )
    text = np.asarray(data.catalogue.text_vectors, np.float32)
    sample = np.sort(np.random.default_rng(0).permutation(len(data.validation["item_index"]))[:SAMPLE])
    validation = {column: values[sample] for column, values in data.validation.items()}
    seen_items = _met(list(validation["history"]), data)
    best, chosen = -1.0, None
    for settings, peer in grid(name, text):
        peer.fit(train)
        gain = _gain(_answers(peer, seen_items, validation["user_index"], data), validation)
        if gain > best:
            best, chosen = gain, (settings, peer)
    settings, peer = chosen
    seen, users = _met(protocol.seen, data), data.test["user_index"][protocol.rows]
    answers = _answers(peer, seen, users, data)
    return Peer(answers, settings, time.perf_counter() - start, peak_megabytes())


class RecBole(NamedTuple):
    """How RecBole's models are trained.

    Attributes:
        minutes: at most, for each.
        device: "cpu" or "cuda".
        folder: keeps questions and answers; an answer that is there is taken, also one trained on another
            machine.
    """

    minutes: float = 20.0
    device: str = "cpu"
    folder: str | None = None


def fit_recbole(model: str, protocol: Protocol, where: str, how: RecBole) -> Peer:
    """Trains a model of RecBole (`recbole_peers`) in its own environment; its settings say where time was too
    short.

    Args:
        model: one of `RECBOLE`.
        protocol: what is asked.
        where: the protocol's name.
        how: time, device and folder.

    Returns:
        The peer.
    """
    data = protocol.data
    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(how.folder or stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        name = re.sub(r"\W+", "-", where)
        question, answer = folder / f"{name}.npz", folder / f"{name}-{model}.npz"
        write_question(protocol, question)
        if not answer.exists():
            script = pathlib.Path(__file__).with_name("recbole_peers.py")
            options = ["--minutes", how.minutes, "--device", how.device]
            subprocess.run(
                list(map(str, [PEERS_PYTHON, script, model, question, answer, *options])), check=True
            )
        answers = np.load(answer)
        scores, epochs, seconds = answers["scores"], int(answers["epochs"]), float(answers["seconds"])
        settings = f"{answers['settings']} {epochs} epochs on {answers['device']}"
        settings += "" if answers["converged"] else ", not converged"
        memory = 1024 * float(answers["peak_gb"])
        if str(answers["question"]) != digest(question):
            raise ValueError(
                f"{answer} must answer the question beside it. Received: an answer to other data or splits."
                " Remove it."
            )
    popularity = data.catalogue.counts / max(1, data.catalogue.counts.max()) * 1e-6
    return Peer(lambda rows: scores[rows] + popularity, settings, seconds, memory)


def write_question(protocol: Protocol, path: pathlib.Path) -> None:
    """Writes what `recbole_peers` trains and is asked: the rows of training, a sample of validation, and the
    users."""
    data, rng = protocol.data, np.random.default_rng(0)
    sample = np.sort(rng.permutation(len(data.validation["item_index"]))[:SAMPLE])
    parts = {
        "": data.train,
        "v_": {column: values[sample] for column, values in data.validation.items()},
        "t_": protocol.queries,
    }
    columns = (("user", "user_index"), ("item", "item_index"), ("history", "history"))
    np.savez_compressed(
        path,
        num_users=data.space.num_users,
        num_items=data.space.num_items,
        **{prefix + short: part[column] for prefix, part in parts.items() for short, column in columns},
    )


def _met(items: list[np.ndarray], data: Prepared) -> scipy.sparse.csr_matrix:
    rows = np.repeat(np.arange(len(items)), [len(some) for some in items])
    columns = np.concatenate([*items, np.zeros(0, np.int32)])
    kept = columns > 0
    return interaction_matrix(rows[kept], columns[kept], len(items), data.space.num_items)


def _answers(
    peer: Baseline, seen: scipy.sparse.csr_matrix, users: np.ndarray, data: Prepared
) -> Callable[[np.ndarray], np.ndarray]:
    """Rows → scores. Who met nothing, and to BPR and TFRS who is unknown, gets what is popular."""
    popularity = data.catalogue.counts.astype(np.float32)
    popularity = popularity / max(1.0, popularity.max()) * 1e-6

    def scores(rows: np.ndarray) -> np.ndarray:
        if isinstance(peer, BPR | TFRSTwoTower):
            result = peer.scores(users[rows]) * (users[rows] > 0)[:, None]
        else:
            result = peer.scores_of(seen[rows])
        return np.asarray(result, np.float64) + popularity

    return scores


def _gain(scores: Callable[[np.ndarray], np.ndarray], validation: dict[str, np.ndarray]) -> float:
    """Mean gain (`metrics.ranks`) of what was chosen, among what the history does not hold."""
    gains = []
    for start in range(0, len(validation["item_index"]), 256):
        rows = np.arange(start, min(start + 256, len(validation["item_index"])))
        result = scores(rows)
        ties = tie_order(result.shape[1])
        rank = next_item_ranks(result, validation["item_index"][rows], validation["history"][rows], ties)
        gains.append(gain(rank))
    return mean_of_known(np.concatenate(gains))
