"""What an engine takes of a GPU's memory: the accounting that vLLM does at start-up.

Order in vLLM 0.11 to 0.33 (``v1/worker/gpu_worker.py``): context and communicators, snapshot of
free memory, weights, profiling run, KV cache from what is left of ``ceil(total x utilization)``.
The closed forms of the profiling run are ours, from the code; ``coefficients.csv`` fits them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Final, Literal

from vllm_operator.engine.defaults import (
    counts_cuda_graphs,
    model_runner,
)
from vllm_operator.engine.tables import does
from vllm_operator.engine.versions import Version
from vllm_operator.models.architecture import Architecture
from vllm_operator.models.shapes import AttentionCache, LatentCache, Layer, Pictures
from vllm_operator.sizing.split.parallelism import Parallelism

from .coefficients import NOTHING, Bytes, Coefficient, coefficient, gibibytes, sum_of
from .device import ANY_DEVICE, Device
from .kernels import as_loaded
from .kvcache import states_beside_blocks
from .weights import bytes_per_rank, input_buffer_bytes

LATENT_BLOCK: Final = 64
"""Tokens in a block of latent attention's kernels (FlashMLA)."""
MOST_CONTEXT: Final = 64 * 1024
MOST_ITEMS: Final = 999
"""Pictures of a prompt where ``--limit-mm-per-prompt`` does not say."""


@dataclass(frozen=True)
class Footprint:
    """Bytes of one rank."""

    weights: Bytes
    activation_peak: Bytes
    cuda_graphs: Bytes
    """Zero where the budget does not pay for them."""
    non_torch: Bytes
    context: Bytes
    """CUDA context and communicators, taken before vLLM looks at the free memory."""
    cuda_graphs_outside: Bytes
    """CUDA graphs where the budget does not pay for them."""
    device_total: Bytes
    """How far the device's total may lie under the catalogue's figure."""
    unexplained: Bytes
    """How far starts with equal settings differ from each other."""
    unlogged: Bytes
    """How far a release that no start was logged of may take more than those before it."""

    @cached_property
    def inside_budget(self) -> Bytes:
        """All that the budget pays for beside the KV cache."""
        parts = (self.weights, self.activation_peak, self.cuda_graphs, self.non_torch)
        inside = sum_of((*parts, self.device_total, self.unexplained))
        # What a release takes more, each of its starts does: it adds to how far these differ.
        return Bytes(inside.expected, inside.high + self.unlogged.high)

    def kv_cache(self, total: int, utilization: float) -> tuple[int, int]:
        """KV-cache bytes (expected, low); negative where the rest alone is too much."""
        budget = budget_of(total, utilization)
        inside = self.inside_budget
        return budget - inside.expected, budget - inside.high

    def free_at_start(self, total: int) -> tuple[int, int]:
        """Free bytes (expected, low) when vLLM looks."""
        low = total - self.context.high - self.device_total.high
        return total - self.context.expected, low

    def startable_budget(self, total: int) -> int:
        """The largest budget that vLLM starts with: it is free then, and graphs find their room as
        far as can be expected."""
        expected, free = self.free_at_start(total)
        graphs = self.cuda_graphs_outside.expected
        return min(free, expected - graphs + self.activation_peak.expected)

    def largest_budget(self, total: int) -> int:
        """The largest budget that vLLM surely starts with and can keep.

        Graphs that the budget does not pay for are captured last, in what lies outside the budget
        and in what the profiling run's peak has left behind.
        """
        _, free = self.free_at_start(total)
        return min(free, free - self.cuda_graphs_outside.high + self.activation_peak.expected)


def budget_of(total: int, utilization: float) -> int:
    """What the engine may take: vLLM's ``ceil(total x utilization)`` (``v1/worker/utils.py``)."""
    return math.ceil(total * utilization)


@dataclass(frozen=True, slots=True)
class Load:
    """What the profiling run works on."""

    max_num_seqs: int
    max_num_batched_tokens: int
    element_bytes: int
    """Bytes of an element of weights and activations."""
    max_model_len: int = 0
    """Longest request in tokens: it bounds the videos that some models are profiled with."""
    flashinfer: bool = False
    """Whether FlashInfer samples because it is installed (``samples_with_flashinfer``)."""
    first_engine: bool = False
    """Whether the engine before V1 serves (``engine/first_engine.csv``)."""


def footprint(
    architecture: Architecture,
    version: Version,
    parallelism: Parallelism,
    load: Load,
    *,
    enforce_eager: bool,
    unexplained_bytes: int = 0,
    device: Device = ANY_DEVICE,
) -> Footprint:
    """Bytes of one rank. ``unexplained_bytes`` of the checkpoint are taken to lie on every rank."""
    runner = runner_of(architecture, version, rocm=device.rocm)
    counted = counts_cuda_graphs(version, runner)
    ranks = parallelism.tensor * parallelism.pipeline
    graphs = NOTHING if enforce_eager else gibibytes("graphs", version, ranks)
    kept = as_loaded(architecture, version, device.capability)
    exact = bytes_per_rank(kept, parallelism, load.element_bytes, version=version)
    exact += input_buffer_bytes(architecture, load.max_num_batched_tokens, load.element_bytes)
    exact += unexplained_bytes
    quantized = architecture.quantization.method is not None
    factor = coefficient("weights_quantized" if quantized else "weights", version)
    fixed = gibibytes("weights_fixed", version)
    weights = Bytes(
        math.ceil(exact * factor.expected) + fixed.expected,
        math.ceil(exact * factor.high) + fixed.high,
    )
    states = request_states(architecture, load) if runner == 2 else 0
    inside = states if does("counts-all-that-is-taken", version) else 0
    if load.first_engine:
        inside += states_beside_blocks(architecture, parallelism, load.max_num_seqs)
    non_torch = gibibytes(_communication(device, load), version, ranks)
    unexplained = coefficient("unexplained", version).high * device.memory_bytes
    return Footprint(
        weights=weights,
        activation_peak=activation_peak(architecture, version, parallelism, load, device),
        cuda_graphs=graphs if counted else NOTHING,
        non_torch=Bytes(non_torch.expected + inside, non_torch.high + inside),
        context=gibibytes("context", version, ranks),
        cuda_graphs_outside=NOTHING if counted else graphs,
        device_total=gibibytes("device_total", version),
        unexplained=Bytes(0, math.ceil(unexplained)),
        unlogged=gibibytes("unlogged", version),
    )


def _communication(device: Device, load: Load) -> str:
    if load.first_engine:
        return "non_torch_first_engine"
    return "non_torch_linked" if device.linked else "non_torch"


@lru_cache(maxsize=512)
def runner_of(architecture: Architecture, version: Version, *, rocm: bool = False) -> Literal[1, 2]:
    """The model runner that serves a model, 1 or 2."""
    if architecture.first_runner or (
        architecture.pooling and not does("pools-in-second-runner", version)
    ):
        return 1
    return model_runner(
        architecture.name,
        version,
        dense=not architecture.has_experts,
        recurrent=architecture.recurrent,
        quantized=architecture.quantization.method is not None,
        rocm=rocm,
    )


def request_states(architecture: Architecture, load: Load) -> int:
    """Bytes that the second model runner holds for penalties: of each request, how often each token
    came (four bytes) and whether it stands in the prompt (a bit).

    Source: vllm 0.33.0 ``v1/worker/gpu/sample/penalties.py``.
    """
    if architecture.pooling:
        return 0
    return load.max_num_seqs * architecture.vocabulary_size * 33 // 8


def sampler_logits(architecture: Architecture, load: Load) -> int:
    """Logits that the profiling run samples from: one row a sequence, on every rank."""
    if architecture.pooling:
        return 0
    return min(load.max_num_seqs, load.max_num_batched_tokens) * architecture.vocabulary_size


def layer_bytes(layer: Layer, hidden: int, parallelism: Parallelism, load: Load) -> int:
    """Largest transient of one layer: its MLP's, its experts' or its attention's.

    Source: vllm 0.33.0 ``layers/fused_moe/modular_kernel.py`` (workspaces of the experts) and the
    models' forward passes: residual and hidden state, projections, the activation's output.
    """
    ranks = parallelism.tensor
    sizes = [2 * hidden + 3 * layer.intermediate // ranks]
    if layer.experts_per_token:
        width = layer.expert_intermediate
        if not parallelism.expert:
            width = width // parallelism.expert_ranks
        chosen = layer.experts_per_token
        one = 3 * hidden + chosen * (max(width, hidden) + max(2 * width, hidden))
        # Before the experts, each data-parallel rank gathers the tokens of all of them.
        sizes.append(one * parallelism.data)
    if layer.query_heads:
        heads = layer.query_heads // ranks
        key_value = 0
        if isinstance(layer.cache, AttentionCache):
            groups = max(1, layer.cache.heads // ranks)
            key_value = groups * (layer.cache.key_dim + layer.cache.value_dim)
        queries = heads * (layer.query_dim + layer.value_dim)
        sizes.append(2 * hidden + queries + key_value)
    # An all-reduce does not work in place: what it gives stands beside what it takes.
    reduced = hidden if ranks > 1 else 0
    return load.element_bytes * load.max_num_batched_tokens * (max(sizes) + reduced)


def context_bytes(layer: Layer, parallelism: Parallelism, version: Version, load: Load) -> int:
    """Latent attention's up-projected context, which the profiling run makes at its largest.

    Eight whole requests or four blocks of each sequence, 65,536 tokens at most, for every head of
    the rank. Sparse attention has none. Source: vllm 0.11.0 ``mla/common.py`` and 0.33.0
    ``mla_attention.py``, ``determine_chunked_prefill_workspace_size``; 0.10.2 makes none.
    """
    cache = layer.cache
    if (
        not isinstance(cache, LatentCache)
        or cache.indexer_dim
        or not does("makes-latent-context", version)
    ):
        return 0
    pages = load.max_num_seqs * LATENT_BLOCK
    tokens = max(min(max(8 * load.max_model_len, 4 * pages), MOST_CONTEXT), pages)
    heads = layer.query_heads // parallelism.tensor
    width = layer.query_dim - cache.rope_dim + layer.value_dim
    return load.element_bytes * tokens * heads * width


def forward_bytes(
    architecture: Architecture, version: Version, parallelism: Parallelism, load: Load
) -> int:
    """Largest transient of one forward pass over all tokens of a step."""
    hidden = architecture.hidden_size
    held = 2 * load.element_bytes * load.max_num_batched_tokens * hidden
    sizes = []
    for kind in architecture.kinds:
        sizes.append(layer_bytes(kind, hidden, parallelism, load))
        context = context_bytes(kind, parallelism, version, load)
        if context:
            queries = kind.query_heads // parallelism.tensor * (kind.query_dim + kind.value_dim)
            made = load.element_bytes * load.max_num_batched_tokens * queries
            sizes.append(held + made + context)
    return max(sizes)


def encoded_items(pictures: Pictures, version: Version, load: Load) -> int:
    """Largest items that the profiling run encodes at once: as many as the encoder's budget of
    tokens holds, which is a step's, or one item's where that is more; and as many as all sequences
    may have, one each before 0.10 and then as many as their length holds.

    Source: vllm 0.33.0 ``multimodal/encoder_budget.py``, 0.10.0 ``v1/worker/gpu_model_runner.py``.
    """
    each = 1
    if does("profiles-pictures-by-length", version):
        each = max(1, min(MOST_ITEMS, load.max_model_len // pictures.tokens))
    return max(1, min(load.max_num_batched_tokens // pictures.tokens, load.max_num_seqs * each))


def frames_of(pictures: Pictures, load: Load) -> int:
    """How many images the longest video is as large as; 1 for models whose videos are no larger."""
    if not pictures.frame_pairs:
        return 1
    return min(max(1, load.max_model_len // pictures.tokens), pictures.frame_pairs)


def tower_bytes(
    architecture: Architecture, version: Version, load: Load, units: Coefficient
) -> tuple[int, int]:
    """Transient of encoding the items (expected, high): the tower's attention or its MLP.

    ``units``: copies of the hidden state that an attention with rotary positions holds at its
    widest, the queries and keys in float32 among them (``models/qwen2_vl.py``). The MLP holds the
    residual, its input, and what goes into and comes out of its activation.
    """
    pictures = architecture.pictures
    if pictures is None:
        return 0, 0
    mlp = 2 * pictures.hidden_size + 2 * pictures.intermediate_size
    patches = pictures.patches * max(
        encoded_items(pictures, version, load), frames_of(pictures, load)
    )
    each = load.element_bytes * patches
    attention = pictures.hidden_size if pictures.rotary else 0
    return (
        math.ceil(each * max(mlp, units.expected * attention)),
        math.ceil(each * max(mlp, units.high * attention)),
    )


def kept_pictures(architecture: Architecture, version: Version, load: Load) -> int:
    """Bytes of the encoded items and of their pixels, kept until the profiling run ends.

    vLLM 0.11 and 0.12 pad each item to the encoder's budget. Source: ``profile_run`` of
    ``v1/worker/gpu_model_runner.py``.
    """
    pictures = architecture.pictures
    if pictures is None:
        return 0
    items = max(encoded_items(pictures, version, load), frames_of(pictures, load))
    kept = items * pictures.tokens
    if does("pads-pictures", version):
        longest = max(pictures.tokens * frames_of(pictures, load), pictures.expanded_tokens)
        budget = max(load.max_num_batched_tokens, longest)
        if pictures.tokens < budget:
            kept += budget * max(1, budget // longest)
    pixels = items * pictures.patches * pictures.patch_elements
    return load.element_bytes * (kept * pictures.output + pixels)


def _sampler(architecture: Architecture, version: Version, load: Load, device: Device) -> str:
    if runner_of(architecture, version, rocm=device.rocm) == 2:
        return "sampler_v2"
    if device.rocm:
        return "sampler_rocm"
    return "sampler_flashinfer" if load.flashinfer else "sampler"


def activation_peak(
    architecture: Architecture,
    version: Version,
    parallelism: Parallelism,
    load: Load,
    device: Device = ANY_DEVICE,
) -> Bytes:
    """Largest transient of the profiling run: encoding, then the forward pass, then the sampler.

    What was encoded is kept during both, and the last hidden states during the sampler.
    """
    sampler = _sampler(architecture, version, load, device)
    logits = sampler_logits(architecture, load)
    kept = kept_pictures(architecture, version, load)
    tokens = load.max_num_batched_tokens
    last = load.element_bytes * tokens * architecture.hidden_size if logits else 0
    forward = forward_bytes(architecture, version, parallelism, load)
    tower, tower_high = tower_bytes(architecture, version, load, coefficient("tower", version))
    factor, rows = coefficient("forward", version), coefficient(sampler, version)
    fixed = gibibytes("transient_fixed", version)
    expected = max(
        factor.expected * forward + kept + fixed.expected,
        rows.expected * logits + kept + last,
        tower + fixed.expected,
    )
    high = max(
        factor.high * forward + kept + fixed.high,
        rows.high * logits + kept + last,
        tower_high + fixed.high,
    )
    return Bytes(math.ceil(expected), math.ceil(high))
