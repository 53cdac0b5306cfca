"""What engines measured of their KV cache, and what the next plan of the kind makes of it. Pure.

An engine says after its profiling run how many blocks it has (``vllm:cache_config_info``). Blocks
times their bytes, less what was expected, is what the estimate was wrong by for that vLLM version,
GPU, model and division. The next plan of the kind expects exactly what was measured; its bound
keeps the distance by which equal starts differ, so it never is above the measurement. With other
batch limits or another engine (adapters, drafts, data types, arguments) than the measured one the
parts' own errors stay in the bound.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from vllm_operator.api.canonical import digest
from vllm_operator.api.plan import Plan
from vllm_operator.api.v1alpha1 import Engine

from .accounting import Footprint
from .coefficients import NOTHING, Bytes

UNPROFILED: Final = ("--num-gpu-blocks-override", "--kv-cache-memory-bytes", "--kv-cache-memory")
"""Arguments with which the blocks say nothing of the memory."""


ELSEWHERE: Final = frozenset(
    {
        *(
            "image",
            "version",
            "maxModelLen",
            "maxNumSeqs",
            "maxNumActiveSeqs",
            "maxNumBatchedTokens",
        ),
        *("gpuMemoryUtilization", "toolCallParser", "reasoningParser", "apiKeySecretRef"),
    }
)
"""Fields of ``spec.engine`` that take no memory, or that a calibration knows by other names."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """One engine's measurement."""

    version: str
    gpu: str
    model: str
    tensor: int
    pipeline: int
    difference: int
    """Bytes of KV cache on a GPU beyond what was expected without any calibration."""
    max_num_seqs: int
    max_num_batched_tokens: int
    engine: str
    """``engine_digest`` of the measured engine."""

    @property
    def key(self) -> str:
        """What it holds for, as a key of a ConfigMap."""
        return digest([self.version, self.gpu, self.model, self.tensor, self.pipeline], 32)

    def to_json_object(self) -> dict[str, Any]:
        """The measurement as plain JSON."""
        return asdict(self)

    @classmethod
    def from_json_object(cls, document: Mapping[str, Any]) -> Calibration:
        """The inverse of ``to_json_object``. Raises KeyError, TypeError, ValueError."""
        return cls(
            version=str(document["version"]),
            gpu=str(document["gpu"]),
            model=str(document["model"]),
            tensor=int(document["tensor"]),
            pipeline=int(document["pipeline"]),
            difference=int(document["difference"]),
            max_num_seqs=int(document["max_num_seqs"]),
            max_num_batched_tokens=int(document["max_num_batched_tokens"]),
            engine=str(document["engine"]),
        )


def engine_digest(engine: Engine) -> str:
    """What of ``spec.engine`` takes memory: equal for engines that measure the same."""
    document = engine.to_json_object()
    return digest({key: document[key] for key in sorted(document.keys() - ELSEWHERE)}, 16)


def fitting(
    calibrations: Iterable[Calibration], version: str, gpu: str, tensor: int, pipeline: int
) -> Calibration | None:
    """The one that holds for a division; those that are given are all of one model."""
    wanted = (version, gpu, tensor, pipeline)
    return next(
        (one for one in calibrations if (one.version, one.gpu, one.tensor, one.pipeline) == wanted),
        None,
    )


def calibrated(
    footprint: Footprint,
    calibration: Calibration,
    engine: Engine,
    max_num_seqs: int,
    max_num_batched_tokens: int,
) -> Footprint:
    """The footprint of a rank that leaves what was measured.

    The difference is taken from what is known least: allocations outside PyTorch, then the peak,
    then the weights.
    """
    left = calibration.difference
    parts: dict[str, Bytes] = {}
    for name in ("non_torch", "activation_peak", "weights"):
        part: Bytes = getattr(footprint, name)
        taken = min(left, part.expected)
        parts[name] = _less(part, taken)
        left -= taken
    moved = replace(footprint, **parts)
    known = (calibration.max_num_seqs, calibration.max_num_batched_tokens, calibration.engine)
    if known != (max_num_seqs, max_num_batched_tokens, engine_digest(engine)):
        return moved
    return replace(
        moved,
        weights=_exact(moved.weights),
        activation_peak=_exact(moved.activation_peak),
        cuda_graphs=_exact(moved.cuda_graphs),
        non_torch=_exact(moved.non_torch),
        unlogged=NOTHING,
    )


def measured(
    plan: Plan, spec: Engine, used: Iterable[Calibration], blocks: int
) -> Calibration | None:
    """What ``blocks`` of a running engine teach; ``used`` are the calibrations of its plan.

    None where they say nothing of the memory, or the plan is of a release that kept no block size.
    """
    engine, placement = plan.engine, plan.placement
    memory, capacity = plan.memory, plan.capacity
    overridden = any(argument.partition("=")[0] in UNPROFILED for argument in engine.command)
    if capacity.bytes_per_block is None or placement.data > 1 or overridden:
        return None
    kind = (engine.version, placement.gpu, placement.tensor, placement.pipeline)
    before = fitting(used, *kind)
    expected = memory.kv_cache.expected - (before.difference if before else 0)
    return Calibration(
        version=engine.version,
        gpu=placement.gpu,
        model=plan.model.id,
        tensor=placement.tensor,
        pipeline=placement.pipeline,
        difference=blocks * capacity.bytes_per_block - expected,
        max_num_seqs=capacity.max_num_seqs,
        max_num_batched_tokens=capacity.max_num_batched_tokens,
        engine=engine_digest(spec),
    )


def _less(size: Bytes, taken: int) -> Bytes:
    return Bytes(size.expected - taken, size.high - taken)


def _exact(size: Bytes) -> Bytes:
    return Bytes(size.expected, size.expected)
