"""Bytes of the weights on each GPU, from the shapes.

Sharding follows vLLM's layers (0.33.0, ``model_executor/layers``): attention and MLP matrices are
split over tensor-parallel ranks, key and value heads are replicated where there are fewer of them
than ranks, the vocabulary is padded to a multiple of 64 and split, norms are replicated.
"""

from __future__ import annotations

from typing import Final

from vllm_operator.errors import IllegalPin, PlanningError, UnknownModel
from vllm_operator.models.architecture import Architecture
from vllm_operator.models.facts import FIELDS, ModelFacts

VOCABULARY_PADDING: Final = 64
"""``DEFAULT_VOCAB_PADDING_SIZE`` of vllm ``layers/vocab_parallel_embedding.py``."""
BYTES_OF: Final = {"bfloat16": 2, "float16": 2, "float32": 4}


def padded_vocabulary(vocabulary_size: int) -> int:
    """Rows of the embedding as vLLM allocates them."""
    return -(-vocabulary_size // VOCABULARY_PADDING) * VOCABULARY_PADDING


def key_value_heads_per_rank(architecture: Architecture, tensor_parallel: int) -> int:
    """Key/value heads that one rank holds."""
    return max(1, architecture.key_value_heads // tensor_parallel)


def bytes_per_rank(architecture: Architecture, tensor_parallel: int, element_bytes: int) -> int:
    """Bytes of weights and of the rotary table on one of ``tensor_parallel`` ranks.

    Llama-3.1-8B on one GPU at 2 bytes: 14.9888 GiB; vLLM 0.8.5 logs 14.9889.
    """
    a = architecture
    heads = a.attention_heads // tensor_parallel
    query = heads * a.head_dim
    key_value = 2 * key_value_heads_per_rank(a, tensor_parallel) * a.head_dim
    intermediate = a.intermediate_size // tensor_parallel
    wide = 2 if a.gated_mlp else 1
    layer = a.hidden_size * (2 * query + key_value)
    layer += (query + key_value) * a.query_key_value_bias + a.hidden_size * a.output_bias
    layer += 2 * a.head_dim * a.query_key_norm
    layer += (wide + 1) * a.hidden_size * intermediate
    layer += (wide * intermediate + a.hidden_size) * a.mlp_bias
    norm = a.hidden_size * (2 if a.norm_bias else 1)
    rows = padded_vocabulary(a.vocabulary_size) // tensor_parallel
    elements = a.layers * (layer + 2 * norm) + norm
    elements += rows * a.hidden_size * (1 if a.tied_embeddings else 2)
    elements += a.learned_position_rows * a.hidden_size
    elements += a.rotary_positions * a.rotary_dim
    return elements * element_bytes


def checkpoint_bytes(
    architecture: Architecture, facts: ModelFacts, pinned: int | None
) -> tuple[int, int]:
    """Bytes of the checkpoint's tensors, and of those the bytes that the shapes do not explain.

    Raises ``IllegalPin`` (a pinned figure) or ``UnknownModel`` (a source's figure) where the
    checkpoint is smaller than the shapes at two bytes a parameter: something shrinks it that the
    config does not tell, most often a quantisation.
    """
    known = pinned if pinned is not None else facts.weight_bytes
    computed = architecture.parameters * BYTES_OF[architecture.dtype]
    if known is None:
        return computed, 0
    embedding = architecture.vocabulary_size * architecture.hidden_size
    smallest = 2 * (architecture.parameters - embedding)
    if known < smallest * 0.98:
        error: type[PlanningError] = UnknownModel if pinned is None else IllegalPin
        field = FIELDS[facts.source] if pinned is None else "spec.model.weightBytes"
        raise error(
            field,
            f"the checkpoint has {known} bytes and its config describes "
            f"{architecture.parameters} parameters, {2 * architecture.parameters} bytes at two "
            "bytes each: the config does not tell all; give this very checkpoint's config.json",
        )
    # Tied embeddings may be stored twice, and a checkpoint may be stored at four bytes and loaded
    # at two; neither is loaded as such. What goes beyond both is taken to be loaded.
    duplicate = embedding if architecture.tied_embeddings else 0
    largest = 2 * (architecture.parameters + duplicate)
    if known > 1.9 * largest:
        largest *= 2
    return known, max(0, known - int(largest * 1.02))
