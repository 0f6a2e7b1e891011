"""The shape of a base model: what its configuration says, and the parameters that follow from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_ARCHITECTURES = ("qwen2", "qwen3", "llama", "mistral")


class UnknownShape(Exception):
    """A configuration lacks a field, has an unusable value, or is that of another architecture."""


@dataclass(frozen=True, kw_only=True)
class ModelShape:
    """A decoder of equal layers: grouped-query attention and a gated MLP, each after an RMSNorm."""

    architecture: str
    """``model_type`` of the configuration: qwen2, qwen3, llama or mistral."""
    vocabulary: int
    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    tied_embeddings: bool
    """Whether the head is the embedding table."""
    qkv_bias: bool = False
    o_bias: bool = False
    mlp_bias: bool = False

    @classmethod
    def from_config(cls, config: object) -> ModelShape:
        """Read a Hugging Face configuration, an object as it stands in ``config.json``.

        Raises:
            UnknownShape: it names the field at fault.
        """
        if not isinstance(config, Mapping):
            raise UnknownShape("it is no JSON object")
        architecture = config.get("model_type")
        if architecture not in _ARCHITECTURES:
            raise UnknownShape(f"model_type is {architecture!r}; plans know {', '.join(_ARCHITECTURES)}")
        hidden, heads = _count(config, "hidden_size"), _count(config, "num_attention_heads")
        if config.get("head_dim") is None and (hidden % heads or architecture == "qwen3"):
            raise UnknownShape(f"head_dim is missing, and does not follow from hidden_size {hidden} and {heads} heads")
        # Llama's first configurations have as many heads for keys and values as for queries, and do not say so.
        kv_heads = _count(config, "num_key_value_heads", heads if architecture == "llama" else None)
        if heads % kv_heads:
            raise UnknownShape(f"num_attention_heads is {heads}, which num_key_value_heads {kv_heads} does not divide")
        bias = architecture in {"qwen3", "llama"} and _flag(config, "attention_bias")
        return cls(
            architecture=architecture,
            vocabulary=_count(config, "vocab_size"),
            layers=_count(config, "num_hidden_layers"),
            hidden=hidden,
            intermediate=_count(config, "intermediate_size"),
            heads=heads,
            kv_heads=kv_heads,
            head_dim=_count(config, "head_dim", hidden // heads),
            tied_embeddings=_flag(config, "tie_word_embeddings"),
            qkv_bias=bias or architecture == "qwen2",
            o_bias=bias,
            mlp_bias=architecture == "llama" and _flag(config, "mlp_bias"),
        )

    def to_config(self) -> dict[str, Any]:
        """The configuration again, without its model type, as transformers takes it."""
        return {
            "vocab_size": self.vocabulary,
            "num_hidden_layers": self.layers,
            "hidden_size": self.hidden,
            "intermediate_size": self.intermediate,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_dim,
            "tie_word_embeddings": self.tied_embeddings,
            "attention_bias": self.o_bias,
            "mlp_bias": self.mlp_bias,
        }

    # --- parameters ---

    @property
    def query_width(self) -> int:
        """Features of all query heads together."""
        return self.heads * self.head_dim

    @property
    def kv_width(self) -> int:
        """Features of all key heads together, and of all value heads."""
        return self.kv_heads * self.head_dim

    @property
    def has_qk_norm(self) -> bool:
        """Whether queries and keys are normalised by head."""
        return self.architecture == "qwen3"

    @property
    def projections(self) -> dict[str, tuple[int, int]]:
        """The seven linear layers of a layer: features in and out."""
        hidden, inner, query, kv = self.hidden, self.intermediate, self.query_width, self.kv_width
        return {
            "q_proj": (hidden, query),
            "k_proj": (hidden, kv),
            "v_proj": (hidden, kv),
            "o_proj": (query, hidden),
            "gate_proj": (hidden, inner),
            "up_proj": (hidden, inner),
            "down_proj": (inner, hidden),
        }

    @property
    def linear_parameters(self) -> int:
        """Weights of the seven projections in all layers: what NF4 quantises."""
        return self.layers * sum(wide * high for wide, high in self.projections.values())

    @property
    def embedding_parameters(self) -> int:
        """The embedding table."""
        return self.vocabulary * self.hidden

    @property
    def head_parameters(self) -> int:
        """The head, if it is a table of its own."""
        return 0 if self.tied_embeddings else self.vocabulary * self.hidden

    @property
    def bias_parameters(self) -> int:
        """Biases of the projections in all layers."""
        layer = self.qkv_bias * (self.query_width + 2 * self.kv_width) + self.o_bias * self.hidden
        return self.layers * (layer + self.mlp_bias * (2 * self.intermediate + self.hidden))

    @property
    def norm_parameters(self) -> int:
        """Two norms a layer, one at the end, and those of queries and keys."""
        return self.layers * 2 * (self.hidden + self.has_qk_norm * self.head_dim) + self.hidden

    @property
    def parameters(self) -> int:
        """All of the base model's."""
        tables = self.embedding_parameters + self.head_parameters
        return self.linear_parameters + tables + self.bias_parameters + self.norm_parameters

    def adapter_matrices(self, rank: int) -> Iterator[int]:
        """Elements of LoRA's two matrices beside each projection of one layer."""
        for wide, high in self.projections.values():
            yield rank * wide
            yield rank * high

    def adapter_parameters(self, rank: int) -> int:
        """LoRA on all seven projections of all layers."""
        return self.layers * sum(self.adapter_matrices(rank))


def _count(config: Mapping[str, Any], name: str, default: int | None = None) -> int:
    value = config.get(name)
    if value is None:
        value = default
    if value is None:
        raise UnknownShape(f"{name} is missing")
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise UnknownShape(f"{name} is {value!r}, not a whole number above 0")
    return value


def _flag(config: Mapping[str, Any], name: str) -> bool:
    value = config.get(name, False)
    if not isinstance(value, bool):
        raise UnknownShape(f"{name} is {value!r}, neither true nor false")
    return value
