"""Which tensor-parallel sizes vLLM accepts for a model."""

from __future__ import annotations

from functools import lru_cache

from vllm_operator.models.architecture import Architecture

from .weights import padded_vocabulary


@lru_cache(maxsize=4096)
def illegal_because(architecture: Architecture, tensor_parallel: int) -> str | None:
    """Why vLLM refuses this size, or None where it accepts it.

    Source: vllm 0.33.0 ``config/model.py`` (heads), ``model_executor/layers/linear.py`` (key/value
    heads, intermediate size) and ``layers/vocab_parallel_embedding.py`` (vocabulary).
    """
    a, size = architecture, tensor_parallel
    if a.attention_heads % size:
        return f"{a.attention_heads} attention heads are not divisible by {size}"
    if a.key_value_heads % size and size % a.key_value_heads:
        return f"{a.key_value_heads} key/value heads neither divide nor are divided by {size}"
    if a.intermediate_size % size:
        return f"intermediate size {a.intermediate_size} is not divisible by {size}"
    if padded_vocabulary(a.vocabulary_size) % size:
        return (
            f"the vocabulary, padded to {padded_vocabulary(a.vocabulary_size)}, "
            f"is not divisible by {size}"
        )
    return None


def legal_sizes(architecture: Architecture, largest: int) -> tuple[int, ...]:
    """Every accepted size up to ``largest``, ascending; 1 is always among them."""
    return tuple(
        size for size in range(1, largest + 1) if illegal_because(architecture, size) is None
    )
