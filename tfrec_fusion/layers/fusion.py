"""Fusion of modalities (id, text, images, …) into one vector, and what lets a model live without one of them.

Every layer takes a dictionary, modality name → float vectors `[..., dim of that modality]` with equal leading
dimensions (`[batch]`, or `[batch, T]` for histories), and reads it in alphabetical order of names, so that
the order in which a dictionary was filled never matters. Layers with an argument `dim` project each modality
to it.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import tensorflow as tf
import tf_keras

from tfrec_fusion.layers import stateless_random as repeatable
from tfrec_fusion.layers.experts import for_all, glorot_per_expert
from tfrec_fusion.layers.input_checks import check_modalities
from tfrec_fusion.naming import identifier


class _Fusion(tf_keras.layers.Layer):
    """Checks the dictionary of modalities once, and knows their names and dims after `build`."""

    def __init__(self, dim: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if dim < 1:
            raise ValueError(f"`dim` must be at least 1. Received: dim={dim}.")
        self.dim = dim

    def build(self, input_shape: Mapping[str, tf.TensorShape]) -> None:
        self.modality_dims = _modality_dims(self, input_shape)
        super().build(input_shape)

    def compute_output_shape(self, input_shape: Mapping[str, tf.TensorShape]) -> tf.TensorShape:
        return tf.TensorShape(next(iter(input_shape.values())))[:-1].concatenate([self.dim])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "dim": self.dim}

    def _concatenated(self, inputs: Mapping[str, tf.Tensor]) -> tf.Tensor:
        return tf.concat([inputs[name] for name in self.modality_dims], axis=-1)

    def _dense(self, name: str, input_dim: int, units: int, **kwargs: Any) -> tf_keras.layers.Dense:
        dense = tf_keras.layers.Dense(units, name=name, dtype=self.dtype_policy, **kwargs)
        dense.build([None, input_dim])
        return dense


@tf_keras.saving.register_keras_serializable(package="tfrec_fusion")
class ConcatFusion(tf_keras.layers.Layer):
    """Puts the modalities side by side, in alphabetical order of names; learns nothing."""

    def build(self, input_shape: Mapping[str, tf.TensorShape]) -> None:
        self.modality_dims = _modality_dims(self, input_shape)
        super().build(input_shape)

    def call(self, inputs: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Concatenates.

        Args:
            inputs: floats `[..., dim]` per modality.

        Returns:
            `[..., sum of dims]`.
        """
        check_modalities(type(self).__name__, inputs, self.modality_dims)
        return tf.concat([inputs[name] for name in self.modality_dims], axis=-1)


@tf_keras.saving.register_keras_serializable(package="tfrec_fusion")
class ProjectionFusion(_Fusion):
    """A dense layer over the concatenated modalities: `activation(W [x_1; …; x_n] + b)`.

    Args:
        dim: of the output.
        activation: name of a Keras activation, None for a linear map.
    """

    def __init__(self, dim: int, activation: str | None = None, **kwargs: Any) -> None:
        super().__init__(dim, **kwargs)
        self.activation = activation

    def build(self, input_shape: Mapping[str, tf.TensorShape]) -> None:
        super().build(input_shape)
        total = sum(self.modality_dims.values())
        self.projection = self._dense("projection", total, self.dim, activation=self.activation)

    def call(self, inputs: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Maps floats `[..., dim of the modality]` per modality to `[..., dim]`."""
        check_modalities(type(self).__name__, inputs, self.modality_dims)
        return self.projection(self._concatenated(inputs))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "activation": self.activation}


@tf_keras.saving.register_keras_serializable(package="tfrec_fusion")
class GatedFusion(_Fusion):
    """A gate chooses, element by element, how much each modality says: the gated multimodal unit.

    `h_i = activation(W_i x_i + b_i)`, `z = softmax_i(V_i [x_1; …; x_n] + c_i)`, `y = Σ_i z_i ⊙ h_i`. For two
    modalities the softmax is the paper's `z` and `1 - z`; for more, the paper takes independent sigmoids,
    whose sum grows with the number of modalities, where these gates always sum to 1. With `reads_activity`
    the gate also reads how much is known, `z = softmax_i(V_i [x_1; …; x_n; a] + c_i)`, `a = log(1 + n) / 10`
    of `n` observations: how much an id is to be trusted does not have to be told from the id itself.

    Args:
        dim: of the output.
        activation: of the projected modalities, `tanh` in the paper; None for a linear map.
        reads_activity: whether the gate reads `activity`.

    Reference: Arevalo et al., 2017, https://arxiv.org/abs/1702.01992
    """

    def __init__(
        self, dim: int, activation: str | None = "tanh", reads_activity: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(dim, **kwargs)
        self.activation = activation
        self.reads_activity = reads_activity

    def build(self, input_shape: Mapping[str, tf.TensorShape]) -> None:
        super().build(input_shape)
        total = sum(self.modality_dims.values())
        self.projections = {
            name: self._dense(f"project_{identifier(name)}", dim, self.dim, activation=self.activation)
            for name, dim in self.modality_dims.items()
        }
        total += int(self.reads_activity)
        self.gate = self._dense("gate", total, self.dim * len(self.modality_dims))

    def call(
        self,
        inputs: Mapping[str, tf.Tensor],
        return_gates: bool = False,
        activity: tf.Tensor | None = None,
    ) -> Any:
        """Weighs each modality by a learned gate and sums them.

        Args:
            inputs: floats `[..., dim of the modality]` per modality.
            return_gates: also returns the gates, for explanations.
            activity: numbers `[...]` from 0 on, how many observations stand behind each row; needed with
                `reads_activity`, and not read without.

        Returns:
            `[..., dim]`; with `return_gates` a pair of it and, per modality, its gate `[..., dim]` in (0, 1).

        Raises:
            ValueError: if `activity` is needed and not given.
        """
        check_modalities(type(self).__name__, inputs, self.modality_dims)
        read = self._concatenated(inputs)
        if self.reads_activity:
            if activity is None:
                raise ValueError(
                    "`activity` must be given to a fusion with `reads_activity`. Received: None. Say how many"
                    " observations stand behind each row, 0 where nobody knows."
                )
            known = tf.math.log1p(tf.cast(activity, tf.float32)) / 10.0
            read = tf.concat([read, tf.cast(known, read.dtype)[..., tf.newaxis]], -1)
        logits = tf.split(self.gate(read), len(self.modality_dims), axis=-1)
        gates = _softmax_over(logits)
        projected = (self.projections[name](inputs[name]) for name in self.modality_dims)
        fused = tf.add_n([gate * vector for gate, vector in zip(gates, projected, strict=True)])
        if return_gates:
            return fused, dict(zip(self.modality_dims, gates, strict=True))
        return fused

    def get_config(self) -> dict[str, Any]:
        config = {"activation": self.activation, "reads_activity": self.reads_activity}
        return {**super().get_config(), **config}


def _softmax_over(logits: list[tf.Tensor]) -> list[tf.Tensor]:
    """Softmax over the members of a list, element by element.

    `tf.nn.softmax` over a stack's first axis transposes it there and back, which takes four times as long.
    """
    if len(logits) == 2:
        first = tf.sigmoid(logits[0] - logits[1])
        return [first, 1.0 - first]
    highest = tf.stop_gradient(functools.reduce(tf.maximum, logits))
    shares = [tf.exp(logit - highest) for logit in logits]
    total = tf.add_n(shares)
    return [share / total for share in shares]


@tf_keras.saving.register_keras_serializable(package="tfrec_fusion")
class AttentionFusion(_Fusion):
    """Attention over modalities: one weight a modality, from what it and the others say.

    `p_i = W_i x_i + b_i`, `a = softmax_i(v · tanh(U p_i + c))`, `y = Σ_i a_i p_i`: the additive attention of
    hierarchical attention networks, with modalities instead of words.

    Args:
        dim: of the output.
        attention_dim: width of `U p_i`; None: `dim`.

    Reference: Yang et al., 2016, https://aclanthology.org/N16-1174
    """

    def __init__(self, dim: int, attention_dim: int | None = None, **kwargs: Any) -> None:
        super().__init__(dim, **kwargs)
        if attention_dim is not None and attention_dim < 1:
            raise ValueError(
                "`attention_dim` must be at least 1, or None for `dim`. Received:"
                f" attention_dim={attention_dim}."
            )
        self.attention_dim = attention_dim

    def build(self, input_shape: Mapping[str, tf.TensorShape]) -> None:
        super().build(input_shape)
        self.projections = {
            name: self._dense(f"project_{identifier(name)}", dim, self.dim)
            for name, dim in self.modality_dims.items()
        }
        attention_dim = self.attention_dim or self.dim
        self.attention = self._dense("attention", self.dim, attention_dim, activation="tanh")
        self.score = self._dense("score", attention_dim, 1, use_bias=False)

    def call(self, inputs: Mapping[str, tf.Tensor], return_weights: bool = False) -> Any:
        """Sums the projected modalities by attention.

        Args:
            inputs: floats `[..., dim of the modality]` per modality.
            return_weights: also returns the attention weights, for explanations.

        Returns:
            `[..., dim]`; with `return_weights` a pair of it and, per modality, its weight `[...]` in (0, 1).
        """
        check_modalities(type(self).__name__, inputs, self.modality_dims)
        projected = tf.stack([self.projections[name](inputs[name]) for name in self.modality_dims])
        weights = tf.nn.softmax(self.score(self.attention(projected)), axis=0)
        fused = tf.reduce_sum(weights * projected, axis=0)
        if return_weights:
            return fused, dict(zip(self.modality_dims, tf.unstack(tf.squeeze(weights, -1)), strict=True))
        return fused

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "attention_dim": self.attention_dim}


@tf_keras.saving.register_keras_serializable(package="tfrec_fusion")
class FilmFusion(_Fusion):
    """One modality is scaled and shifted by the others (feature-wise linear modulation).

    `h = W x_base + b`, `[γ; β] = V [others] + c`, `y = (1 + γ) ⊙ h + β`.

    Args:
        dim: of the output.
        base: name of the modality that the others modulate.

    Reference: Perez et al., 2018, https://arxiv.org/abs/1709.07871
    """

    def __init__(self, dim: int, base: str, **kwargs: Any) -> None:
        super().__init__(dim, **kwargs)
        self.base = base

    def build(self, input_shape: Mapping[str, tf.TensorShape]) -> None:
        super().build(input_shape)
        if self.base not in self.modality_dims or len(self.modality_dims) < 2:
            raise ValueError(
                "`base` must name one of at least two modalities. "
                f"Received: base={self.base!r} with modalities {list(self.modality_dims)}."
            )
        self.conditions = [name for name in self.modality_dims if name != self.base]
        self.projection = self._dense("projection", self.modality_dims[self.base], self.dim)
        condition_dim = sum(self.modality_dims[name] for name in self.conditions)
        self.modulation = self._dense("modulation", condition_dim, 2 * self.dim)

    def call(self, inputs: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Maps floats `[..., dim of the modality]` per modality to `[..., dim]`."""
        check_modalities(type(self).__name__, inputs, self.modality_dims)
        condition = tf.concat([inputs[name] for name in self.conditions], axis=-1)
        scale, shift = tf.split(self.modulation(condition), 2, axis=-1)
        return (1 + scale) * self.projection(inputs[self.base]) + shift

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "base": self.base}


@tf_keras.saving.register_keras_serializable(package="tfrec_fusion")
class ExpertsFusion(_Fusion):
    """A mixture-of-experts adaptor: experts whiten the concatenated modalities, a gate mixes the experts.

    `x = [x_1; …; x_n]`, expert `e_k = W_k (x - b_k)` (parametric whitening), gate
    `g = softmax(U x + ε ⊙ softplus(V x))` with standard normal `ε` in training and `ε = 0` otherwise,
    `y = Σ_k g_k e_k`. In UniSRec `x` is the text vector alone and each expert draws a dropout mask of its
    own; here all share one.

    Args:
        dim: of the output.
        num_experts: how many experts are mixed.
        dropout: share of the elements of `x` dropped before the experts in training, in [0, 1).
        noise: whether the gate is noisy in training, which keeps all experts in use.

    Reference: Hou et al., 2022 (UniSRec), https://arxiv.org/abs/2206.05941
    """

    def __init__(
        self, dim: int, num_experts: int = 8, dropout: float = 0.2, noise: bool = True, **kwargs: Any
    ) -> None:
        super().__init__(dim, **kwargs)
        if num_experts < 1:
            raise ValueError(f"`num_experts` must be at least 1. Received: num_experts={num_experts}.")
        if not 0 <= dropout < 1:
            raise ValueError(f"`dropout` must be in [0, 1). Received: dropout={dropout}.")
        self.num_experts = num_experts
        self.dropout = dropout
        self.noise = noise
        self.input_dropout = repeatable.Dropout(dropout, dtype=self.dtype_policy)

    def build(self, input_shape: Mapping[str, tf.TensorShape]) -> None:
        super().build(input_shape)
        total = sum(self.modality_dims.values())
        self.bias = self.add_weight(name="bias", shape=[self.num_experts, total], initializer="zeros")
        self.kernel = self.add_weight(
            name="kernel",
            shape=[self.num_experts, total, self.dim],
            initializer=glorot_per_expert,
        )
        self.gate = self._dense("gate", total, self.num_experts, use_bias=False)
        if self.noise:
            self.gate_noise = self._dense("gate_noise", total, self.num_experts, use_bias=False)

    def call(self, inputs: Mapping[str, tf.Tensor], training: bool | None = None) -> tf.Tensor:
        """Maps floats `[..., dim of the modality]` per modality to `[..., dim]`."""
        check_modalities(type(self).__name__, inputs, self.modality_dims)
        features = self._concatenated(inputs)
        logits = self.gate(features)
        if self.noise and training:
            noise = repeatable.normal(tf.shape(logits), logits.dtype)
            logits += noise * tf.nn.softplus(self.gate_noise(features))
        gates = tf.nn.softmax(logits)
        dropped = self.input_dropout(features, training=training)
        # W_k (x - b_k) = W_k x - W_k b_k, which avoids an [..., experts, total] array.
        experts = for_all(dropped, self.kernel)
        experts -= tf.einsum("ki,kij->kj", self.bias, self.kernel)
        return tf.einsum("...k,...kj->...j", gates, experts)

    def get_config(self) -> dict[str, Any]:
        config = {"num_experts": self.num_experts, "dropout": self.dropout, "noise": self.noise}
        return {**super().get_config(), **config}


@tf_keras.saving.register_keras_serializable(package="tfrec_fusion")
class ModalityDropout(tf_keras.layers.Layer):
    """Teaches a model to do without a modality, and stands in for one that is missing.

    In training each modality named in `rates` is dropped from an example with its rate, so that what follows
    learns to recommend items without history from their text, and items without text from their id. An
    example never loses all that it has: when the draws would leave it nothing, it keeps everything. At any
    time, `presence` says which modalities an example has; one that is absent is replaced as a dropped one is.

    Args:
        rates: modality name → share of the examples it is dropped from in training, in [0, 1). A modality not
            named is never dropped. Because an example never loses everything, the share seen is a little
            lower: with rates r and s of two modalities, the first is dropped from r (1 - s) of the examples.
        replacement: `learned` replaces a missing modality by a learned vector, which starts at zero, `zero`
            by zeros.
        seed: of the draws.

    Reference: Volkovs et al., 2017 (DropoutNet), https://papers.nips.cc/paper/7081
    """

    def __init__(
        self,
        rates: Mapping[str, float] | None = None,
        replacement: str = "learned",
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        for name, rate in (rates or {}).items():
            if not 0 <= rate < 1:
                raise ValueError(f"`rates` must be in [0, 1). Received: {rate} for {name!r}.")
        if replacement not in ("learned", "zero"):
            raise ValueError(f"`replacement` must be 'learned' or 'zero'. Received: {replacement!r}.")
        self.rates = dict(rates or {})
        self.replacement = replacement
        self.seed = seed

    def build(self, input_shape: Mapping[str, tf.TensorShape]) -> None:
        self.modality_dims = _modality_dims(self, input_shape)
        unknown = sorted(set(self.rates) - set(self.modality_dims))
        if unknown:
            raise ValueError(
                f"`rates` must name modalities of the inputs ({', '.join(self.modality_dims)}). Received:"
                f" {unknown}."
            )
        if self.replacement == "learned":
            self.missing = {
                name: self.add_weight(name=f"missing_{identifier(name)}", shape=[dim], initializer="zeros")
                for name, dim in self.modality_dims.items()
            }
        super().build(input_shape)

    def call(
        self,
        inputs: Mapping[str, tf.Tensor],
        presence: Mapping[str, tf.Tensor] | None = None,
        training: bool | None = None,
    ) -> dict[str, tf.Tensor]:
        """Drops and replaces modalities.

        Args:
            inputs: floats `[..., dim of the modality]` per modality; what an absent one holds does not
                matter.
            presence: bool `[...]` per modality, True where the example has it; a modality left out is
                present.
            training: whether modalities are dropped.

        Returns:
            The inputs' dictionary, missing modalities replaced.

        Raises:
            ValueError: if `presence` names an unknown modality or is not bool.
        """
        presence = {name: tf.convert_to_tensor(mask) for name, mask in (presence or {}).items()}
        for name, mask in presence.items():
            if name not in self.modality_dims:
                raise ValueError(
                    f"`presence` must name modalities of the inputs ({', '.join(self.modality_dims)}). "
                    f"Received: {name!r}."
                )
            if mask.dtype != tf.bool:
                raise ValueError(f"`presence` must be bool. Received: {mask.dtype.name} for {name!r}.")
        kept = self._drop(inputs, presence) if training and self.rates else presence
        outputs = {}
        for name in self.modality_dims:
            vectors = inputs[name]
            if name in kept:
                missing = tf.zeros([], vectors.dtype)
                if self.replacement == "learned":
                    missing = tf.cast(self.missing[name], vectors.dtype)
                vectors = tf.where(kept[name][..., tf.newaxis], vectors, missing)
            outputs[name] = vectors
        return outputs

    def _drop(
        self, inputs: Mapping[str, tf.Tensor], presence: Mapping[str, tf.Tensor]
    ) -> dict[str, tf.Tensor]:
        """Draws what each example keeps: bool `[...]` per modality."""
        leading = tf.shape(next(iter(inputs.values())))[:-1]
        present = {name: presence.get(name, tf.ones(leading, tf.bool)) for name in self.modality_dims}
        kept = dict(present)
        for position, name in enumerate(self.modality_dims):
            if self.rates.get(name):
                seed = None if self.seed is None else self.seed + position
                kept[name] = present[name] & (repeatable.uniform(leading, seed) >= self.rates[name])
        something_left = tf.reduce_any(tf.stack(list(kept.values())), axis=0)
        return {name: tf.where(something_left, kept[name], present[name]) for name in kept}

    def compute_output_shape(self, input_shape: Mapping[str, tf.TensorShape]) -> dict[str, tf.TensorShape]:
        return {name: tf.TensorShape(shape) for name, shape in input_shape.items()}

    def get_config(self) -> dict[str, Any]:
        config = {"rates": dict(self.rates), "replacement": self.replacement, "seed": self.seed}
        return {**super().get_config(), **config}


def _modality_dims(layer: tf_keras.layers.Layer, input_shape: Any) -> dict[str, int]:
    """The last dimension of each modality, by name in alphabetical order; raises where they do not fit."""
    kind = type(layer).__name__
    if not isinstance(input_shape, Mapping) or not input_shape:
        raise ValueError(
            f"{kind} needs a dictionary, modality name → vectors [..., dim]. Received shapes: {input_shape}. "
            "Name what you fuse, for example {'id': ids, 'text': texts}."
        )
    shapes = {name: tf.TensorShape(input_shape[name]) for name in sorted(input_shape)}
    first = next(iter(shapes.values()))
    for shape in shapes.values():
        if shape.rank is None or shape.rank < 2 or shape[-1] is None:
            raise ValueError(
                f"{kind} needs vectors [..., dim] with a fixed dim per modality. Received shapes: {shapes}."
            )
        if not shape[:-1].is_compatible_with(first[:-1]):
            raise ValueError(f"The modalities must have equal leading dimensions. Received shapes: {shapes}.")
    return {name: int(shape[-1]) for name, shape in shapes.items()}
