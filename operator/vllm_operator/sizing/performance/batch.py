"""What a step carries under a load, what bounds a batch, and the figures that come of it.

Times are in seconds, lengths in tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class PerformanceEstimate:
    """What a server does under a load."""

    time_to_first_token: float
    """Seconds until the first token of a request that finds a place in the batch at once; of a
    burst, the mean over all requests, with their waiting."""
    inter_token_latency: float
    """Mean seconds between a request's tokens, the prompts of others included (TPOT)."""
    output_tokens_per_second: float
    """Of the whole server."""
    requests_per_second: float
    batch: float
    """Mean number of requests that generate at once."""
    napkin_tokens_per_second: float
    """Upper bound for one request alone: bandwidth over the bytes read for a token."""

    def of_ranks(self, number: float) -> PerformanceEstimate:
        """Of ``number`` such engines behind one address."""
        return replace(
            self,
            output_tokens_per_second=number * self.output_tokens_per_second,
            requests_per_second=number * self.requests_per_second,
            batch=number * self.batch,
        )


@dataclass(frozen=True, slots=True)
class Limits:
    """What bounds a batch of one engine (one data-parallel rank)."""

    tokens: int
    """``--max-num-batched-tokens``."""
    sequences: float
    """``--max-num-seqs``, or what the KV cache holds where that is less."""
    cache_bound: bool = False
    """Whether the KV cache is what limits, so that requests are preempted."""


@dataclass(frozen=True, slots=True)
class Load:
    """What a step carries on average."""

    decodes: float
    """Generated tokens."""
    context: float
    """Tokens that each of them attends to."""
    prompts: float
    """Tokens of prompts."""
    prompt_context: float


@dataclass(frozen=True, slots=True)
class Mixture:
    """Steps of a load: some carry pieces of prompts, the others do not."""

    mixed: float
    """Seconds of a step with a piece of a prompt on this rank or on one that it waits for."""
    alone: float
    share: float
    """Share of this rank's steps that carry a piece of a prompt."""
    elsewhere: float
    """Share of steps in which a rank that steps together with this one has such a piece."""
    chunk: float
    """Tokens of such a piece."""

    @property
    def step(self) -> float:
        """Mean seconds of a step."""
        return self.among_others(1.0)

    def among_others(self, others: float) -> float:
        """Mean seconds of a step that a generating request sees, which shares its rank's prompts
        with a share ``others`` of all requests: its own prompt is computed before it generates."""
        share = self.share * others
        share += (1.0 - share) * self.elsewhere
        return share * self.mixed + (1.0 - share) * self.alone
