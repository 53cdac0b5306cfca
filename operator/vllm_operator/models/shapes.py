"""What sizing knows of a model: its matrices, and what each layer keeps of a sequence.

Counts, not bytes: how many bytes an element takes is the quantisation's business
(``quantization``), how matrices lie on GPUs is sizing's (``sizing/memory/weights.py``). The readers
of ``config.json`` in ``families`` build these objects.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from .caches import AttentionCache, Cache, CompressedCache, LatentCache, StateCache
from .matrices import Matrix, stored_bytes_of
from .quantization import UNQUANTIZED, Quantization, Scheme

__all__ = [
    "Architecture",
    "AttentionCache",
    "Cache",
    "CompressedCache",
    "DataType",
    "Draft",
    "LatentCache",
    "Layer",
    "Pictures",
    "StateCache",
]

DataType = Literal["bfloat16", "float16", "float32"]


@dataclass(frozen=True, slots=True)
class Layer:
    """One decoder layer."""

    matrices: tuple[Matrix, ...]
    norms: int
    """Elements that are replicated and never quantised: norms, sinks, router biases."""
    cache: Cache | None
    """What the layer keeps of a sequence; None for none, or where it reads another layer's."""
    beside: StateCache | None = None
    """The recurrent state of a layer that attends and recurs, side by side."""
    cache_of: int | None = None
    """Number of the layer whose cache it reads; None where it reads none but its own."""
    intermediate: int = 0
    """Width of the dense MLP (gated MLPs have twice as many columns)."""
    expert_intermediate: int = 0
    """Width of one routed expert."""
    experts_per_token: int = 0
    query_heads: int = 0
    """Query heads of the attention, 0 where there is none."""
    query_dim: int = 0
    """Dimension of a query head."""
    value_dim: int = 0
    """Dimension of a head's output."""

    @property
    def parameters(self) -> int:
        """Elements in the checkpoint."""
        return sum(matrix.parameters for matrix in self.matrices) + self.norms

    @property
    def kept(self) -> tuple[Cache, ...]:
        """Everything that the layer keeps of a sequence."""
        return tuple(one for one in (self.cache, self.beside) if one is not None)


@dataclass(frozen=True, slots=True)
class Pictures:
    """The largest item of a multimodal model and the width of the tower that encodes it."""

    patches: int
    """Patches of the largest image, before they are merged."""
    tokens: int
    """Tokens of the decoder that the largest image becomes."""
    hidden_size: int
    """Width of the tower."""
    intermediate_size: int
    """Width of its MLP."""
    output: int
    """Elements that are kept of each token: the decoder's width, and more with deepstack."""
    patch_elements: int
    """Elements of a patch as it is read."""
    rotary: bool
    """Whether the tower's attention rotates queries and keys, which takes copies of them."""
    frame_pairs: int = 0
    """Pairs of frames in the longest video, each as large as the largest image and each counted
    against the longest request; 0 where a video is no larger than an image."""
    spread: bool = False
    """Whether each rank encodes items of its own, and all of them gather what comes out."""
    expanded_tokens: int = 0
    """Tokens that vLLM 0.11.0 to 0.12.0 took a video to be, far more than it encodes."""


@dataclass(frozen=True, slots=True)
class Draft:
    """What speculative decoding loads beside the model (``drafts.py``)."""

    method: str
    """vLLM's name of the method."""
    layers: tuple[Layer, ...]
    """Decoder layers; what they keep of a sequence lies in the model's KV cache."""
    matrices: tuple[Matrix, ...]
    """Matrices outside the layers that it does not share with the model."""
    elements: int
    """Replicated elements: norms, rotary tables."""
    quantization: Quantization
    first_layer: int
    """Number that the quantisation's lists know the first layer by."""

    def schemes(self, index: int) -> tuple[Scheme | None, ...]:
        """How each matrix of the layer at ``index`` is stored."""
        number = self.first_layer + index
        return tuple(
            self.quantization.scheme(one.name, number, expert=one.experts > 0)
            if one.kind == "linear"
            else None
            for one in self.layers[index].matrices
        )

    def scheme(self, matrix: Matrix) -> Scheme | None:
        """How a matrix outside the layers is stored."""
        if matrix.kind != "linear":
            return None
        return self.quantization.scheme(matrix.name, None)


@dataclass(frozen=True, eq=False)
class Architecture:
    """A model, as far as sizing needs to know it."""

    name: str
    hidden_size: int
    kinds: tuple[Layer, ...]
    """The different layers."""
    pattern: tuple[int, ...]
    """Which of ``kinds`` each layer is, first layer first."""
    embedding: Matrix
    head: Matrix | None
    """The output head; None where the embedding is used (tied), or where nothing is generated."""
    extra_norms: int
    """Elements outside the layers that are replicated: the final norm, learned positions."""
    attention_heads: int
    key_value_heads: int
    """Of the layers with ordinary attention: the smallest number."""
    vocabulary_size: int
    context_length: int
    """Longest request in tokens that the model's positions allow (vLLM's derived max_model_len)."""
    rotary_elements: int
    """Elements of the rotary tables, which vLLM keeps on the GPU in the model's data type."""
    dtype: DataType
    """Data type that the checkpoint names."""
    quantization: Quantization = UNQUANTIZED
    outside: tuple[Matrix, ...] = ()
    """Matrices outside the decoder: vision and audio towers, projectors, per-layer embeddings."""
    outside_norms: int = 0
    """Replicated elements outside the decoder."""
    encoder_heads: int = 0
    """Heads of an encoder that tensor-parallel ranks divide, and must divide evenly; 0 without."""
    indexed_tokens: int = 0
    """Tokens that sparse attention chooses for each query (``index_topk``), 0 without."""
    kept_states: int = 0
    """Hidden states of earlier layers that a forward pass keeps beside the current one."""
    draft: tuple[Layer, ...] = ()
    """Multi-token-prediction layers that the checkpoint carries; loaded only to speculate."""
    draft_extra: tuple[Matrix, ...] = ()
    """What such a draft has beside its layers: its projection and own embeddings."""
    dspark: bool = False
    """Whether the layers that the checkpoint carries draft as DSpark and not one after the other:
    they have no weights that multi-token prediction loads."""
    stated_length: int | None = None
    """``max_position_embeddings`` as it stands, where yarn multiplies the original positions to
    another length: vLLM's limit from 0.30 on."""
    speculator: Draft | None = None
    """What is loaded to speculate; None where nothing is."""
    unbounded: bool = False
    """Whether nothing of it bounds a request: ``context_length`` is then what vLLM takes where
    nobody says another (2,048: 0.33.0 ``config/model.py``, ``_get_and_verify_max_len``)."""
    multimodal: bool = False
    pooling: bool = False
    """Whether vLLM serves it with the pooling runner: it then loads no output head, and its
    profiling run samples nothing (0.33.0 ``models/adapters.py``, ``_create_pooling_model_cls``;
    before 0.20 the head was made and deleted, with the same bytes left)."""
    pictures: Pictures | None = None
    """What the profiling run encodes; None without a tower, and where its input is not known."""
    first_runner: bool = False
    """Whether something is used with it that only vLLM's first model runner has."""

    @property
    def layers(self) -> int:
        """Number of decoder layers."""
        return len(self.pattern)

    @property
    def tied_embeddings(self) -> bool:
        """Whether the output head is the embedding."""
        return self.head is None and not self.pooling

    @cached_property
    def latent(self) -> bool:
        """Whether any layer keeps latent vectors."""
        return any(isinstance(cache, LatentCache) for kind in self.kinds for cache in kind.kept)

    @cached_property
    def sparse(self) -> bool:
        """Whether any layer keeps latent vectors and an index of them."""
        caches = (cache for kind in self.kinds for cache in kind.kept)
        return any(isinstance(one, LatentCache) and one.indexer_dim > 0 for one in caches)

    @cached_property
    def compressed(self) -> bool:
        """Whether any layer keeps DeepSeek-V4's states."""
        return any(isinstance(one, CompressedCache) for kind in self.kinds for one in kind.kept)

    @cached_property
    def state_kinds(self) -> frozenset[str]:
        """The kinds of recurrent layers."""
        caches = (cache for kind in self.kinds for cache in kind.kept)
        return frozenset(one.kind for one in caches if isinstance(one, StateCache))

    @cached_property
    def windowed(self) -> bool:
        """Whether every layer that keeps anything looks at no more than a window."""
        caches = [cache for kind in self.kinds for cache in kind.kept]
        return all(isinstance(one, AttentionCache) and one.window is not None for one in caches)

    @cached_property
    def counts(self) -> tuple[tuple[Layer, int], ...]:
        """Each kind of layer with how often it stands in the model."""
        return tuple((kind, self.pattern.count(number)) for number, kind in enumerate(self.kinds))

    @cached_property
    def parameters(self) -> int:
        """Elements in the checkpoint, without the draft; tied embeddings count once."""
        total = sum(kind.parameters * count for kind, count in self.counts)
        total += self.embedding.parameters + (self.head.parameters if self.head else 0)
        total += sum(matrix.parameters for matrix in self.outside)
        return total + self.extra_norms + self.outside_norms

    @cached_property
    def draft_parameters(self) -> int:
        """Elements of the multi-token-prediction layers."""
        layers = sum(layer.parameters for layer in self.draft)
        return layers + sum(matrix.parameters for matrix in self.draft_extra)

    def schemes(self, layer: Layer, index: int) -> tuple[Scheme | None, ...]:
        """How each matrix of a layer at ``index`` is stored; None: in the model's data type."""
        choose = self.quantization.scheme
        return tuple(
            choose(one.name, index, expert=one.experts > 0) if one.kind == "linear" else None
            for one in layer.matrices
        )

    @cached_property
    def stored_layers(
        self,
    ) -> tuple[tuple[tuple[Layer, tuple[Scheme | None, ...]], ...], tuple[int, ...]]:
        """The different layers as they are stored, and which of them each layer is."""
        if self.quantization.method is None:
            plain = tuple((kind, (None,) * len(kind.matrices)) for kind in self.kinds)
            return plain, self.pattern
        found: dict[tuple[int, tuple[Scheme | None, ...]], int] = {}
        pattern = []
        for index, kind in enumerate(self.pattern):
            key = (kind, self.schemes(self.kinds[kind], index))
            pattern.append(found.setdefault(key, len(found)))
        return tuple((self.kinds[kind], schemes) for kind, schemes in found), tuple(pattern)

    @cached_property
    def linear_schemes(self) -> frozenset[tuple[str, str]]:
        """The schemes of the layers' matrices but for routed experts, by name and compute type."""
        return frozenset(
            (scheme.name, scheme.compute)
            for layer, schemes in self.stored_layers[0]
            for matrix, scheme in zip(layer.matrices, schemes, strict=True)
            if scheme is not None and not matrix.experts
        )

    @cached_property
    def expert_schemes(self) -> frozenset[str]:
        """The schemes of routed experts, by name."""
        return frozenset(
            scheme.name
            for layer, schemes in self.stored_layers[0]
            for matrix, scheme in zip(layer.matrices, schemes, strict=True)
            if scheme is not None and matrix.experts
        )

    @cached_property
    def stored_bytes(self) -> int:
        """Bytes of the checkpoint's tensors by the shapes, without the draft.

        Without an output head where the model is pooled: embedding models' checkpoints mostly have
        none, and where one does, it is not loaded.
        """
        element = {"bfloat16": 2, "float16": 2, "float32": 4}[self.dtype]
        stored, pattern = self.stored_layers
        total = (self.extra_norms + self.outside_norms) * element
        for number, (layer, schemes) in enumerate(stored):
            one = layer.norms * element
            for matrix, scheme in zip(layer.matrices, schemes, strict=True):
                one += stored_bytes_of(matrix, scheme, element)
            total += one * pattern.count(number)
        total += stored_bytes_of(self.embedding, None, element)
        for matrix in (*self.outside, *((self.head,) if self.head else ())):
            total += stored_bytes_of(matrix, self.quantization.scheme(matrix.name, None), element)
        return total

    @property
    def routed_experts(self) -> int:
        """Experts of a layer that routes, 0 in a dense model."""
        return max((matrix.experts for matrix in self.matrices()), default=0)

    @property
    def recurrent(self) -> bool:
        """Whether any layer keeps a recurrent state."""
        return any(isinstance(one, StateCache) for kind in self.kinds for one in kind.kept)

    @property
    def has_experts(self) -> bool:
        """Whether any layer routes tokens to experts."""
        return self.routed_experts > 0

    def matrices(self) -> Iterator[Matrix]:
        """The matrices of every kind of layer, each once."""
        for kind in self.kinds:
            yield from kind.matrices
