"""Explanations of the models' answers to a sample of users, and of held-out items that were missed."""

from __future__ import annotations

import dataclasses

import numpy as np

from pipeline.data.item_groups import GROUPS, group_of
from pipeline.report.asking import Model, SampledUser
from pipeline.report.run_files import Item
from tfrec_fusion.serving.client.explanations import Explanation, Explanations


@dataclasses.dataclass(frozen=True)
class Question:
    """Items that are to be explained to somebody: who asks, with which history, and what must not come."""

    user: str
    history: list[str]
    items: list[str]
    exclude: list[str]
    context: dict[str, str]


@dataclasses.dataclass(frozen=True)
class PartShare:
    """What recommendations of a group of items live from: share of each part of the model, in size."""

    name: str
    items: int
    shares: dict[str, float]


def explained(model: Model, questions: list[Question], k: int) -> list[list[Explanation]]:
    """An explanation of each item of each question; none from a model that was made before there were any."""
    if "explain" not in model.signatures:
        return [[] for _ in questions]
    return [_asked(model, question, k) for question in questions]


def _asked(model: Model, question: Question, k: int) -> Explanations:
    return model.client.explain(
        question.user,
        question.items,
        history=question.history,
        exclude=question.exclude,
        include_seen=True,
        k=k,
        **question.context,
    )


def of_users(users: list[SampledUser], lists: list[list[str]], most: int) -> list[Question]:
    """Questions about the first items of each user's recommendations."""
    return [
        Question(user.user_id, user.history, own[:most], user.seen, user.context)
        for user, own in zip(users, lists, strict=True)
    ]


def part_shares(answers: list[list[Explanation]], items: dict[str, Item]) -> list[PartShare]:
    """What the recommendations live from, by how often the item was chosen in training: the mean of each
    part's size, as a share of all parts'."""
    shares: dict[str, list[np.ndarray]] = {}
    counted: dict[str, set[str]] = {}
    names = list(answers[0][0].parts) if answers and answers[0] else []
    for one in (one for row in answers for one in row):
        sizes = np.abs([one.parts[name] for name in names])
        if sizes.sum() > 0:
            group = group_of(items[one.item_id].train_count if one.item_id in items else 0)
            shares.setdefault(group, []).append(sizes / sizes.sum())
            counted.setdefault(group, set()).add(one.item_id)
    return [
        PartShare(name, len(counted[name]), dict(zip(names, np.mean(shares[name], 0).tolist(), strict=True)))
        for _, name in GROUPS
        if name in shares
    ]
