"""Bytes of the weights on each GPU, from the shapes and the quantisation.

Sharding follows vLLM's layers (0.33.0, ``model_executor/layers``): attention and MLP matrices are
split over tensor-parallel ranks, key and value heads are replicated where there are fewer of them
than ranks, routed experts are split over tensor x data parallel ranks, the vocabulary is padded to
a multiple of 64 and split, norms are replicated.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Final

from vllm_operator.engine.versions import Version
from vllm_operator.errors import IllegalPin, PlanningError, UnknownModel
from vllm_operator.models.architecture import Architecture
from vllm_operator.models.facts import FIELDS, ModelFacts
from vllm_operator.models.matrices import Matrix
from vllm_operator.models.quantization import FUSED_PART, Scheme
from vllm_operator.models.shapes import Draft, LatentCache, Layer
from vllm_operator.sizing.split.parallelism import Parallelism
from vllm_operator.sizing.split.stages import stage_ranges

from .allocator import CachingAllocator

BYTES_OF: Final = {"bfloat16": 2, "float16": 2, "float32": 4}
FLOAT32_BYTES: Final = 4
INDEX_BYTES: Final = 4
"""Of the number of a token (int32)."""


@lru_cache(maxsize=1024)
def bytes_per_rank(
    architecture: Architecture,
    parallelism: Parallelism,
    element_bytes: int,
    *,
    version: Version | None = None,
) -> int:
    """Bytes of weights and of the rotary tables on the fullest rank.

    With ``version`` as that vLLM logs them ("Model loading took"): with what PyTorch's allocator
    adds. Llama-3.1-8B on one GPU at 2 bytes: 14.9888 GiB; vLLM 0.8.5 logs 14.9889.
    """
    return max(stage_bytes(architecture, parallelism, element_bytes, version=version))


def stage_bytes(
    architecture: Architecture,
    parallelism: Parallelism,
    element_bytes: int,
    *,
    version: Version | None = None,
) -> tuple[int, ...]:
    """Bytes on a rank of each pipeline stage, first stage first."""
    a = architecture
    ranges = stage_ranges(a.layers, parallelism.pipeline)
    stored, pattern = a.stored_layers
    sizes = [_layer_bytes(layer, schemes, parallelism, element_bytes) for layer, schemes in stored]
    found = []
    for number, stage in enumerate(ranges):
        first, last = number == 0, number == len(ranges) - 1
        total = sum(
            sizes[kind] * count
            for kind, count in Counter(pattern[stage.start : stage.stop]).items()
        )
        if first or (last and a.tied_embeddings):
            total += _matrix_bytes(a.embedding, None, parallelism, element_bytes)
        if first:
            outside = [(one, a.quantization.scheme(one.name, None)) for one in a.outside]
            total += sum(_matrix_bytes(*one, parallelism, element_bytes) for one in outside)
            total += a.outside_norms * element_bytes
        if last and a.head is not None:
            scheme = a.quantization.scheme(a.head.name, None)
            total += _matrix_bytes(a.head, scheme, parallelism, element_bytes)
        if last and a.speculator is not None:
            total += draft_bytes(a.speculator, parallelism, element_bytes)
        total += (a.extra_norms + a.rotary_elements) * element_bytes
        if version is not None and a.quantization.method is None:
            total += _rounding(a, stage, parallelism, element_bytes, version)
        found.append(total)
    return tuple(found)


def _rounding(
    a: Architecture, stage: range, parallelism: Parallelism, element_bytes: int, version: Version
) -> int:
    """What PyTorch's allocator adds to the unquantised weights of a pipeline stage.

    Quantised ones are repacked after they are loaded, into blocks that nobody can foretell; logged
    starts of such models show less than one percent.
    """

    def sizes(matrix: Matrix) -> Iterator[int]:
        shard = matrix.on_rank(
            parallelism.tensor, parallelism.expert_ranks, whole_experts=parallelism.expert
        )
        one = shard.inputs * shard.outputs * element_bytes
        # Routed experts lie in one tensor; the equal layers of a tower each have their own.
        each = shard.copies if matrix.experts else 1
        yield from [one * each] * (shard.copies // each)

    tensors: list[int] = []
    if stage.start == 0 or (stage.stop == a.layers and a.tied_embeddings):
        tensors += sizes(a.embedding)
    kinds = [_fused(kind, sizes) for kind in a.kinds]
    for index in stage:
        tensors += kinds[a.pattern[index]]
    if stage.stop == a.layers and a.head is not None:
        tensors += sizes(a.head)
    if stage.start == 0:
        for matrix in a.outside:
            tensors += sizes(matrix)
    allocator = CachingAllocator(version)
    for size in tensors:
        allocator.allocate(size)
    return allocator.allocated - sum(tensors)


def input_buffer_bytes(
    architecture: Architecture, max_num_batched_tokens: int, element_bytes: int
) -> int:
    """Bytes of the buffers for a step's input, which vLLM allocates and logs with the weights.

    Qwen3-VL has one of the decoder's width for each level of deepstack features (vllm 0.11.0 to
    0.33.0 ``models/qwen3_vl.py``, ``deepstack_input_embeds``): 96 MiB of Qwen3-VL-Embedding-2B's
    logged 4.3072 GiB at 8,192 tokens a step. Sparse attention has one for the numbers of the
    tokens that it chose, four bytes each (``models/deepseek_v2.py``, ``topk_indices_buffer``).
    """
    pictures = architecture.pictures
    levels = 0 if pictures is None else pictures.output // architecture.hidden_size - 1
    chosen = architecture.indexed_tokens * INDEX_BYTES
    each = levels * architecture.hidden_size * element_bytes + chosen
    return max_num_batched_tokens * each


def largest_matrix_bytes(
    architecture: Architecture, parallelism: Parallelism, element_bytes: int
) -> int:
    """Bytes of the largest tensor of the layers on one rank, unquantised, as vLLM fuses them."""

    def sizes(matrix: Matrix) -> Iterable[int]:
        return (_matrix_bytes(matrix, None, parallelism, element_bytes),)

    return max(size for kind in architecture.kinds for size in _fused(kind, sizes))


def _fused(layer: Layer, sizes: Callable[[Matrix], Iterable[int]]) -> tuple[int, ...]:
    """Bytes of a layer's tensors as vLLM allocates them: what it multiplies at once is one."""
    found: dict[str, int] = {}
    for matrix in layer.matrices:
        head, _, last = matrix.name.rpartition(".")
        whole = f"{head}.{FUSED_PART.get(last, last)}"
        found[whole] = found.get(whole, 0) + sum(sizes(matrix))
    return tuple(found.values())


def draft_bytes(draft: Draft, parallelism: Parallelism, element_bytes: int) -> int:
    """Bytes on a rank of what is loaded to speculate, divided as the model is.

    vLLM divides a draft over as many ranks as the model (``draft_tensor_parallel_size`` may also be
    1, which is not planned), and keeps it on the last pipeline stage.
    """
    total = draft.elements * element_bytes
    for index, layer in enumerate(draft.layers):
        total += _layer_bytes(layer, draft.schemes(index), parallelism, element_bytes)
    for one in draft.matrices:
        total += _matrix_bytes(one, draft.scheme(one), parallelism, element_bytes)
    return total


def _layer_bytes(
    layer: Layer, schemes: Sequence[Scheme | None], parallelism: Parallelism, element_bytes: int
) -> int:
    total = layer.norms * element_bytes
    for matrix, scheme in zip(layer.matrices, schemes, strict=True):
        total += _matrix_bytes(matrix, scheme, parallelism, element_bytes)
        if isinstance(layer.cache, LatentCache) and scheme and matrix.name.endswith("kv_b_proj"):
            # vllm layers/attention/mla_attention.py keeps W_UK and W_UV of a quantised projection
            # once more, in the model's data type.
            total += _matrix_bytes(matrix, None, parallelism, element_bytes)
    return total


def _matrix_bytes(
    matrix: Matrix, scheme: Scheme | None, parallelism: Parallelism, element_bytes: int
) -> int:
    shard = matrix.on_rank(
        parallelism.tensor, parallelism.expert_ranks, whole_experts=parallelism.expert
    )
    if matrix.float32:
        element_bytes = max(element_bytes, FLOAT32_BYTES)
    one = (
        shard.inputs * shard.outputs * element_bytes
        if scheme is None
        else scheme.bytes(shard.inputs, shard.outputs)
    )
    return shard.copies * (one + shard.bias * element_bytes)


def checkpoint_bytes(
    architecture: Architecture, facts: ModelFacts, pinned: int | None
) -> tuple[int, int]:
    """Bytes of the checkpoint's tensors, and of those the bytes that the shapes do not explain.

    Raises ``IllegalPin`` (a pinned figure) or ``UnknownModel`` (a source's figure) where the
    checkpoint is smaller than the shapes: something shrinks it that the config does not tell, most
    often a quantisation.
    """
    known = pinned if pinned is not None else facts.weight_bytes
    stored = architecture.stored_bytes
    if known is None:
        return stored, 0
    embedding = architecture.vocabulary_size * architecture.hidden_size
    smallest = stored - 2 * embedding - 2 * sum(one.parameters for one in architecture.outside)
    if known < smallest * 0.95:
        error: type[PlanningError] = UnknownModel if pinned is None else IllegalPin
        field = FIELDS[facts.source] if pinned is None else "spec.model.weightBytes"
        raise error(
            field,
            f"the checkpoint has {known} bytes and its config describes "
            f"{architecture.parameters} parameters in {stored} bytes: the config does not tell "
            "all; give this very checkpoint's config.json",
        )
    if architecture.quantization.method is not None or architecture.draft:
        return known, 0
    # Tied embeddings may be stored twice, a pooled model's head may be stored, and a checkpoint may
    # be stored at four bytes and loaded at two; none of them is loaded as such. What goes beyond
    # is taken to be loaded.
    duplicate = embedding if architecture.head is None else 0
    largest = 2 * (architecture.parameters + duplicate)
    if known > 1.9 * largest:
        largest *= 2
    return known, max(0, known - int(largest * 1.02))
