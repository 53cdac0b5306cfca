"""How a model is divided over GPUs, and which divisions vLLM accepts."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from vllm_operator.engine import encoders
from vllm_operator.models.architecture import Architecture
from vllm_operator.models.matrices import Matrix, Split, padded_vocabulary
from vllm_operator.models.quantization import Scheme
from vllm_operator.models.shapes import Draft

from .stages import illegal_stages_because


@dataclass(frozen=True, slots=True)
class Parallelism:
    """Ranks of one server: ``tensor`` x ``pipeline`` x ``data`` GPUs."""

    tensor: int = 1
    pipeline: int = 1
    data: int = 1
    expert: bool = False
    """Whole experts on each rank, instead of a part of each."""

    @property
    def gpus(self) -> int:
        """GPUs of one server."""
        return self.tensor * self.pipeline * self.data

    @property
    def expert_ranks(self) -> int:
        """Ranks that share the routed experts (vllm ``FusedMoEParallelConfig``: TP x DP)."""
        return self.tensor * self.data


SINGLE = Parallelism()


@lru_cache(maxsize=1024)
def illegal_because(architecture: Architecture, parallelism: Parallelism) -> str | None:
    """Why vLLM refuses this division, or None where it accepts it.

    Source: vllm 0.33.0 ``config/model.py`` (heads), each encoder's attention (``divide`` of its
    heads, 0.8.5 to 0.33.0), ``model_executor/layers/linear.py`` (key/value heads, intermediate
    size), ``layers/vocab_parallel_embedding.py`` (vocabulary) and
    ``quantization/utils/fp8_utils.py`` (blocks).
    """
    a, size = architecture, parallelism.tensor
    if parallelism.pipeline > a.layers:
        return f"{a.layers} layers cannot be spread over {parallelism.pipeline} stages"
    if (why := illegal_stages_because(a, parallelism.pipeline)) is not None:
        return why
    if parallelism.expert and not a.has_experts:
        return "the model has no experts"
    if size == 1 and parallelism.expert_ranks == 1:
        return None
    if a.attention_heads % size:
        return f"{a.attention_heads} attention heads are not divisible by {size}"
    if (why := _illegal_encoder(a, size)) is not None:
        whole = encoders.data_since(a.name) is not None
        return f"{why}, unless {encoders.FLAG} {encoders.DATA} is added" if whole else why
    stored, _ = a.stored_layers
    for layer, schemes in stored:
        if layer.query_heads % size:
            return f"{layer.query_heads} attention heads are not divisible by {size}"
        for matrix, scheme in zip(layer.matrices, schemes, strict=True):
            why = _illegal_matrix(matrix, scheme, parallelism, a.quantization.group)
            if why is not None:
                return why
    if padded_vocabulary(a.vocabulary_size) % size:
        return (
            f"the vocabulary, padded to {padded_vocabulary(a.vocabulary_size)}, "
            f"is not divisible by {size}"
        )
    return None if a.speculator is None else _illegal_draft(a.speculator, parallelism)


def _illegal_encoder(a: Architecture, size: int) -> str | None:
    """Why an encoder's heads or layers cannot be divided; those that ranks have whole aside."""
    if a.encoder_heads % size:
        return f"{a.encoder_heads} heads of the encoder are not divisible by {size}"
    for one in a.outside:
        divided = one.split in (Split.OUTPUTS, Split.INPUTS) and not (one.heads % size)
        width = one.outputs if one.split is Split.OUTPUTS else one.inputs
        if divided and width % size:
            return f"{one.name}'s width {width} is not divisible by {size}"
    return None


def _illegal_draft(draft: Draft, parallelism: Parallelism) -> str | None:
    """Why the draft cannot be divided as the model is, which it is unless it is told otherwise.

    Source: vllm 0.12.0 to 0.33.0 ``config/speculative.py``, ``_verify_and_get_draft_tp``.
    """
    size = parallelism.tensor
    for index, layer in enumerate(draft.layers):
        if layer.query_heads % size:
            return f"the draft's {layer.query_heads} attention heads are not divisible by {size}"
        for matrix, scheme in zip(layer.matrices, draft.schemes(index), strict=True):
            why = _illegal_matrix(matrix, scheme, parallelism, draft.quantization.group)
            if why is not None:
                return f"of the draft, {why}"
    return None


def _illegal_matrix(
    matrix: Matrix, scheme: Scheme | None, parallelism: Parallelism, group: int
) -> str | None:
    size = parallelism.tensor
    if matrix.experts:
        if parallelism.expert:
            return None
        size = parallelism.expert_ranks
    if size == 1 or matrix.split in (Split.WHOLE, Split.VOCABULARY):
        return None
    if matrix.split is Split.HEADS:
        if matrix.heads % size and size % matrix.heads:
            return f"{matrix.heads} key/value heads neither divide nor are divided by {size}"
        return None
    if matrix.split is Split.GROUPS:
        if matrix.heads > 1 and matrix.heads % size:
            recurs = matrix.name.endswith(("in_proj", "conv1d"))
            what = "groups of the recurrent state" if recurs else "key/value heads"
            return f"{matrix.heads} {what} are not divisible by {size}"
        return None
    width = matrix.outputs if matrix.split is Split.OUTPUTS else matrix.inputs
    what = matrix.name.rpartition(".")[2]
    if width % size:
        if what in ("gate_proj", "up_proj", "down_proj"):
            return f"intermediate size {width} is not divisible by {size}"
        return f"{what}'s width {width} is not divisible by {size}"
    part = width // size
    if scheme is None:
        return None
    if scheme.block and part % scheme.block and width % scheme.block == 0:
        return (
            f"{what}'s {width} over {size} GPUs is {part}, no multiple of the quantisation's "
            f"block of {scheme.block}"
        )
    if group and scheme.group and matrix.split is Split.INPUTS and part % group:
        return (
            f"{what}'s {width} over {size} GPUs is {part}, no multiple of the quantisation's "
            f"group of {group}"
        )
    return None


def legal_sizes(architecture: Architecture, largest: int) -> tuple[int, ...]:
    """Every accepted tensor-parallel size up to ``largest``, ascending; 1 is always among them."""
    return tuple(
        size
        for size in range(1, largest + 1)
        if illegal_because(architecture, Parallelism(tensor=size)) is None
    )
