"""What a layout comes to at given limits: footprint, utilization and what is left for the cache."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

from vllm_operator.engine.refusals import LINEAR
from vllm_operator.engine.tables import does
from vllm_operator.engine.versions import Version
from vllm_operator.errors import IllegalPin
from vllm_operator.models.architecture import Architecture
from vllm_operator.sizing.asked.adapters import adapter_bytes, graphs_factor
from vllm_operator.sizing.asked.gpu_candidates import GPUCandidate
from vllm_operator.sizing.asked.specification import Asked
from vllm_operator.sizing.asked.workload_profiles import takes_small_cache
from vllm_operator.sizing.memory.accounting import Footprint, budget_of, footprint
from vllm_operator.sizing.memory.calibration import calibrated, fitting
from vllm_operator.sizing.memory.coefficients import Bytes, fingerprint
from vllm_operator.sizing.memory.device import Device, device_of
from vllm_operator.sizing.memory.kvcache import (
    NULL_BLOCKS,
    CacheLayout,
    CacheSettings,
    cache_layout,
    unequal_stages_because,
)
from vllm_operator.sizing.memory.load import Load
from vllm_operator.sizing.split.divisions import Division
from vllm_operator.sizing.split.parallelism import Parallelism

from .batch_limits import BatchLimits
from .prefixes import prefixes_of, shared_blocks
from .suitability import FP8_BITS, block_size, kv_element_bits
from .utilization import Utilization, gib, utilization, wanted_utilization


@dataclass(frozen=True, slots=True)
class Fit:
    """What a layout comes to at given limits."""

    footprint: Footprint
    fraction: Utilization
    cache: CacheLayout
    low: int
    """KV-cache bytes of one rank that are sure; below zero where the rest alone is too much."""
    shared: int = 0
    """Blocks of a prefix that all expected requests begin with."""

    @property
    def blocks(self) -> int:
        """Blocks that are sure, the null block among them, as vLLM counts them."""
        return self.cache.blocks_in(self.low)

    def margin(self, length: int) -> int:
        """Bytes beyond what one request of ``length`` tokens needs; negative where it is short."""
        return self.low - self.cache.bytes_for(length)

    def holds(self, tokens: int, requests: int) -> bool:
        """Whether so many requests of so many tokens surely fit at once."""
        return self.bytes_of(tokens, requests) <= self.low

    def bytes_of(self, tokens: int, requests: int) -> int:
        """KV-cache bytes of so many requests of so many tokens, and of the null block."""
        own = self.cache.blocks_for(tokens) - self.shared
        return (self.shared + own * requests + NULL_BLOCKS) * self.cache.bytes_per_block

    def held(self, tokens: int) -> int:
        """Requests of so many tokens that surely fit at once."""
        blocks = self.cache.blocks_in(self.low) - NULL_BLOCKS - self.shared
        return max(0, blocks // (self.cache.blocks_for(tokens) - self.shared))

    def what_is_left(self) -> str:
        """How the KV cache comes to its size, for a message."""
        weights, inside = self.footprint.weights.high, self.footprint.inside_budget.high
        fraction, total = self.fraction.value or 0.0, self.fraction.total
        return (
            f"{gib(budget_of(total, fraction))} ({fraction:g} of {gib(total)}) less "
            f"{gib(weights)} of weights and {gib(inside - weights)} of overhead leaves "
            f"{gib(max(0, self.low))}"
        )


class Fits:
    """The fits of one division of a model on one product, kept while a layout is sought."""

    def __init__(
        self, asked: Asked, gpu: GPUCandidate, division: Division, element_bytes: int
    ) -> None:
        self.asked, self.parallelism = asked, division.parallelism
        self.total = gpu.offer.memory_bytes
        self.device = device_of(gpu.offer.product, self.total, gpu.offer.resource_name)
        self.small_cache = takes_small_cache(
            asked.features.profile,
            asked.architecture,
            asked.version,
            gpu.offer.compute_capability,
            asked.engine.kv_cache_dtype,
        )
        """Whether the KV cache is made fp8 unasked."""
        bits = kv_element_bits(asked, element_bytes)
        self.kv_element_bits = FP8_BITS if self.small_cache else bits
        self.block_size = block_size(asked, gpu, self.kv_element_bits)
        adapters = asked.features.adapters
        self.adapters = 0
        """Bytes of the slots for LoRA adapters on a rank."""
        if adapters is not None:
            self.adapters = adapter_bytes(
                adapters, asked.architecture, self.parallelism, element_bytes, asked.version
            )
        tensor, pipeline = self.parallelism.tensor, self.parallelism.pipeline
        kind = str(asked.version), gpu.offer.product, tensor, pipeline
        alone = self.parallelism.data == 1
        self.calibration = fitting(asked.calibrations, *kind) if alone else None
        self.wanted = wanted_utilization(asked)
        self._known: dict[tuple[int, int, int, bool], Fit] = {}

    @property
    def wants_states(self) -> bool:
        """Whether the engine starts only with a block for the recurrent states of each sequence.

        Source: vllm 0.33.0 ``config/compilation.py``, ``resolve_cudagraph_mode_and_sizes``.
        """
        asked = self.asked
        return (
            does("wants-a-block-a-state", asked.version)
            and asked.captures_graphs
            and asked.architecture.recurrent
        )

    @property
    def wants_block_in_step(self) -> bool:
        """Whether a step must hold a block of the recurrent states that are kept for prefixes.

        Source: vllm 0.20.0 ``config/vllm.py``, ``validate_block_size``; none of 0.28.0.
        """
        asked = self.asked
        aligned = bool(asked.architecture.state_kinds & LINEAR)
        cached = asked.engine.prefix_caching is True
        return aligned and cached and does("wants-a-state-block-a-step", asked.version)

    def refused(self, limits: BatchLimits) -> IllegalPin | None:
        """Why vLLM refuses the stages, whatever the memory."""
        why = unequal_stages_because(self.asked.architecture, self._settings(limits))
        if why is None:
            return None
        works = "set it to 1, or take vLLM 0.11 or newer"
        return IllegalPin(
            "spec.parallelism.pipeline", f"is {self.parallelism.pipeline}: {why}; {works}"
        )

    def _settings(self, limits: BatchLimits) -> CacheSettings:
        asked = self.asked
        return CacheSettings(
            version=asked.version,
            parallelism=self.parallelism,
            element_bits=self.kv_element_bits,
            block_size=self.block_size,
            max_num_batched_tokens=limits.tokens.value,
            prefix_caching=asked.engine.prefix_caching,
            speculative_tokens=asked.features.step_tokens - 1,
            first_engine=limits.first_engine is not None,
        )

    def at(self, limits: BatchLimits, *, room: bool) -> Fit:
        """The fit at these limits; ``room``: with room for what vLLM does not profile."""
        key = limits.seqs.value, limits.tokens.value, limits.length.value, room
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = self._measured(limits, room)
        return found

    def _measured(self, limits: BatchLimits, room: bool) -> Fit:
        asked, features = self.asked, self.asked.features
        taken = _footprint(
            fingerprint(),
            asked.architecture,
            asked.version,
            self.parallelism,
            limits.load,
            not asked.captures_graphs,
            asked.unexplained_bytes + self.adapters,
            self.device,
        )
        taken = _with_graphs(taken, graphs_factor(features.adapters, asked.version))
        if features.extra_arguments.share:
            unmeasured = int(features.extra_arguments.share * self.total)
            high = taken.unexplained.high + unmeasured
            taken = replace(taken, unexplained=Bytes(taken.unexplained.expected, high))
        if self.calibration is not None:
            seqs, tokens = limits.seqs.value, limits.tokens.value
            taken = calibrated(taken, self.calibration, asked.engine, seqs, tokens)
        fraction = utilization(asked, taken, self.total, limits, self.wanted, room=room)
        _, low = taken.kv_cache(self.total, fraction.value or 0.0)
        settings = self._settings(limits)
        cache = cache_layout(asked.architecture, settings)
        prefixes = prefixes_of(asked, first_engine=settings.first_engine)
        return Fit(
            taken, fraction, cache, low, shared_blocks(prefixes, cache, asked.load.shared_tokens)
        )


def _with_graphs(footprint: Footprint, times: int) -> Footprint:
    """With each CUDA graph captured so often."""
    if times == 1:
        return footprint
    inside, outside = footprint.cuda_graphs, footprint.cuda_graphs_outside
    return replace(
        footprint,
        cuda_graphs=Bytes(times * inside.expected, times * inside.high),
        cuda_graphs_outside=Bytes(times * outside.expected, times * outside.high),
    )


@lru_cache(maxsize=8192)
def _footprint(
    _coefficients: str,
    architecture: Architecture,
    version: Version,
    parallelism: Parallelism,
    load: Load,
    eager: bool,
    unexplained: int,
    device: Device,
) -> Footprint:
    """``footprint``, once for equal arguments and coefficients: plans repeat themselves."""
    return footprint(
        architecture,
        version,
        parallelism,
        load,
        enforce_eager=eager,
        unexplained_bytes=unexplained,
        device=device,
    )
