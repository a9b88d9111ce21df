"""Domains in which text tells what is chosen next, by the same few of its numbers in each; or in which it
tells nothing."""

import dataclasses

import numpy as np

from tfrec_fusion.config import FeatureSpace
from tfrec_fusion.models.catalogue import Catalogue
from tfrec_fusion.training.pretraining import Domain

TEXT_DIM, TELLING = 16, 4
HISTORY = 5


@dataclasses.dataclass(frozen=True)
class Planted:
    """A domain whose users stay with a topic; `test` asks for one more item of theirs."""

    name: str
    space: FeatureSpace
    catalogue: Catalogue
    train: dict
    validation: dict
    test: dict

    @property
    def domain(self) -> Domain:
        return Domain(self.name, self.catalogue.text_vectors, self.train, self.validation)


def planted(name, seed, topics=6, size=10, users=90, noise=False):
    """Makes a domain of `topics * size` items.

    Of an item's text vector the first `TELLING` numbers tell its topic, the others, which are larger, tell
    nothing; all stand around a mean of the domain's own. With `noise` none tells anything.
    """
    rng = np.random.default_rng(seed)
    count = topics * size
    topic = rng.permutation(np.arange(count) % topics)
    vectors = rng.normal(scale=1.0, size=(count, TEXT_DIM))
    if not noise:
        corners = rng.normal(size=(topics, TELLING))
        corners *= 1.2 / np.linalg.norm(corners, axis=1, keepdims=True)
        vectors[:, :TELLING] = corners[topic] + rng.normal(scale=0.15, size=(count, TELLING))
    vectors += rng.normal(size=TEXT_DIM)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    rows = {"train": [], "validation": [], "test": []}
    for user in range(1, users + 1):
        own = rng.permutation(np.flatnonzero(topic == rng.integers(topics)))[: HISTORY + 1] + 1
        for step, item in enumerate(own):
            history = np.zeros(HISTORY, np.int32)
            history[HISTORY - step :] = own[:step]
            split = {HISTORY - 1: "validation", HISTORY: "test"}.get(step, "train")
            rows[split].append((user, history, item))
    splits = {
        split: {
            "user_index": np.array([user for user, _, _ in found], np.int32),
            "history": np.array([history for _, history, _ in found], np.int32),
            "item_index": np.array([item for _, _, item in found], np.int32),
        }
        for split, found in rows.items()
    }
    ids = np.array(["", *(f"{name} {item}" for item in range(1, count + 1))])
    counts = np.bincount(splits["train"]["item_index"], minlength=count + 1).astype(np.int64)
    texts = np.concatenate([np.zeros((1, TEXT_DIM)), vectors]).astype(np.float32)
    space = FeatureSpace(users + 1, count + 1, text_dim=TEXT_DIM, history_length=HISTORY)
    return Planted(name, space, Catalogue(ids, ids, {}, texts, counts), **splits)
