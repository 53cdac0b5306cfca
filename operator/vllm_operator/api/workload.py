"""The expected traffic of a replica, and what to favour when it is sized for it."""

from __future__ import annotations

from typing import Literal

from . import rules
from .base import ResourceModel, validations
from .fields import field

Profile = Literal["Balanced", "Throughput", "Latency", "LongContext", "Cost"]


class ServiceLevelObjective(ResourceModel):
    """Latencies to keep at a percentile."""

    time_to_first_token_milliseconds: int | None = field(
        "Time to the first token, in milliseconds.", ge=1, le=3_600_000
    )
    inter_token_latency_milliseconds: int | None = field(
        "Time between two tokens, in milliseconds.", ge=1, le=60_000
    )
    percentile: int | None = field(
        "Percentile of all requests, or of all tokens, at which they hold; 95 by default.",
        ge=50,
        le=99,
    )


class Workload(ResourceModel):
    """The expected traffic of one replica."""

    profile: Profile | None = field(
        "What to favour. Balanced (default): vLLM's own limits. Throughput: larger steps. Latency: "
        "more tensor parallelism inside a node, small steps. LongContext: the model's whole "
        "context, with an fp8 KV cache where the GPU has it. Cost: the fewest GPUs, at the price "
        "of context that nobody asked for."
    )
    prompt_tokens: int | None = field(
        "Expected prompt length in tokens; 1024 by default.", ge=1, le=16_777_216
    )
    shared_prefix_tokens: int | None = field(
        "Tokens that all prompts begin with, of promptTokens: a system prompt, say. Where prefixes "
        "are cached they are computed once and kept once.",
        ge=0,
        le=16_777_216,
    )
    output_tokens: int | None = field(
        "Expected output length in tokens; 256 by default.", ge=1, le=16_777_216
    )
    concurrency: int | None = field(
        "Expected requests at once on one replica: it is sized so that the KV cache surely holds "
        "them. By default, one request of the longest length is.",
        ge=1,
        le=65_536,
    )
    draft_acceptance: float | None = field(
        "Share of drafted tokens that are accepted, with spec.engine.speculative: what the engine "
        "counts as accepted over what it counts as drafted. Without it the expected performance "
        "takes no account of drafts.",
        ge=0,
        le=1,
    )
    slo: ServiceLevelObjective | None = field(
        "Latencies to keep; tuning (spec.autotune) goes by them.",
        schema=validations(rules.AN_OBJECTIVE_HAS_A_LATENCY),
    )
