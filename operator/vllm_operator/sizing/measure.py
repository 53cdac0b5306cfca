"""What a layout comes to at given limits: footprint, utilization and what is left for the cache."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from vllm_operator.engine import defaults
from vllm_operator.engine.versions import Version
from vllm_operator.models.architecture import Architecture

from . import coefficients, memory
from .devices import device_of
from .divisions import Division
from .gpus import GPUCandidate
from .kvcache import NULL_BLOCKS, CacheLayout, CacheSettings, cache_layout
from .limits import Limits
from .memory import Device, Footprint, Load
from .parallelism import Parallelism
from .request import Request
from .suitability import kv_element_bits
from .utilization import Utilization, gib, utilization


@dataclass(frozen=True, slots=True)
class State:
    """A layout at given limits."""

    footprint: Footprint
    fraction: Utilization
    cache: CacheLayout
    low: int
    """KV-cache bytes of one rank that are sure; below zero where the rest alone is too much."""

    def margin(self, length: int) -> int:
        """Bytes beyond what one request of ``length`` tokens needs; negative where it is short."""
        return self.low - self.cache.bytes_for(length)

    def holds(self, tokens: int, requests: int) -> bool:
        """Whether so many requests of so many tokens surely fit at once."""
        return self.bytes_of(tokens, requests) <= self.low

    def bytes_of(self, tokens: int, requests: int) -> int:
        """KV-cache bytes of so many requests of so many tokens, and of the null block."""
        return (self.cache.blocks_for(tokens) * requests + NULL_BLOCKS) * self.cache.bytes_per_block

    def held(self, tokens: int) -> int:
        """Requests of so many tokens that surely fit at once."""
        blocks = self.cache.blocks_in(self.low) - NULL_BLOCKS
        return max(0, blocks // self.cache.blocks_for(tokens))

    def what_is_left(self) -> str:
        """How the KV cache comes to its size, for a message."""
        weights, inside = self.footprint.weights.high, self.footprint.inside_budget.high
        fraction, total = self.fraction.value or 0.0, self.fraction.total
        return (
            f"{gib(memory.budget_of(total, fraction))} ({fraction:g} of {gib(total)}) less "
            f"{gib(weights)} of weights and {gib(inside - weights)} of overhead leaves "
            f"{gib(max(0, self.low))}"
        )


class Measure:
    """Measures one division of a model on one product; states are kept while it is sought."""

    def __init__(
        self, request: Request, gpu: GPUCandidate, division: Division, element_bytes: int
    ) -> None:
        self.request, self.parallelism = request, division.parallelism
        self.total = gpu.offer.memory_bytes
        self.device = device_of(gpu.offer.product, self.total, gpu.offer.resource_name)
        self.kv_element_bits = kv_element_bits(request, element_bytes)
        self._states: dict[tuple[int, int, int, bool], State] = {}

    def at(self, limits: Limits, *, room: bool) -> State:
        """The state at these limits; ``room``: with room for what vLLM does not profile."""
        key = limits.seqs, limits.tokens, limits.length, room
        found = self._states.get(key)
        if found is None:
            found = self._states[key] = self._measured(limits, room)
        return found

    def _measured(self, limits: Limits, room: bool) -> State:
        request = self.request
        footprint = _footprint(
            coefficients.fingerprint(),
            request.architecture,
            request.version,
            self.parallelism,
            limits.load,
            request.engine.enforce_eager is True,
            request.unexplained_bytes,
            self.device,
        )
        fraction = utilization(request, footprint, self.total, limits.tokens, room=room)
        _, low = footprint.kv_cache(self.total, fraction.value or 0.0)
        settings = CacheSettings(
            version=request.version,
            parallelism=self.parallelism,
            element_bits=self.kv_element_bits,
            block_size=request.engine.block_size or defaults.DEFAULT_BLOCK_SIZE,
            max_num_batched_tokens=limits.tokens,
            prefix_caching=request.engine.prefix_caching is not False,
        )
        return State(footprint, fraction, cache_layout(request.architecture, settings), low)


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
    """``memory.footprint``, once for equal arguments and coefficients: plans repeat themselves."""
    return memory.footprint(
        architecture,
        version,
        parallelism,
        load,
        enforce_eager=eager,
        unexplained_bytes=unexplained,
        device=device,
    )
