"""What a plan expects of a replica: its speed, what bounds it, and what it costs."""

from __future__ import annotations

from typing import Literal

from .base import ResourceModel
from .fields import field, required


class Range(ResourceModel):
    """Where nine of ten measurements lie."""

    low: float = required("Lower end.")
    high: float = required("Upper end.")


class SpeedCorrection(ResourceModel):
    """What a measured server of the kind corrected the estimate by."""

    measured_at: str = required("When it was measured.", max_length=32)
    inter_token_latency: float = required("Factor on the time between tokens.")
    output_tokens_per_second: float = required("Factor on the throughput.")


class PerformanceRanges(ResourceModel):
    """Where nine of ten measurements of such servers lie, whose model was not fitted to."""

    time_to_first_token: Range = required("Seconds to the first token.")
    inter_token_latency: Range = required("Seconds between tokens.")
    output_tokens_per_second: Range = required("Output tokens a second.")


class StepBound(ResourceModel):
    """What most of a step's time goes to."""

    by: Literal["Memory", "Arithmetic", "Overhead"] = required(
        "Memory: reading weights and cache. Arithmetic. Overhead: launches, communication between "
        "GPUs, the host."
    )
    share: float = required("Share of the step's time.")


class StepBounds(ResourceModel):
    """What bounds the steps of that load."""

    generating: StepBound = required("Steps in which no prompt is computed.")
    prompts: StepBound = required("Steps with a piece of a prompt.")
    arithmetic_from_tokens: int | None = field(
        "Tokens in a step from which its matrices take longer to compute than to read; none where "
        "there are none."
    )


class Drafts(ResourceModel):
    """What speculative decoding does for that load."""

    acceptance: float | None = field(
        "Share of drafts that are accepted, as spec.workload.draftAcceptance says; none where it "
        "does not, and then the other figures of performance are without drafts."
    )
    tokens_per_step: float | None = field("Tokens that a step makes of a request, with it.")
    break_even_acceptance: float | None = field(
        "Share of drafts from which on the replica makes more tokens a second than without them; "
        "none where it does not even if all are accepted."
    )
    answer_share_at_best: float = required(
        "Time of an answer if every draft is accepted, over its time without drafts."
    )
    output_tokens_per_second_without: float = required(
        "Output tokens a second of the replica without drafts."
    )
    weight_share: float | None = field(
        "Bytes that one pass of the draft reads, over those of a pass of the model."
    )


class Performance(ResourceModel):
    """One replica in steady state at that concurrency."""

    prompt_tokens: int = required("Prompt length.")
    cached_prompt_tokens: int | None = field(
        "Tokens of each prompt that are found in the prefix cache; none where no prompt is "
        "expected to begin like others."
    )
    output_tokens: int = required("Output length.")
    concurrency: int = required("Requests at once.")
    time_to_first_token: float = required("Seconds to the first token.")
    inter_token_latency: float = required("Seconds between tokens.")
    output_tokens_per_second: float = required("Output tokens a second.")
    output_tokens_per_second_per_request: float | None = field(
        "Output tokens a second that one request sees once its first token is there."
    )
    requests_per_second: float = required("Requests a second.")
    napkin_tokens_per_second: float = required("Bandwidth over bytes: the figure on a napkin.")
    ranges: PerformanceRanges | None = field(
        "How far the figures may be off; none with drafts, which no published run judges, and in "
        "plans that an older operator made."
    )
    gpu_measured: str | None = field(
        "When the GPU was measured on whose figures these rest; none where its datasheet counts.",
        max_length=32,
    )
    correction: SpeedCorrection | None = field(
        "What a measured server of the kind corrects the estimate by; none where none was."
    )
    bounds: StepBounds | None = field("What bounds a step: memory, arithmetic, or neither.")
    drafts: Drafts | None = field("What drafts do, where there are any.")


class Cost(ResourceModel):
    """What one replica costs, by the prices that the operator was given."""

    currency: str = required("Currency of the prices.", max_length=16)
    gpu_hour: float = required("Price of an hour of one GPU.")
    hour: float = required("Price of an hour of all GPUs of one replica.")
    million_output_tokens: float | None = field(
        "Price of a million output tokens at the expected load; none where nothing is known of the "
        "GPU's speed."
    )
    million_tokens: float | None = field(
        "Price of a million tokens of prompts and outputs together, at that load."
    )
