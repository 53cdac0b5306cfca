"""What the profiling run works on."""

from __future__ import annotations

from dataclasses import dataclass


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
    drafts: int = 0
    """Tokens that are drafted for a sequence before they are verified."""
    first_engine: bool = False
    """Whether the engine before V1 serves (``engine/first_engine.csv``)."""
