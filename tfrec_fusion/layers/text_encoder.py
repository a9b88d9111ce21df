"""A pretrained Transformer as a Keras layer: token ids in, one vector a text out."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from tfrec_fusion.layers.backbones.families import architecture_of, family_of, plain_config
from tfrec_fusion.layers.backbones.loading import load
from tfrec_fusion.layers.backbones.parts import activation_function
from tfrec_fusion.layers.backbones.transformer import Transformer
from tfrec_fusion.layers.backbones.weight_files import from_keras_names, read_tensors
from tfrec_fusion.layers.input_checks import check_choice
from tfrec_fusion.layers.lora import LoraDense, check_rank
from tfrec_fusion.layers.pooling import POOLINGS, Pooling
from tfrec_fusion.layers.pretrained import find_pretrained, read_config
from tfrec_fusion.layers.sentence_modules import read_sentence_modules

STAGES = ("frozen", "top_n", "lora", "full")
# Where a block keeps its matrices, by the names that LoRA's targets use.
MATRICES = {
    "query": ("attention", "query"),
    "key": ("attention", "key"),
    "value": ("attention", "value"),
    "output": ("attention", "output_matrix"),
    "ffn_in": ("feed_forward", "ffn_in"),
    "ffn_gate": ("feed_forward", "ffn_gate"),
    "ffn_out": ("feed_forward", "ffn_out"),
}


@tf_keras.saving.register_keras_serializable(package="tfrec_fusion")
class TextEncoder(tf_keras.layers.Layer):
    """A Transformer of one of Hugging Face's families, pooled to one vector a text.

    >>> tokenizer = load_tokenizer("all-MiniLM-L6-v2", max_length=32)
    >>> encoder = TextEncoder.from_pretrained("all-MiniLM-L6-v2", normalize=True)
    >>> encoder(tokenizer(["a space adventure with robots"])).shape
    TensorShape([1, 384])

    For many texts at once see `encode_texts`.

    **Stages** say what is trained. ``frozen``: nothing, and dropout stays off, so that vectors may be
    computed once and kept. ``top_n``: the `top_n` upper blocks. ``lora``: low-rank updates of the matrices
    `lora_targets` in the `top_n` upper blocks (in all, where `top_n` is None). ``full``: everything. Learned
    attention pooling is trained in every stage, `dense` layers in ``top_n`` and ``full``. Below the first
    trained block dropout is off too, so that `lower` may be cached.

    Args:
        config: the keys of a `config.json`, `model_type` included (one of `backbones.families`). Weights are
            random; see `from_pretrained` for others.
        pooling: see `Pooling`.
        stage: ``"frozen"``, ``"top_n"``, ``"lora"`` or ``"full"``.
        top_n: how many upper blocks `top_n` and `lora` train.
        normalize: whether vectors are scaled to length 1.
        lora_rank, lora_alpha: see `LoraDense`.
        lora_targets: any of query, key, value, output, ffn_in, ffn_gate (where there is a gate), ffn_out.
        dense: layers behind the pooling, as sentence-transformers' `Dense` has them: each a mapping with
            `units`, `activation` (see `backbones.parts`) and `use_bias`.
        truncate_dim: vectors are cut to this many numbers, before they are scaled; for encoders that were
            trained so (Kusupati et al., 2022, https://arxiv.org/abs/2205.13147). None: whole.

    Raises:
        ValueError: for an unknown pooling, stage, target or `model_type`, a `top_n` outside 1 … blocks, or a
            `truncate_dim` outside 1 … the vector's length.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        pooling: str = "mean",
        stage: str = "frozen",
        top_n: int | None = None,
        normalize: bool = False,
        lora_rank: int = 8,
        lora_alpha: float = 16.0,
        lora_targets: Sequence[str] = ("query", "value"),
        dense: Sequence[Mapping[str, Any]] = (),
        truncate_dim: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_choice("pooling", pooling, POOLINGS)
        check_choice("stage", stage, STAGES)
        self.config = plain_config(config)
        self.pooling = pooling
        self.stage = stage
        self.top_n = top_n
        self.normalize = normalize
        self.lora_rank = lora_rank
        self.lora_alpha = lora_alpha
        self.lora_targets = tuple(lora_targets)
        self.dense = [dict(layer) for layer in dense]
        self.truncate_dim = truncate_dim
        architecture = architecture_of(self.config)
        targets = tuple(name for name in MATRICES if name != "ffn_gate" or architecture.gated)
        for target in lora_targets:
            check_choice("lora_targets", target, targets)
        self.backbone = Transformer(architecture, dtype=self.dtype_policy, name="backbone")
        self.num_blocks = architecture.num_blocks
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
            check_rank(lora_rank)
        self._pooling = Pooling(pooling, name="pooling")
        self._dense = [
            tf_keras.layers.Dense(
                layer["units"],
                activation=activation_function(layer.get("activation", "linear")),
                use_bias=layer.get("use_bias", True),
                dtype="float32",
                name=f"dense_{place}",
            )
            for place, layer in enumerate(self.dense)
        ]
        whole = self._dense[-1].units if self._dense else self.width
        if truncate_dim is not None and not 1 <= truncate_dim <= whole:
            raise ValueError(
                f"`truncate_dim` must be between 1 and the length of the encoder's vectors ({whole})."
                f" Received: truncate_dim={truncate_dim!r}."
            )

    @classmethod
    def from_pretrained(
        cls,
        name_or_folder: str | os.PathLike,
        pooling: str | None = None,
        stage: str = "frozen",
        normalize: bool | None = None,
        **kwargs: Any,
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
            ValueError: if the architecture is not supported, weights do not fit it, or the folder names a
                module or a pooling that there is not here.
        """
        folder = find_pretrained(name_or_folder)
        config = read_config(folder)
        said = read_sentence_modules(folder)
        if pooling is not None and said.pooling not in (None, pooling):
            warnings.warn(
                f"`pooling` is {pooling!r}, while the encoder was trained with {said.pooling!r}"
                f" ({folder.name}). Leave `pooling` out to take the encoder's own.",
                stacklevel=2,
            )
        encoder = cls(
            config,
            pooling=pooling or said.pooling or "mean",
            stage=stage,
            normalize=said.normalize if normalize is None else normalize,
            dense=[module.settings() for module in said.dense],
            **kwargs,
        )
        encoder._load(read_tensors(folder), repr(str(folder)))
        for layer, module in zip(encoder._dense, said.dense, strict=True):
            for variable, value in zip(layer.weights, module.weights(), strict=True):
                variable.assign(value)
        return encoder

    @classmethod
    def from_model(cls, model: tf_keras.Model, **kwargs: Any) -> TextEncoder:
        """Creates the layer with the weights of one of transformers' Keras models, where there are such.

        Args:
            model: for example a `TFBertModel`, built; it is copied from and stays as it is.
            **kwargs: arguments of the class other than `config`.

        Returns:
            The layer, built.

        Raises:
            ValueError: as `from_pretrained`.
        """
        encoder = cls(model.config.to_dict(), **kwargs)
        variables = {variable.name: variable.numpy() for variable in model.weights}
        encoder._load(from_keras_names(variables), f"the model {model.name!r}")
        return encoder

    def _load(self, tensors: Mapping[str, np.ndarray], source: str) -> None:
        self.build(None)
        load(self.backbone, family_of(self.config), tensors, source)

    @property
    def dim(self) -> int:
        """The length of a vector."""
        return self.truncate_dim or (self._dense[-1].units if self._dense else self.width)

    @property
    def width(self) -> int:
        """The length of a token's vector between blocks: what `lower` gives."""
        return self.backbone.architecture.width

    @property
    def max_length(self) -> int:
        """Tokens that a text may have at most."""
        return self.backbone.max_length

    @property
    def first_trained_block(self) -> int:
        """Blocks below this index are frozen and give the same output in training; 0 means none are."""
        if self.stage == "full":
            return 0
        if self.stage == "frozen":
            return self.num_blocks
        return self.num_blocks - (self.top_n or self.num_blocks)

    def build(self, input_shape: Any = None) -> None:
        if self.built:
            return
        with tf.name_scope("backbone"):
            self.backbone.build(None)
            if self.stage == "lora":
                self._insert_lora()
        width = self.width
        for layer in (self._pooling, *self._dense):
            with tf.name_scope(layer.name):
                layer.build([None, None, width] if layer is self._pooling else [None, width])
            width = getattr(layer, "units", width)
        super().build(input_shape)

    def call(self, inputs: dict[str, tf.Tensor], training: bool | None = None) -> tf.Tensor:
        """Encodes texts.

        Args:
            inputs: a tokenizer's output: `input_ids` and `attention_mask`, int32 `[batch, length]`, and
                optionally `token_type_ids` (not used by models without segments).
            training: whether dropout is on in trained blocks.

        Returns:
            float32 `[batch, dim]` (the compute dtype under mixed precision; pooling itself runs in float32).
            A row of padding alone: see `Pooling`.
        """
        _check_inputs(inputs, self.max_length)
        # AutoGraph would rewrite all sources below, which takes longer than the rest of a trace.
        return tf.autograph.experimental.do_not_convert(self._encode)(inputs, training)

    def _encode(self, inputs: dict[str, tf.Tensor], training: bool | None) -> tf.Tensor:
        return self.upper(self.lower(inputs), inputs["attention_mask"], training=training)

    def lower(self, inputs: dict[str, tf.Tensor], training: bool | None = None) -> tf.Tensor:
        """Runs what is not trained: embeddings and the blocks below `first_trained_block`.

        Args:
            inputs: as for `call`.
            training: only counts in stage ``full``, whose embeddings are trained.

        Returns:
            `[batch, length, width]`, which may be cached and given to `upper` later.
        """
        self.build(None)
        hidden = self.backbone.embed(inputs, bool(training) and self.stage == "full")
        hidden = self.backbone.run(hidden, inputs["attention_mask"], 0, self.first_trained_block)
        return hidden if self.stage == "full" else tf.stop_gradient(hidden)

    def embed(self, inputs: dict[str, tf.Tensor]) -> tf.Tensor:
        """The embeddings alone, which gradients may be taken of: `[batch, length, width]`; `inputs` as for
        `call`."""
        self.build(None)
        return self.backbone.embed(inputs)

    def encode_embedded(self, hidden: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        """All behind `embed`: `[batch, length, width]` and int32 `[batch, length]` to `[batch, dim]`."""
        hidden = self.backbone.run(hidden, mask, 0, self.first_trained_block)
        return self.upper(hidden, mask, training=False)

    def upper(self, hidden: tf.Tensor, mask: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Runs the trained blocks on what `lower` gave, and pools.

        Args:
            hidden: `[batch, length, width]`.
            mask: int32 `[batch, length]`, 0 at padding.
            training: whether dropout is on.

        Returns:
            `[batch, dim]`.
        """
        self.build(None)
        hidden = tf.cast(hidden, self.compute_dtype)
        hidden = self.backbone.run(hidden, mask, self.first_trained_block, training=bool(training))
        vectors = self._pooling(hidden, mask)
        for layer in self._dense:
            vectors = layer(vectors)
        vectors = vectors[:, : self.truncate_dim]
        if self.normalize:
            vectors = tf.math.l2_normalize(vectors, axis=-1)
        return tf.cast(vectors, self.compute_dtype)

    def compute_output_shape(self, input_shape: Any) -> tf.TensorShape:
        return tf.TensorShape([tf.TensorShape(input_shape["input_ids"])[0], self.dim])

    @property
    def _head_weights(self) -> list[tf.Variable]:
        return [variable for layer in (self._pooling, *self._dense) for variable in layer.weights]

    @property
    def trainable_weights(self) -> list[tf.Variable]:
        """The variables that the stage trains; none where the layer or one around it is frozen."""
        if not self.trainable or not self.built:
            return []
        head = list(self._pooling.weights)
        if self.stage in ("top_n", "full"):
            head = self._head_weights
        if self.stage == "full":
            return list(self.backbone.weights) + head
        blocks = self.backbone.blocks[self.first_trained_block :]
        upper = [variable for block in blocks for variable in block.weights]
        if self.stage == "lora":
            upper = [variable for variable in upper if "/lora_" in variable.name]
        elif upper and self.backbone.final_norm is not None:
            upper += self.backbone.final_norm.weights
        return upper + head

    @property
    def non_trainable_weights(self) -> list[tf.Variable]:
        """All other variables."""
        if not self.built:
            return []
        trained = {variable.ref() for variable in self.trainable_weights}
        everything = list(self.backbone.weights) + self._head_weights
        return [variable for variable in everything if variable.ref() not in trained]

    def _insert_lora(self) -> None:
        for block in self.backbone.blocks[self.first_trained_block :]:
            for target in self.lora_targets:
                part, name = MATRICES[target]
                holder = getattr(block, part)
                base = getattr(holder, name)
                layer = LoraDense(base, self.lora_rank, self.lora_alpha)
                with tf.name_scope(f"{block.name}/{part}/{base.name}"):
                    layer.build([None, base.kernel.shape[0]])
                setattr(holder, name, layer)

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
        self.build(None)
        for block in self.backbone.blocks[self.first_trained_block :]:
            for target in self.lora_targets:
                part, name = MATRICES[target]
                holder = getattr(block, part)
                setattr(holder, name, getattr(holder, name).merge())
        self.stage = "frozen"

    def learning_rate_multipliers(self, decay: float) -> list[tuple[tf.Variable, float]]:
        """Layer-wise learning-rate decay: the highest block gets 1, each lower one `decay` times the one
        above.

        Args:
            decay: in (0, 1]; 0.8 to 0.95 is usual.

        Returns:
            Each trainable variable of the backbone with its factor; the embeddings come below the lowest
            block, and a norm behind the last block counts as part of it. Give them to
            `layerwise_decay.with_multipliers`.

        Raises:
            ValueError: for a `decay` outside (0, 1].
        """
        if not 0.0 < decay <= 1.0:
            raise ValueError(f"`decay` must be in (0, 1]. Received: decay={decay!r}.")
        factors = {}
        final = self.backbone.final_norm
        if final is not None:
            factors = {variable.ref(): 1.0 for variable in final.weights}
        for place, block in enumerate(self.backbone.blocks):
            factors.update(
                {variable.ref(): decay ** (self.num_blocks - 1 - place) for variable in block.weights}
            )
        lowest = decay**self.num_blocks
        return [
            (variable, factors.get(variable.ref(), lowest)) for variable in self.backbone.trainable_weights
        ]

    def digest(self) -> str:
        """A sha256 over everything that decides the vectors: a key for caches of them.

        Two encoders with the same weights and settings have the same digest; what is trained, and how, does
        not count.
        """
        self.build(None)
        scale = self.lora_alpha / self.lora_rank if self.stage == "lora" else None
        config = {
            name: value
            for name, value in self.config.items()
            if "drop" not in name and name != "initializer_range"
        }
        settings = [config, self.pooling, self.normalize, scale, self.compute_dtype]
        settings += [self.dense, self.truncate_dim]
        content = hashlib.sha256(json.dumps(_plain(settings), sort_keys=True).encode())
        head = {str(place): variable for place, variable in enumerate(self._head_weights)}
        for name, variable in sorted({**self.backbone_variables(), **head}.items()):
            value = variable.numpy()
            content.update(f"{name} {value.dtype} {value.shape}".encode())
            content.update(value.tobytes())
        return content.hexdigest()

    def backbone_variables(self) -> dict[str, tf.Variable]:
        """The backbone's variables by their path in it, the same in every instance."""
        return {variable.name.rpartition("backbone/")[2]: variable for variable in self.backbone.weights}

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "config": _plain(self.config),
            "pooling": self.pooling,
            "stage": self.stage,
            "top_n": self.top_n,
            "normalize": self.normalize,
            "lora_rank": self.lora_rank,
            "lora_alpha": self.lora_alpha,
            "lora_targets": list(self.lora_targets),
            "dense": _plain(self.dense),
            "truncate_dim": self.truncate_dim,
        }


def _plain(values: Any) -> Any:
    """Without the wrappers that Keras puts around dictionaries and lists."""
    return json.loads(json.dumps(values, default=dict))


def _check_inputs(inputs: Any, most: int) -> None:
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
    if shape[1] is not None and shape[1] > most:
        raise ValueError(
            f"Texts must be at most {most} tokens long, for which this encoder has positions. Received:"
            f" {shape[1]}. Make the tokenizer with max_length={most} or less."
        )
