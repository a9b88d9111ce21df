"""A pretrained Transformer as a Keras layer: token ids in, one vector a text out."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from typing import Any

import tensorflow as tf
import tf_keras

from tfrec_fusion.layers.backbone import (
    MATRICES,
    blocks,
    build_backbone,
    embed,
    main_layer,
    max_tokens,
    plain_config,
    run_blocks,
)
from tfrec_fusion.layers.lora import LoraDense
from tfrec_fusion.layers.pretrained import find_pretrained, read_json
from tfrec_fusion.layers.sentence_modules import read_sentence_modules

POOLINGS = ("mean", "cls", "max", "attention")
STAGES = ("frozen", "top_n", "lora", "full")


@tf_keras.saving.register_keras_serializable(package="tfrec_fusion")
class TextEncoder(tf_keras.layers.Layer):
    """A Transformer encoder from transformers, pooled to one vector a text.

    >>> tokenizer = load_tokenizer("all-MiniLM-L6-v2", max_length=32)
    >>> encoder = TextEncoder.from_pretrained("all-MiniLM-L6-v2", normalize=True)
    >>> encoder(tokenizer(["a space adventure with robots"])).shape
    TensorShape([1, 384])

    Wherever this layer runs inside a `tf.function` (`fit`, `predict`, `tf.data`, a signature), transformers'
    Python is paid once, when it is traced. For many texts at once see `encode_texts`.

    **Stages** say what is trained. ``frozen``: nothing, and dropout stays off, so that vectors may be
    computed once and kept. ``top_n``: the `top_n` upper blocks. ``lora``: low-rank updates of the matrices
    `lora_targets` in the `top_n` upper blocks (in all, where `top_n` is None). ``full``: everything. Learned
    attention pooling is trained in every stage. Below the first trained block dropout is off too, so that
    `lower` may be cached.

    Args:
        config: the transformers configuration as a dictionary, `model_type` included (one of bert, roberta,
            xlm-roberta, electra, mpnet, distilbert). Weights are random; see `from_pretrained` for others.
        pooling: ``"mean"`` over real tokens; ``"cls"``, the first token; ``"max"`` over real tokens; or
            ``"attention"``, a learned weighted mean (Lin et al., 2017, https://arxiv.org/abs/1703.03130, with
            one hop and a linear score) that starts out as the mean.
        stage: ``"frozen"``, ``"top_n"``, ``"lora"`` or ``"full"``.
        top_n: how many upper blocks `top_n` and `lora` train.
        normalize: whether vectors are scaled to length 1.
        lora_rank, lora_alpha: see `LoraDense`.
        lora_targets: any of query, key, value, output, ffn_in, ffn_out.

    Raises:
        ValueError: for an unknown pooling, stage, target or `model_type`, or a `top_n` outside 1 … blocks.
    """

    def __init__(
        self,
        config: dict[str, Any],
        pooling: str = "mean",
        stage: str = "frozen",
        top_n: int | None = None,
        normalize: bool = False,
        lora_rank: int = 8,
        lora_alpha: float = 16.0,
        lora_targets: tuple[str, ...] | list[str] = ("query", "value"),
        **kwargs,
    ):
        super().__init__(**kwargs)
        _check_choice("pooling", pooling, POOLINGS)
        _check_choice("stage", stage, STAGES)
        for target in lora_targets:
            _check_choice("lora_targets", target, tuple(MATRICES["bert"]))
        self.config = plain_config(dict(config))
        self.pooling = pooling
        self.stage = stage
        self.top_n = top_n
        self.normalize = normalize
        self.lora_rank = lora_rank
        self.lora_alpha = lora_alpha
        self.lora_targets = tuple(lora_targets)
        kind = self.config["model_type"]
        if kind == "distilbert" and self.compute_dtype == "float16":
            raise ValueError(
                "DistilBERT cannot run in float16: transformers masks with -1e30, which overflows to NaN"
                " there. Received: dtype policy 'mixed_float16'. Use 'mixed_bfloat16' or float32."
            )
        self.backbone = build_backbone(self.config, self.dtype_policy)
        self.num_blocks = len(blocks(self.backbone))
        if stage == "top_n" and top_n is None:
            raise ValueError(
                "Stage 'top_n' needs the number of blocks to train. Received: top_n=None. Give `top_n`."
            )
        if top_n is not None and not 1 <= top_n <= self.num_blocks:
            raise ValueError(
                f"`top_n` must be between 1 and the number of blocks ({self.num_blocks}). Received:"
                f" top_n={top_n!r}."
            )
        if stage == "lora":
            self._insert_lora()
        self.scorer = (
            tf_keras.layers.Dense(1, kernel_initializer="zeros", dtype="float32", name="scorer")
            if pooling == "attention"
            else None
        )

    @classmethod
    def from_pretrained(
        cls,
        name_or_folder: str | os.PathLike,
        pooling: str | None = None,
        stage: str = "frozen",
        normalize: bool | None = None,
        **kwargs,
    ) -> TextEncoder:
        """Creates the layer with pretrained weights.

        Args:
            name_or_folder: see `find_pretrained`; ``"all-MiniLM-L6-v2"`` needs no network where its package
                is installed.
            pooling: see the class; None for what the folder says (`sentence_modules`), and the mean where it
                says nothing. Another than the folder's is taken with a warning.
            stage: see the class.
            normalize: see the class; None for what the folder says.
            **kwargs: further arguments of the class.

        Returns:
            The layer, built. It needs the files no longer: saving it saves configuration and weights.

        Raises:
            PretrainedNotFoundError: if the files cannot be found.
            ValueError: if the architecture is not supported, weights that it needs are not in the files, or
                the folder names a module or a pooling that there is not here.
        """
        folder = find_pretrained(name_or_folder)
        plain_config(
            read_json(folder, "config.json")
        )  # an unsupported architecture fails before weights are read
        said = read_sentence_modules(folder)
        if pooling is not None and said.pooling not in (None, pooling):
            warnings.warn(
                f"`pooling` is {pooling!r}, while the encoder was trained with {said.pooling!r}"
                f" ({folder.name}). Leave `pooling` out to take the encoder's own.",
                stacklevel=2,
            )
        pooling = pooling or said.pooling or "mean"
        normalize = said.normalize if normalize is None else normalize
        from transformers import TFAutoModel
        from transformers import logging as transformers_logging

        level = transformers_logging.get_verbosity()
        transformers_logging.set_verbosity_error()
        try:
            model, info = TFAutoModel.from_pretrained(folder, output_loading_info=True)
        finally:
            transformers_logging.set_verbosity(level)
        missing = [name for name in info["missing_keys"] if "pooler" not in name]
        if missing:
            raise ValueError(
                f"A pretrained folder must hold every weight of its encoder. Received: {str(folder)!r}"
                f" without {missing[:3]} ({len(missing)} missing). Take an encoder whose weights match its"
                " config.json."
            )
        encoder = cls(model.config.to_dict(), pooling=pooling, stage=stage, normalize=normalize, **kwargs)
        encoder.build(None)
        prefix = model.base_model_prefix
        values = {
            variable.name.partition(f"/{prefix}/")[2]: variable for variable in main_layer(model).weights
        }
        for name, variable in encoder._backbone_variables().items():
            if "/lora_" not in name:
                variable.assign(values[name])
        return encoder

    @property
    def dim(self) -> int:
        """The length of a vector."""
        return self.config["dim"] if self.config["model_type"] == "distilbert" else self.config["hidden_size"]

    @property
    def first_trained_block(self) -> int:
        """Blocks below this index are frozen and give the same output in training; 0 means none are."""
        if self.stage == "full":
            return 0
        if self.stage == "frozen":
            return self.num_blocks
        return self.num_blocks - (self.top_n or self.num_blocks)

    def build(self, input_shape=None):
        if self.built:
            return
        with tf.name_scope("backbone"):
            self.backbone.build(None)
        if self.scorer is not None:
            with tf.name_scope("scorer"):
                self.scorer.build([None, None, self.dim])
        super().build(input_shape)

    def call(self, inputs: dict[str, tf.Tensor], training: bool | None = None) -> tf.Tensor:
        """Encodes texts.

        Args:
            inputs: a tokenizer's output: `input_ids` and `attention_mask`, int32 `[batch, length]`, and
                optionally `token_type_ids` (not used by models without segments).
            training: whether dropout is on in trained blocks.

        Returns:
            float32 `[batch, dim]` (the compute dtype under mixed precision; pooling itself runs in float32).
            A row of padding alone gives zeros, except for ``pooling="cls"``.
        """
        _check_inputs(inputs, max_tokens(self.backbone))
        # AutoGraph would rewrite the sources of transformers, which takes longer than all the rest of a
        # trace.
        return tf.autograph.experimental.do_not_convert(self._encode)(inputs, training)

    def _encode(self, inputs: dict[str, tf.Tensor], training: bool | None) -> tf.Tensor:
        return self.upper(self.lower(inputs), inputs["attention_mask"], training=training)

    def lower(self, inputs: dict[str, tf.Tensor], training: bool | None = None) -> tf.Tensor:
        """Runs what is not trained: embeddings and the blocks below `first_trained_block`.

        Args:
            inputs: as for `call`.
            training: only counts in stage ``full``, whose embeddings are trained.

        Returns:
            `[batch, length, hidden]`, which may be cached and given to `upper` later.
        """
        self.build(None)
        training = bool(training) and self.stage == "full"
        hidden = embed(self.backbone, inputs, training)
        hidden = run_blocks(
            self.backbone, hidden, inputs["attention_mask"], 0, self.first_trained_block, False
        )
        return hidden if self.stage == "full" else tf.stop_gradient(hidden)

    def upper(self, hidden: tf.Tensor, mask: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Runs the trained blocks on what `lower` gave, and pools.

        Args:
            hidden: `[batch, length, hidden]`.
            mask: int32 `[batch, length]`, 0 at padding.
            training: whether dropout is on.

        Returns:
            `[batch, dim]`.
        """
        self.build(None)
        hidden = tf.cast(hidden, self.compute_dtype)
        hidden = run_blocks(
            self.backbone, hidden, mask, self.first_trained_block, self.num_blocks, bool(training)
        )
        pooled = self._pool(tf.cast(hidden, tf.float32), tf.cast(mask, tf.float32)[:, :, tf.newaxis])
        if self.normalize:
            pooled = tf.math.l2_normalize(pooled, axis=-1)
        return tf.cast(pooled, self.compute_dtype)

    def _pool(self, hidden: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        if self.pooling == "cls":
            return hidden[:, 0]
        if self.pooling == "max":
            highest = tf.reduce_max(tf.where(mask > 0, hidden, hidden.dtype.min), axis=1)
            return tf.where(tf.reduce_any(mask > 0, axis=1), highest, 0.0)
        if self.pooling == "attention":
            assert self.scorer is not None  # made for this pooling
            weights = tf.nn.softmax(self.scorer(hidden) + (1.0 - mask) * -1e9, axis=1) * mask
            return tf.reduce_sum(weights * hidden, axis=1)
        return tf.math.divide_no_nan(tf.reduce_sum(hidden * mask, axis=1), tf.reduce_sum(mask, axis=1))

    def compute_output_shape(self, input_shape) -> tf.TensorShape:
        return tf.TensorShape([tf.TensorShape(input_shape["input_ids"])[0], self.dim])

    @property
    def trainable_weights(self) -> list[tf.Variable]:
        """The variables that the stage trains; none where the layer or one around it is frozen."""
        if not self.trainable or not self.built:
            return []
        scorer = list(self.scorer.weights) if self.scorer is not None else []
        if self.stage == "full":
            return list(self.backbone.weights) + scorer
        upper = [
            variable
            for block in blocks(self.backbone)[self.first_trained_block :]
            for variable in block.weights
        ]
        if self.stage == "lora":
            upper = [variable for variable in upper if "/lora_" in variable.name]
        return upper + scorer

    @property
    def non_trainable_weights(self) -> list[tf.Variable]:
        """All other variables."""
        if not self.built:
            return []
        trained = {variable.ref() for variable in self.trainable_weights}
        everything = list(self.backbone.weights) + (
            list(self.scorer.weights) if self.scorer is not None else []
        )
        return [variable for variable in everything if variable.ref() not in trained]

    def _insert_lora(self) -> None:
        for block in blocks(self.backbone)[self.first_trained_block :]:
            for target in self.lora_targets:
                holder, name = self._holder(block, target)
                setattr(holder, name, LoraDense(getattr(holder, name), self.lora_rank, self.lora_alpha))

    def _holder(self, block: tf_keras.layers.Layer, target: str) -> tuple[tf_keras.layers.Layer, str]:
        *steps, name = MATRICES[self.config["model_type"]][target].split(".")
        for step in steps:
            block = getattr(block, step)
        return block, name

    def merge_lora(self) -> None:
        """Adds the low-rank updates to the matrices, for export: same vectors, no extra work, stage
        ``frozen``.

        Functions traced before keep giving the same vectors, but trace anew to gain the speed.

        Raises:
            ValueError: if the stage is not ``lora``.
        """
        if self.stage != "lora":
            raise ValueError(
                f"Only an encoder of stage 'lora' can be merged. Received: stage={self.stage!r}."
            )
        for block in blocks(self.backbone)[self.first_trained_block :]:
            for target in self.lora_targets:
                holder, name = self._holder(block, target)
                setattr(holder, name, getattr(holder, name).merge())
        self.stage = "frozen"

    def learning_rate_multipliers(self, decay: float) -> list[tuple[tf.Variable, float]]:
        """Layer-wise learning-rate decay: the highest block gets 1, each lower one `decay` times the one
        above.

        Args:
            decay: in (0, 1]; 0.8 to 0.95 is usual.

        Returns:
            Each trainable variable of the backbone with its factor; the embeddings come below the lowest
            block. Give them to `layerwise_decay.with_multipliers`.

        Raises:
            ValueError: for a `decay` outside (0, 1].
        """
        if not 0.0 < decay <= 1.0:
            raise ValueError(f"`decay` must be in (0, 1]. Received: decay={decay!r}.")
        factors = {}
        for place, block in enumerate(blocks(self.backbone)):
            factors.update(
                {variable.ref(): decay ** (self.num_blocks - 1 - place) for variable in block.weights}
            )
        lowest = decay**self.num_blocks
        return [
            (variable, factors.get(variable.ref(), lowest)) for variable in self.backbone.trainable_weights
        ]

    def _backbone_variables(self) -> dict[str, tf.Variable]:
        """The backbone's variables by their path in it, the same in every instance."""
        return {variable.name.rpartition("backbone/")[2]: variable for variable in self.backbone.weights}

    def digest(self) -> str:
        """A sha256 over what decides the vectors (weights, architecture, pooling, scaling): a cache's key.

        What only matters in training (stage, dropout) does not count.
        """
        self.build(None)
        scorer = {
            f"scorer/{place}": value for place, value in enumerate(self.scorer.weights if self.scorer else ())
        }
        scale = self.lora_alpha / self.lora_rank if self.stage == "lora" else None
        config = {name: value for name, value in self.config.items() if "dropout" not in name}
        settings = [config, self.pooling, self.normalize, scale, self.compute_dtype]
        content = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
        for name, variable in sorted({**self._backbone_variables(), **scorer}.items()):
            value = variable.numpy()
            content.update(f"{name} {value.dtype} {value.shape}".encode())
            content.update(value.tobytes())
        return content.hexdigest()

    def get_config(self):
        return {
            **super().get_config(),
            "config": dict(self.config),
            "pooling": self.pooling,
            "stage": self.stage,
            "top_n": self.top_n,
            "normalize": self.normalize,
            "lora_rank": self.lora_rank,
            "lora_alpha": self.lora_alpha,
            "lora_targets": list(self.lora_targets),
        }


def _check_choice(argument: str, value: Any, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"`{argument}` must be one of {', '.join(map(repr, choices))}. Received: {value!r}.")


def _check_inputs(inputs: Any, most: int | None) -> None:
    if not isinstance(inputs, dict) or not {"input_ids", "attention_mask"} <= set(inputs):
        raise ValueError(
            "A text encoder takes a dictionary with `input_ids` and `attention_mask`, as tokenizers give it. "
            f"Received: {sorted(inputs) if isinstance(inputs, dict) else type(inputs).__name__}."
        )
    shape = inputs["input_ids"].shape
    if shape.rank != 2 or not inputs["input_ids"].dtype.is_integer:
        raise ValueError(
            "`input_ids` must be integers of shape [batch, length]. "
            f"Received: {inputs['input_ids'].dtype.name} of shape {shape}."
        )
    if most is not None and shape[1] is not None and shape[1] > most:
        raise ValueError(
            f"Texts must be at most {most} tokens long, for which this encoder has positions. Received:"
            f" {shape[1]}. Make the tokenizer with max_length={most} or less."
        )
