"""One GPU product and one tensor-parallel size: does the model fit, and with which limits.

Limits that are not pinned start from vLLM's own defaults. Where the context that is asked for does
not fit beside them, the one that drives the profiling run's peak is halved, again and again: that
is the cheapest memory there is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from vllm_operator.engine import defaults
from vllm_operator.errors import IllegalPin, Infeasible, PlanningError

from . import memory
from .gpus import GPUCandidate, image_suits
from .kvcache import CacheLayout, CacheSettings, cache_layout
from .memory import Footprint, Load
from .parallelism import Parallelism, illegal_because
from .request import Request
from .weights import BYTES_OF

GIBIBYTE: Final = 1024**3
SMALLEST_MAX_NUM_SEQS: Final = 64
SMALLEST_MAX_NUM_BATCHED_TOKENS: Final = 2048
SHORTEST_USEFUL_LENGTH: Final = 1024
"""A server whose requests must be shorter than this is not worth starting unasked."""
BFLOAT16_CAPABILITY: Final = (8, 0)
FP8_CACHE_CAPABILITY: Final = (8, 0)
KV_ELEMENT_BITS: Final = {"fp8": 8.0, "nvfp4": 4.5}
"""nvfp4: half a byte and an fp8 scale for 16 elements (vllm 0.33.0 ``kv_cache_interface.py``)."""
OLDEST_CAPABILITY: Final = (7, 5)
"""Compute capability that the default CUDA-13 builds of vLLM start at (vllm 0.33.0 CMakeLists)."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """A value and why it was taken."""

    value: int
    reason: str


@dataclass(frozen=True, slots=True)
class Layout:
    """A layout that fits."""

    gpu: GPUCandidate
    tensor: int
    dtype: Chosen | None
    """Whether ``--dtype float16`` is forced by the GPU, with the reason."""
    element_bytes: int
    kv_element_bits: float
    cache: CacheLayout
    utilization: float
    utilization_reason: str
    max_model_len: Chosen
    max_num_seqs: Chosen
    max_num_batched_tokens: Chosen
    block_size: int
    footprint: Footprint
    whole_context: bool
    """Whether requests may be as long as the model (or the pin) allows."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """A layout that does not fit, or that vLLM would refuse."""

    gpu: GPUCandidate
    tensor: int
    problem: PlanningError
    longest: int = 0
    """Longest request in tokens that would fit."""


def gib(size: float) -> str:
    """Bytes for a message, in GiB."""
    return f"{size / GIBIBYTE:.2f} GiB"


def find_layout(request: Request, gpu: GPUCandidate, tensor: int) -> Layout | Rejection:
    """The layout with the most context on ``tensor`` GPUs of one node, or why there is none."""
    problem = _refused(request, gpu, tensor)
    if problem is not None:
        return Rejection(gpu, tensor, problem)
    return _Search(request, gpu, tensor).run()


def _refused(request: Request, gpu: GPUCandidate, tensor: int) -> PlanningError | None:
    offer = gpu.offer
    capability = offer.compute_capability
    if (why := image_suits(offer.resource_name, request.image, request.image_pinned)) is not None:
        return IllegalPin("spec.engine.image", why)
    if (why := illegal_because(request.architecture, Parallelism(tensor))) is not None:
        return IllegalPin("spec.parallelism.tensor", why)
    if capability is None:
        return None
    shown = f"{offer.product} has compute capability {capability[0]}.{capability[1]}"
    if capability < OLDEST_CAPABILITY:
        return Infeasible(
            "spec.gpu.product",
            f"{shown}, and vLLM's images start at 7.5, for example T4, A10, L4 or H100",
        )
    quantization = request.architecture.quantization
    needed = quantization.min_capability
    if needed is not None and capability < _capability(needed):
        return Infeasible(
            "spec.gpu.product",
            f"{shown}, and vLLM's {quantization.method} needs {needed:g} at least",
        )
    if request.engine.dtype == "bfloat16" and capability < BFLOAT16_CAPABILITY:
        return IllegalPin(
            "spec.engine.dtype", f"{shown} and bfloat16 needs 8.0; set it to float16 or auto"
        )
    kind = request.engine.kv_cache_dtype
    if kind not in (None, "auto") and capability < FP8_CACHE_CAPABILITY:
        return IllegalPin(
            "spec.engine.kvCacheDtype", f"{shown} and an fp8 KV cache needs 8.0; set it to auto"
        )
    return None


class _Search:
    """The halving of limits for one layout; holds what does not change from step to step."""

    def __init__(self, request: Request, gpu: GPUCandidate, tensor: int) -> None:
        engine, architecture = request.engine, request.architecture
        self.request, self.gpu, self.tensor = request, gpu, tensor
        self.total = gpu.offer.memory_bytes
        self.element_bytes, self.dtype = _element_bytes(request, gpu)
        self.parallelism = Parallelism(tensor)
        self.kv_element_bits = _kv_element_bits(request, self.element_bytes)
        self.length = engine.max_model_len or architecture.context_length
        self.chunked = engine.chunked_prefill is not False
        batch = defaults.batch_defaults(request.version, self.total, gpu.offer.product)
        self.default_reason = batch.reason
        self.seqs = engine.max_num_seqs or batch.max_num_seqs
        self.tokens = engine.max_num_batched_tokens or batch.max_num_batched_tokens
        if engine.max_num_batched_tokens is None:
            # vLLM refuses fewer tokens a step than sequences.
            self.tokens = max(self.tokens, engine.max_num_seqs or 0)
        if engine.max_num_seqs is None:
            self.seqs = min(self.seqs, self.tokens)
        if not self.chunked:
            self._one_step_prompts()
        self.first_seqs, self.first_tokens = self.seqs, self.tokens

    def _one_step_prompts(self) -> None:
        """Without chunked prefill a prompt is one step: tokens a step bound the length."""
        engine = self.request.engine
        if engine.max_num_batched_tokens is None:
            self.tokens = max(self.tokens, self.length)
        elif engine.max_model_len is None:
            self.length = min(self.length, self.tokens)

    def run(self) -> Layout | Rejection:
        while True:
            footprint = self._footprint()
            utilization, reason = self._utilization(footprint)
            if utilization is None:
                return self._rejection(Infeasible("spec.engine.gpuMemoryUtilization", reason), 0)
            _, low = footprint.kv_cache(self.total, utilization)
            cache = self._cache()
            if cache.bytes_for(self.length) <= low:
                return self._layout(footprint, utilization, reason, self.length)
            # Lower limits free no memory for weights that are too large by themselves.
            hopeless = footprint.weights.high >= memory.budget_of(self.total, utilization)
            if not hopeless and self._lower():
                continue
            longest = cache.longest_request(max(0, low), self.length)
            if not self.chunked:
                longest = min(longest, self.tokens)
            return self._last(footprint, utilization, reason, low, longest)

    def _last(
        self, footprint: Footprint, utilization: float, reason: str, low: int, longest: int
    ) -> Layout | Rejection:
        pinned = self.request.engine.max_model_len is not None
        if not pinned and longest >= min(SHORTEST_USEFUL_LENGTH, self.length):
            return self._layout(footprint, utilization, reason, longest)
        needed = self._cache().bytes_for(self.length)
        inside = footprint.inside_budget.high
        text = (
            f"one request of {self.length} tokens needs {gib(needed)} of KV cache a GPU, and "
            f"{gib(memory.budget_of(self.total, utilization))} ({utilization:g} of "
            f"{gib(self.total)}) less {gib(footprint.weights.high)} of weights and "
            f"{gib(inside - footprint.weights.high)} of overhead leaves {gib(max(0, low))}"
        )
        field = "spec.engine.maxModelLen" if pinned and longest else "spec.gpu"
        return self._rejection(Infeasible(field, text), longest)

    def _rejection(self, problem: PlanningError, longest: int) -> Rejection:
        return Rejection(self.gpu, self.tensor, problem, longest)

    @property
    def _load(self) -> Load:
        return Load(self.seqs, self.tokens, self.element_bytes)

    def _cache(self) -> CacheLayout:
        engine = self.request.engine
        settings = CacheSettings(
            version=self.request.version,
            parallelism=self.parallelism,
            element_bits=self.kv_element_bits,
            block_size=engine.block_size or defaults.DEFAULT_BLOCK_SIZE,
            max_num_batched_tokens=self.tokens,
            prefix_caching=engine.prefix_caching is not False,
        )
        return cache_layout(self.request.architecture, settings)

    def _footprint(self) -> Footprint:
        return memory.footprint(
            self.request.architecture,
            self.request.version,
            self.parallelism,
            self._load,
            enforce_eager=self.request.engine.enforce_eager is True,
            unexplained_bytes=self.request.unexplained_bytes,
        )

    def _utilization(self, footprint: Footprint) -> tuple[float | None, str]:
        pinned = self.request.engine.gpu_memory_utilization
        wanted = pinned or defaults.gpu_memory_utilization(self.request.version)
        largest = footprint.largest_budget(self.total)
        safe = math.floor(largest / self.total * 100) / 100
        if memory.budget_of(self.total, wanted) <= largest:
            if pinned is not None:
                return wanted, "pinned in spec.engine.gpuMemoryUtilization"
            return wanted, f"default of vLLM {self.request.version}"
        if pinned is not None:
            return None, (
                f"{wanted:g} of {gib(self.total)} is {gib(self.total * wanted)}, and only "
                f"{gib(max(0, largest))} are sure to be free when the engine starts; "
                f"set it to at most {max(0.0, safe):g}"
            )
        if safe < 0.05:
            return None, f"{gib(self.total)} hold no engine: {gib(max(0, largest))} are free"
        return safe, (
            f"lowered from {wanted:g}, the default of vLLM {self.request.version}: only "
            f"{gib(largest)} of {gib(self.total)} are sure to be free when the engine starts"
        )

    def _lower(self) -> bool:
        """Halve the limit that drives the peak; False where no limit may be lowered."""
        engine = self.request.engine
        seqs = engine.max_num_seqs is None and self.seqs > SMALLEST_MAX_NUM_SEQS
        floor = max(SMALLEST_MAX_NUM_BATCHED_TOKENS, engine.max_num_seqs or 0)
        tokens = self.chunked and engine.max_num_batched_tokens is None and self.tokens > floor
        if not self.chunked and engine.max_num_batched_tokens is None and self._shorten():
            return True
        if not seqs and not tokens:
            return False
        prefers_seqs = memory.sampler_dominates(
            self.request.architecture, self.request.version, self.parallelism, self._load
        )
        # Lowering the limit that does not drive the peak frees nothing.
        if prefers_seqs and seqs:
            self.seqs = max(SMALLEST_MAX_NUM_SEQS, self.seqs // 2)
            return True
        if not prefers_seqs and tokens:
            self.tokens = max(floor, self.tokens // 2)
            self.seqs = min(self.seqs, self.tokens)
            return True
        return False

    def _shorten(self) -> bool:
        """Without chunked prefill, halve the length that is not asked for, and the step with it."""
        if self.request.engine.max_model_len is not None or self.length <= SHORTEST_USEFUL_LENGTH:
            return False
        block = self._cache().block_size
        half = self.length // 2 // block * block
        if half < SHORTEST_USEFUL_LENGTH:
            return False
        self.length = half
        self.tokens = max(half, self.seqs)
        return True

    def _layout(self, footprint: Footprint, utilization: float, reason: str, length: int) -> Layout:
        asked = self.request.engine.max_model_len or self.request.architecture.context_length
        return Layout(
            gpu=self.gpu,
            tensor=self.tensor,
            dtype=self.dtype,
            element_bytes=self.element_bytes,
            kv_element_bits=self.kv_element_bits,
            cache=self._cache(),
            utilization=utilization,
            utilization_reason=reason,
            max_model_len=Chosen(length, self._length_reason(length)),
            max_num_seqs=self._explained("maxNumSeqs", self.seqs, self.first_seqs),
            max_num_batched_tokens=self._explained(
                "maxNumBatchedTokens", self.tokens, self.first_tokens
            ),
            block_size=self._cache().block_size,
            footprint=footprint,
            whole_context=length == asked,
        )

    def _length_reason(self, length: int) -> str:
        if self.request.engine.max_model_len is not None:
            return "pinned in spec.engine.maxModelLen"
        limit = self.request.architecture.context_length
        if length == limit:
            return "the model's own limit, and it fits"
        if not self.chunked and length == self.tokens:
            return f"a prompt is one step without chunked prefill; the model's own limit is {limit}"
        return f"the longest that fits; the model's own limit is {limit}"

    def _explained(self, field: str, value: int, first: int) -> Chosen:
        engine = self.request.engine
        pin = engine.max_num_seqs if field == "maxNumSeqs" else engine.max_num_batched_tokens
        if pin is not None:
            return Chosen(value, f"pinned in spec.engine.{field}")
        if not self.chunked and field == "maxNumBatchedTokens" and value >= self.length:
            return Chosen(value, "the longest prompt: without chunked prefill it is one step")
        if value != first:
            return Chosen(
                value,
                f"lowered from {first}, the {self.default_reason}, to make room for the KV cache",
            )
        batch = defaults.batch_defaults(self.request.version, self.total, self.gpu.offer.product)
        default = batch.max_num_seqs if field == "maxNumSeqs" else batch.max_num_batched_tokens
        if value > default:
            return Chosen(value, "raised to spec.engine.maxNumSeqs, one token a sequence")
        if value < default:
            return Chosen(value, "bounded by spec.engine.maxNumBatchedTokens")
        return Chosen(value, self.default_reason)


def _element_bytes(request: Request, gpu: GPUCandidate) -> tuple[int, Chosen | None]:
    """Bytes of an element of weights and activations, and the data type where the GPU forces it.

    ``auto`` takes the checkpoint's type, a four-byte checkpoint is loaded at two bytes
    (vllm 0.33.0 ``config/model.py``), and bfloat16 becomes float16 before compute capability 8.0.
    """
    pinned = request.engine.dtype
    if pinned not in (None, "auto"):
        return BYTES_OF[str(pinned)], None
    capability = gpu.offer.compute_capability
    old = capability is not None and capability < BFLOAT16_CAPABILITY
    if pinned is None and old and request.architecture.dtype != "float16":
        shown = f"{capability[0]}.{capability[1]}" if capability else ""
        return 2, Chosen(
            2,
            f"the checkpoint's {request.architecture.dtype} needs compute capability 8.0 and "
            f"{gpu.offer.product} has {shown}",
        )
    return 2, None


def _kv_element_bits(request: Request, element_bytes: int) -> float:
    """Bits of an element of keys and values; a checkpoint may bring an fp8 cache with it."""
    kind = request.engine.kv_cache_dtype
    if kind in (None, "auto"):
        kind = request.architecture.quantization.kv_cache
    if kind is None:
        return 8 * element_bytes
    return KV_ELEMENT_BITS["nvfp4" if kind == "nvfp4" else "fp8"]


def _capability(number: float) -> tuple[int, int]:
    """8.9 as (8, 9), 10.0 as (10, 0)."""
    major, _, minor = f"{number:.1f}".partition(".")
    return int(major), int(minor)
