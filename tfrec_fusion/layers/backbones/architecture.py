"""Settings of a Transformer's network, whatever a family's `config.json` calls them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

NormKind = Literal["layer", "rms", "rms_shifted"]
NormPosition = Literal["before", "after", "both"]


@dataclasses.dataclass(frozen=True)
class Rope:
    """Rotary positions: how fast each pair of a head's dimensions turns.

    Attributes:
        theta: the base of the frequencies.
        kind: `default`, `linear`, `llama3` or `ntk`.
        scaling: that kind's numbers, by their names in `rope_scaling`.

    Reference: Su et al., 2021, https://arxiv.org/abs/2104.09864
    """

    theta: float = 10_000.0
    kind: str = "default"
    scaling: Mapping[str, float] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Architecture:
    """A Transformer that turns token ids into one vector a token.

    Attributes:
        vocab_size: rows of the token table.
        width: the length of a token's vector between blocks.
        num_blocks: blocks.
        num_heads: heads of queries.
        ffn_dim: width inside the feed-forward part.
        max_length: tokens that a text may have at most.
        activation: of the feed-forward part, by its name in `config.json`.
        num_kv_heads: heads of keys and values, which divide `num_heads`; None for as many.
        head_dim: a head's width; None for `width / num_heads`.
        embedding_dim: the token table's width, projected to `width` where it differs; None for `width`.
        embedding_scale: what token vectors are multiplied with.
        embedding_norm: whether embeddings are normalised.
        projection_bias: whether the projection from `embedding_dim` has a bias.
        num_positions: rows of the table of learned positions; 0 for none.
        padding_id: positions count from this id on and skip its tokens (RoBERTa); None: from 0.
        num_segments: rows of the segment table; 0 for none.
        norm: `layer`, `rms`, or `rms_shifted` whose scale is stored less 1.
        norm_position: before each part, after the sum with its input, or before and after the part.
        norm_bias: whether layer norms have a bias.
        norm_epsilon: added to the variance.
        first_norm: whether the first block normalises before its attention.
        final_norm: whether the last block's output is normalised.
        qkv_bias, output_bias, ffn_bias, ffn_out_bias: which matrices have a bias.
        head_norm: whether each head's queries and keys are normalised.
        causal: whether a token sees only itself and those before it.
        score_scale: what scores are multiplied with; None for `1 / sqrt(head_dim)`.
        score_cap: scores are kept within ± this by tanh; None for no bound.
        rope: rotary positions; None for none.
        local_rope: those of local blocks.
        local_blocks: a flag a block, whether it sees `window` only.
        window: a local block sees tokens less than this many away.
        relative_buckets: buckets of a learned bias by distance (T5, MPNet); 0 for none.
        disentangled_buckets: DeBERTa's buckets of distances with vectors of their own; 0 for none.
        disentangled_norm: whether those vectors are normalised.
        gated: whether the feed-forward part is gated.
        hidden_dropout, attention_dropout, embedding_dropout: shares.
        initializer_range: the standard deviation of random weights.
    """

    vocab_size: int
    width: int
    num_blocks: int
    num_heads: int
    ffn_dim: int
    max_length: int
    activation: str = "gelu"
    num_kv_heads: int | None = None
    head_dim: int | None = None
    embedding_dim: int | None = None
    embedding_scale: float = 1.0
    embedding_norm: bool = True
    projection_bias: bool = True
    num_positions: int = 0
    padding_id: int | None = None
    num_segments: int = 0
    norm: NormKind = "layer"
    norm_position: NormPosition = "after"
    norm_bias: bool = True
    norm_epsilon: float = 1e-12
    first_norm: bool = True
    final_norm: bool = False
    qkv_bias: bool = True
    output_bias: bool = True
    ffn_bias: bool = True
    ffn_out_bias: bool = True
    head_norm: bool = False
    causal: bool = False
    score_scale: float | None = None
    score_cap: float | None = None
    rope: Rope | None = None
    local_rope: Rope | None = None
    local_blocks: tuple[bool, ...] = ()
    window: int = 0
    relative_buckets: int = 0
    disentangled_buckets: int = 0
    disentangled_norm: bool = False
    gated: bool = False
    hidden_dropout: float = 0.0
    attention_dropout: float = 0.0
    embedding_dropout: float = 0.0
    initializer_range: float = 0.02

    def __post_init__(self) -> None:
        sizes = ("vocab_size", "width", "num_heads", "ffn_dim", "max_length", "head_dim", "num_kv_heads")
        ranges = dict.fromkeys((*sizes, "embedding_dim"), (1, 100_000_000)) | {"num_blocks": (1, 1000)}
        ranges |= dict.fromkeys(("num_positions", "num_segments", "window"), (0, 100_000_000))
        for name, (low, high) in ranges.items():
            value = getattr(self, name)
            if value is None and name in ("head_dim", "num_kv_heads", "embedding_dim"):
                continue
            if type(value) is not int or not low <= value <= high:
                raise ValueError(
                    f"A Transformer's `{name}` must be a whole number from {low} to {high:,}. Received:"
                    f" {value!r}. Take the config.json that belongs to the weights."
                )
        for name in ("hidden_dropout", "attention_dropout", "embedding_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(
                    f"A Transformer's `{name}` must be from 0 to below 1. Received: {getattr(self, name)!r}."
                    " Mend the config.json."
                )
        if not self.norm_epsilon >= 0:
            raise ValueError(
                f"A Transformer's `norm_epsilon` must be at least 0. Received: {self.norm_epsilon!r}. Mend"
                " the config.json."
            )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Architecture:
        """The inverse of `dataclasses.asdict`."""
        ropes = {name: Rope(**values[name]) for name in ("rope", "local_rope") if values.get(name)}
        return cls(**{**values, **ropes, "local_blocks": tuple(values.get("local_blocks", ()))})

    @property
    def head_width(self) -> int:
        """A head's width."""
        return self.head_dim or self.width // self.num_heads

    def is_local(self, block: int) -> bool:
        """Whether a block sees a window only."""
        return bool(self.local_blocks) and self.local_blocks[block]

    def block_options(self, block: int) -> dict[str, Any]:
        """Arguments of `TransformerBlock` for the block of this index."""
        return {
            "num_heads": self.num_heads,
            "ffn_dim": self.ffn_dim,
            "num_kv_heads": self.num_kv_heads or self.num_heads,
            "head_dim": self.head_width,
            "activation": self.activation,
            "gated": self.gated,
            "norm": self.norm,
            "norm_position": self.norm_position,
            "norm_bias": self.norm_bias,
            "norm_epsilon": self.norm_epsilon,
            "attention_norm": self.first_norm or block > 0,
            "head_norm": self.head_norm,
            "qkv_bias": self.qkv_bias,
            "output_bias": self.output_bias,
            "ffn_bias": self.ffn_bias,
            "ffn_out_bias": self.ffn_out_bias,
            "score_scale": self.score_scale,
            "score_cap": self.score_cap,
            "hidden_dropout": self.hidden_dropout,
            "attention_dropout": self.attention_dropout,
            "initializer_range": self.initializer_range,
        }
