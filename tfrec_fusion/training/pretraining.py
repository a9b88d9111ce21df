"""Training over several domains from text alone, and the folder that keeps what carries over."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from tfrec_fusion import __version__
from tfrec_fusion.config import ConfigError, RetrievalConfig, TextConfig
from tfrec_fusion.config.pretrained import DESCRIPTION, FORMAT, WEIGHTS, PretrainedDomain, PretrainedTower
from tfrec_fusion.files import whole_folder, write_json
from tfrec_fusion.models.build import build_pretraining, build_text_encoder, mean_vector
from tfrec_fusion.models.pretraining import packed_weights
from tfrec_fusion.training.batches import batches, chosen_rows
from tfrec_fusion.training.fitting import fit, precision, strategy
from tfrec_fusion.training.recipes import VALIDATION_BATCH, Progress

__all__ = ["Domain", "check_domain_names", "check_output", "pretrain"]


@dataclasses.dataclass(frozen=True)
class Domain:
    """A domain as training takes it.

    Attributes:
        name: its configuration's.
        vectors: float `[N + 1, text_dim]`, its items' text vectors; zeros in row 0 and without a text.
        train, validation: `user_index` int32 `[n]`, `history` int32 `[n, H]` and `item_index` int32 `[n]`.
    """

    name: str
    vectors: np.ndarray
    train: Mapping[str, np.ndarray]
    validation: Mapping[str, np.ndarray]


def check_domain_names(names: Sequence[str]) -> None:
    """Raises ConfigError where there is no domain, or one comes twice."""
    twice = sorted({name for name in names if names.count(name) > 1})
    if not names or twice:
        seen = f"{', '.join(map(repr, twice))} more than once" if twice else "none"
        raise ConfigError(
            f"Domains must be at least one, each given once and with a name of its own. Received: {seen}."
            " Leave out what is doubled, or give another `name`."
        )


def check_output(folder: str | os.PathLike[str]) -> None:
    """Raises ConfigError where a folder holds something else than a pretrained tower."""
    path = pathlib.Path(folder)
    if path.is_file() or (path.is_dir() and any(path.iterdir()) and not (path / DESCRIPTION).is_file()):
        raise ConfigError(
            "The folder of a pretrained tower must be new, empty, or one that `tfrec pretrain` wrote, which"
            f" gives way. Received: {str(folder)!r}, which holds something else. Name another."
        )


def pretrain(
    domains: Sequence[Domain],
    config: RetrievalConfig,
    text: TextConfig,
    folder: str | os.PathLike[str],
    *,
    sequence_weight: float = 0.1,
    item_drop: float = 0.2,
    progress: Progress = False,
) -> PretrainedTower:
    """Trains a tower of texts over all domains at once, and writes what carries over.

    Items without a text are left out, with the choices of them. Batches mix domains, each as often as it has
    interactions, and every choice is compared with items of all of them. Validation watches NDCG@10 among the
    items of all domains.

    Args:
        domains: what to train on, histories equally long.
        config: the towers and their training.
        text: how the texts were encoded.
        folder: appears whole; a pretrained tower that is there gives way.
        sequence_weight, item_drop: of the second task (`models.pretraining.Pretraining`).
        progress: as in `fit`.

    Returns:
        What `pretrained.json` holds.

    Raises:
        ConfigError: for a domain without texts or choices, domains that do not go together, a `folder` that
            holds something else, or a text encoder that is to be trained.
    """
    check_domain_names([one.name for one in domains])
    check_output(folder)
    if text.trained:
        raise ConfigError(
            f"`text.stage` must be 'frozen' to pretrain over several domains. Received: {text.stage!r}."
            " Train the encoder later, in the model that starts from the folder."
        )
    if config.training.privacy is not None:
        raise ConfigError(
            "`retrieval.training.privacy` must be left out to pretrain, whose second task tells users'"
            " histories apart. Received: privacy. Leave it out, or keep the domain out."
        )
    encoder = build_text_encoder(text.pretrained())
    joint = _joined(domains)
    length = joint.train["history"].shape[1]
    training = dataclasses.replace(config.training, refit=False)
    with strategy(training).scope(), precision(training):
        model = build_pretraining(
            config, joint.vectors, joint.counts, length, sequence_weight=sequence_weight, item_drop=item_drop
        )
    history = fit(
        model,
        batches(joint.train, training.batch_size, shuffle=training.seed),
        batches(joint.validation, VALIDATION_BATCH),
        training,
        progress=progress,
        callbacks=(),
    )
    content, digest = packed_weights(model)
    figures = {"epochs": float(history.epochs), "best_epoch": float(history.best_epoch)}
    if watched := history.watched(model.monitor):
        figures["val_ndcg_10"] = watched[history.best_epoch - 1]
    found = PretrainedTower(
        format=FORMAT,
        version=__version__,
        encoder=text.encoder,
        pooling=text.pooling,
        truncated=text.dim,
        item_prefix=text.item_prefix,
        encoder_digest=encoder.digest(),
        text_dim=joint.vectors.shape[1],
        dim=config.tower.dim,
        hidden=tuple(config.tower.hidden),
        history_encoder=config.tower.history_encoder,
        history_length=length,
        normalize=config.normalize,
        domains=joint.described,
        weights_digest=digest,
        figures=figures,
    )
    with whole_folder(pathlib.Path(folder), replace=True) as staging:
        (staging / WEIGHTS).write_bytes(content)
        write_json(staging / DESCRIPTION, dataclasses.asdict(found))
    return found


@dataclasses.dataclass(frozen=True)
class _Joined:
    """Domains side by side: items and users of one have no index of another's."""

    vectors: np.ndarray
    counts: np.ndarray
    train: dict[str, np.ndarray]
    validation: dict[str, np.ndarray]
    described: tuple[PretrainedDomain, ...]


def _joined(domains: Sequence[Domain]) -> _Joined:
    widths = {one.name: one.vectors.shape[1] for one in domains}
    lengths = {one.name: one.train["history"].shape[1] for one in domains}
    for what, sizes in (("text vectors", widths), ("histories in training", lengths)):
        if len(set(sizes.values())) > 1:
            raise ConfigError(
                f"The {what} of all domains must have one length. Received: {sizes}. Give all of them the"
                " same `text.encoder` and `split.history_length`."
            )
    vectors: list[np.ndarray] = [np.zeros((1, next(iter(widths.values()))), np.float16)]
    parts: dict[str, dict[str, list[np.ndarray]]] = {"train": {}, "validation": {}}
    described, items, users = [], 0, 0
    for one in domains:
        centred, has_text = _centred(one)
        for split, columns in parts.items():
            rows = _with_text(getattr(one, split), has_text, one.train["history"].shape[1])
            rows = {"user_index": rows["user_index"] + users, "item_index": rows["item_index"] + items,
                    "history": np.where(rows["history"] > 0, rows["history"] + items, 0)}  # fmt: skip
            for name, values in rows.items():
                columns.setdefault(name, []).append(values)
        train = {name: values[-1] for name, values in parts["train"].items()}
        described.append(_description(one, has_text, train))
        vectors.append(centred[1:])
        items += len(centred) - 1
        users += int(max(_highest(one.train), _highest(one.validation))) + 1
    whole = {split: {name: np.concatenate(values) for name, values in columns.items()}
             for split, columns in parts.items()}  # fmt: skip
    counts = np.bincount(whole["train"]["item_index"], minlength=items + 1).astype(np.int64)
    return _Joined(np.concatenate(vectors), counts, whole["train"], whole["validation"], tuple(described))


def _centred(domain: Domain) -> tuple[np.ndarray, np.ndarray]:
    """A domain's text vectors around their mean, float16, and which rows have a text."""
    has_text = np.any(domain.vectors != 0, axis=1)
    if not has_text.any():
        raise ConfigError(
            "A domain must have texts to be pretrained on, since nothing else carries over. Received:"
            f" {domain.name!r}, where none of {len(domain.vectors) - 1:,} items has one. Name its columns"
            " under `data.items.text`, or leave it out."
        )
    vectors = np.asarray(domain.vectors, np.float32) - mean_vector(domain.vectors)
    return np.where(has_text[:, None], vectors, 0).astype(np.float16), has_text


def _with_text(columns: Mapping[str, np.ndarray], has_text: np.ndarray, length: int) -> dict[str, np.ndarray]:
    """Choices of items that have a text, with the newest `length` of their histories less the others."""
    rows = chosen_rows(columns)
    kept = has_text[rows["item_index"]]
    history = rows["history"][kept][:, -length:]
    there = has_text[history]
    order = np.argsort(there, axis=1, kind="stable")  # padding first, the others in their order
    history = np.take_along_axis(np.where(there, history, 0), order, axis=1)
    return {
        "user_index": rows["user_index"][kept],
        "history": history,
        "item_index": rows["item_index"][kept],
    }


def _description(domain: Domain, has_text: np.ndarray, train: Mapping[str, np.ndarray]) -> PretrainedDomain:
    interactions = len(train["item_index"])
    if not interactions:
        raise ConfigError(
            "A domain must have choices of items with a text in training. Received:"
            f" {domain.name!r}, which has none. Leave it out, or look at `data.items.text`."
        )
    return PretrainedDomain(
        domain.name,
        int(has_text[1:].sum()),
        int((~has_text[1:]).sum()),
        len(np.unique(train["user_index"])),
        interactions,
    )


def _highest(columns: Mapping[str, np.ndarray]) -> int:
    return int(columns["user_index"].max(initial=0))
