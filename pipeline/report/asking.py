"""Asks the two models of a run about a sample of test users, as a client would."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf

from pipeline.data.examples import read
from tfrec_fusion.config import ConfigError
from tfrec_fusion.export.evaluated import evaluated
from tfrec_fusion.export.request import DIAGNOSES
from tfrec_fusion.serving.client.answers import named_outputs
from tfrec_fusion.serving.client.client import Client
from tfrec_fusion.serving.client.columns import columns
from tfrec_fusion.serving.client.in_process import InProcessTransport
from tfrec_fusion.serving.client.signatures import read_metadata

BATCH = 100


@dataclasses.dataclass(frozen=True)
class SampledUser:
    """Somebody in the test split: what they had met before it, what they met in it, and where the models'
    ranks are.

    Attributes:
        user_id: whose choices these are.
        history: item ids, oldest first.
        seen: all item ids met before the test.
        held_out: item ids met in the test.
        activity: new, light or regular.
        context: raw context of the first test interaction.
        baselines: baseline → rank of each held-out item.
    """

    user_id: str
    history: list[str]
    seen: list[str]
    held_out: list[str]
    activity: str
    context: dict[str, str]
    baselines: dict[str, list[float]]


def sample_users(examples: list[tf.train.Example], size: int, seed: int = 0) -> list[SampledUser]:
    """A random sample of the users in test Examples, in a fixed order."""
    by_user: dict[str, list[tf.train.Example]] = {}
    for example in examples:
        by_user.setdefault(read(example, "user_id")[0], []).append(example)
    user_ids = sorted(by_user)
    chosen = np.random.default_rng(seed).permutation(len(user_ids))[:size]
    users = []
    for user in (user_ids[position] for position in chosen):
        own = by_user[user]
        first = own[0]
        ranks = {
            name.removeprefix("baseline_").removesuffix("_rank"): [read(example, name)[0] for example in own]
            for name in first.features.feature
            if name.startswith("baseline_")
        }
        context = context_of(first)
        users.append(
            SampledUser(
                user,
                read(first, "history"),
                read(first, "seen"),
                [read(example, "item_id")[0] for example in own],
                (read(first, "user_activity") or ["new"])[0],
                context,
                ranks,
            )
        )
    return users


def context_of(example: tf.train.Example) -> dict[str, str]:
    """The raw context of an interaction, by input."""
    return {name: read(example, name)[0] for name in example.features.feature if name.startswith("context_")}


class Model:
    """A SavedModel's signatures, asked with what matters; every other input is left empty.

    Args:
        folder: the SavedModel.
    """

    def __init__(self, folder: str):
        self.client = Client(InProcessTransport(folder), timeout=3600.0)
        self.signatures = read_metadata(self.client.metadata())

    def ask(self, signature: str, **inputs: Any) -> dict[str, np.ndarray]:
        """Answers of a signature to columns, by output; lists of strings may differ in length."""
        spec = self.signatures[signature]
        unknown = sorted(set(inputs) - set(spec.inputs))
        if unknown:
            raise ConfigError(
                f"The model's signature `{signature}` must take {', '.join(unknown)}. It takes: "
                f"{', '.join(spec.inputs)}. It was trained by an older version; run `tfrec run` again."
            )
        outputs = self.client.predict(columns(spec, inputs), signature_name=signature)
        return {name: _array(values) for name, values in named_outputs(outputs, spec).items()}

    def recommend(
        self, users: list[SampledUser], k: int, **options: Any
    ) -> tuple[list[list[str]], np.ndarray]:
        """Item ids for each user, best first, as before the test; and their scores, `[users, k]`."""
        ids, scores = [], []
        for start in range(0, len(users), BATCH):
            part = users[start : start + BATCH]
            answer = self.ask(
                "recommend",
                user_id=[user.user_id for user in part],
                history=[user.history for user in part],
                exclude=[user.seen for user in part],
                include_seen=True,
                k=k,
                **_context(part),
                **options,
            )
            ids += [[item for item in row.tolist() if item] for row in answer["item_ids"]]
            scores.append(answer["scores"])
        return ids, np.concatenate(scores)

    def rank(self, users: list[SampledUser], candidates: list[list[str]]) -> list[dict[str, np.ndarray]]:
        """Scores per head for each user's candidates."""
        answers = []
        for start in range(0, len(users), BATCH):
            part, asked_items = users[start : start + BATCH], candidates[start : start + BATCH]
            answer = self.ask(
                "rank",
                user_id=[user.user_id for user in part],
                history=[user.history for user in part],
                item_ids=asked_items,
                **_context(part),
            )
            for name in ("titles", *DIAGNOSES):
                answer.pop(name, None)
            answers += [
                {head: scores[row, : len(items)] for head, scores in answer.items()}
                for row, items in enumerate(asked_items)
            ]
        return answers

    def item_vectors(self, ids: list[str]) -> np.ndarray:
        """float32 `[ids, dim]`: by text where the model has a text tower, else its embeddings."""
        text_dim = 0
        if "embed_text" in self.signatures:
            text_dim = self.ask("embed_text", text=["a"])["embedding"].shape[1]
        parts = [
            self.ask("embed_item", item_id=ids[start : start + 1000])["embedding"]
            for start in range(0, len(ids), 1000)
        ]
        vectors = np.concatenate(parts).astype(np.float32)
        return vectors[:, -text_dim:] if text_dim else vectors

    def ranks(self, examples: list[tf.train.Example]) -> np.ndarray:
        """Rank of each Example's held-out item among the whole catalogue."""
        ranks = []
        for start in range(0, len(examples), 512):
            part = [example.SerializeToString() for example in examples[start : start + 512]]
            ranks.append(evaluated(self.ask("serving_default", examples=part))["rank"])
        return np.concatenate(ranks)


def _array(values: list) -> np.ndarray:
    array = np.array(values)
    return np.array(values, object) if array.dtype.kind == "U" else array  # whole strings, NULs included


def _context(users: list[SampledUser]) -> dict[str, list[str]]:
    names = {name for user in users for name in user.context}
    return {name: [user.context.get(name, "") for user in users] for name in names}
