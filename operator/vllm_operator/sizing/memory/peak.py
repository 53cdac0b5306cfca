"""The peak of the profiling run, in closed forms of our own that vLLM's code gives.

``coefficients.csv`` fits them. From 0.29 on (the second runner) and 0.20 on (the first) the peak
that the engine prints at its end has the estimate of CUDA graphs in it (``peak_activation_memory``
of 0.30.0 ``v1/worker/gpu_worker.py``); here they are apart.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Final, Literal

from vllm_operator.engine.defaults import model_runner
from vllm_operator.engine.tables import does
from vllm_operator.engine.versions import Version
from vllm_operator.models.architecture import Architecture
from vllm_operator.models.shapes import (
    AttentionCache,
    CompressedCache,
    LatentCache,
    Layer,
    Pictures,
)
from vllm_operator.sizing.split.parallelism import Parallelism

from .coefficients import Bytes, Coefficient, coefficient, gibibytes
from .device import ANY_DEVICE, Device
from .load import Load
from .sparse import sparse_logits, sparse_workspace

LATENT_BLOCK: Final = 64
"""Tokens in a block of latent attention's kernels (FlashMLA)."""
MOST_CONTEXT: Final = 64 * 1024
STREAMS: Final = 4
"""Copies of the hidden state that DeepSeek-V4's hyper-connections carry (``hc_mult``)."""
MOST_ITEMS: Final = 999
"""Pictures of a prompt where ``--limit-mm-per-prompt`` does not say."""


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
    kept = architecture.kept_states * load.element_bytes * load.max_num_batched_tokens * hidden
    return max(sizes) + kept


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


def encoded_at_once(
    pictures: Pictures, version: Version, load: Load, ranks: int
) -> tuple[int, int]:
    """Largest items that one of the ranks encodes in the profiling run, and those kept of all.

    Where each rank encodes items of its own, what comes out is padded to the fullest rank's before
    all of them gather it, and slices of that are kept (0.33.0 ``models/vision.py``,
    ``run_dp_sharded_mrope_vision_model``).
    """
    items, frames = encoded_items(pictures, version, load), frames_of(pictures, load)
    if not pictures.spread:
        return (max(items, frames),) * 2
    fullest = max(-(-items // ranks), frames)
    return fullest, ranks * fullest


def tower_bytes(
    architecture: Architecture, version: Version, load: Load, units: Coefficient, ranks: int = 1
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
    items, gathered = encoded_at_once(pictures, version, load, ranks)
    patches = pictures.patches * items
    each = load.element_bytes * patches
    attention = pictures.hidden_size if pictures.rotary else 0
    # What a rank made lies beside what all of them gather.
    own = (items + gathered) * pictures.tokens * pictures.output if pictures.spread else 0
    return (
        math.ceil(max(each * max(mlp, units.expected * attention), load.element_bytes * own)),
        math.ceil(max(each * max(mlp, units.high * attention), load.element_bytes * own)),
    )


def kept_pictures(architecture: Architecture, version: Version, load: Load, ranks: int = 1) -> int:
    """Bytes of the encoded items and of their pixels, kept until the profiling run ends.

    vLLM 0.11 and 0.12 pad each item to the encoder's budget. Source: ``profile_run`` of
    ``v1/worker/gpu_model_runner.py``.
    """
    pictures = architecture.pictures
    if pictures is None:
        return 0
    items = max(encoded_items(pictures, version, load), frames_of(pictures, load))
    _, gathered = encoded_at_once(pictures, version, load, ranks)
    kept = gathered * pictures.tokens
    if does("pads-pictures", version):
        longest = max(pictures.tokens * frames_of(pictures, load), pictures.expanded_tokens)
        budget = max(load.max_num_batched_tokens, longest)
        if pictures.tokens < budget:
            kept += budget * max(1, budget // longest)
    pixels = items * pictures.patches * pictures.patch_elements
    return load.element_bytes * (kept * pictures.output + pixels)


def sparse_bytes(
    architecture: Architecture, version: Version, parallelism: Parallelism, load: Load, rocm: bool
) -> tuple[int, int, int]:
    """Bytes of a step in front of sparse attention, of the indexer's logits beside it, and of the
    workspace that stays; zeros where no layer attends sparsely."""
    streams, workspace, logits = 0, 0, 0
    for kind in architecture.kinds:
        asked = sparse_workspace(kind.cache, version, load, rocm=rocm)
        if not asked:
            continue
        workspace = max(workspace, asked)
        logits = max(logits, sparse_logits(kind.cache, version))
        copies = 2 * STREAMS + 1 if isinstance(kind.cache, CompressedCache) else 2
        queries = kind.query_heads // parallelism.tensor * (kind.query_dim + kind.value_dim)
        streams = max(streams, copies * architecture.hidden_size + queries)
    return load.element_bytes * load.max_num_batched_tokens * streams, logits, workspace


def _sampler(architecture: Architecture, version: Version, load: Load, device: Device) -> str:
    if runner_of(architecture, version, rocm=device.rocm) == 2:
        return "sampler_v2"
    if load.drafts:
        return "sampler_drafting"
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

    What was encoded is kept during both, and the last hidden states during the sampler, which of
    the first runner verifies a drafted token of each sequence where tokens are drafted
    (``_dummy_sampler_run``).
    """
    sampler = _sampler(architecture, version, load, device)
    logits = sampler_logits(architecture, load)
    ranks = parallelism.tensor
    kept = kept_pictures(architecture, version, load, ranks)
    tokens = load.max_num_batched_tokens
    last = load.element_bytes * tokens * architecture.hidden_size if logits else 0
    forward = forward_bytes(architecture, version, parallelism, load)
    tower, tower_high = tower_bytes(
        architecture, version, load, coefficient("tower", version), ranks
    )
    factor, rows = coefficient("forward", version), coefficient(sampler, version)
    fixed = gibibytes("transient_fixed", version)
    streams, beside, workspace = sparse_bytes(architecture, version, parallelism, load, device.rocm)
    sparse = coefficient("forward_sparse", version)
    beside += workspace
    expected = max(
        factor.expected * forward + kept + fixed.expected,
        sparse.expected * streams + beside + kept + fixed.expected,
        rows.expected * logits + workspace + kept + last,
        tower + fixed.expected,
    )
    high = max(
        factor.high * forward + kept + fixed.high,
        sparse.high * streams + beside + kept + fixed.high,
        rows.high * logits + workspace + kept + last,
        tower_high + fixed.high,
    )
    return Bytes(math.ceil(expected), math.ceil(high))
