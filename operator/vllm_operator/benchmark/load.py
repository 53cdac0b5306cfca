"""What is asked of a server while it is measured: lengths, requests at once, how often."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from vllm_operator.api.plan import Plan
from vllm_operator.api.v1alpha1 import VLLMServer
from vllm_operator.errors import InputError

PROMPT_TOKENS: Final = 1024
OUTPUT_TOKENS: Final = 256
CONCURRENCY: Final = 16
"""Where neither the specification nor the plan says how much is expected."""
SHARED_FIELD: Final = "spec.workload.sharedPrefixTokens"
REPEATS: Final = 3
"""The fewest from which an interval is worth its name: with two, it is 12.7 standard errors."""
ROUNDS: Final = 4
"""Requests for each place of those at once: the first and the last run beside fewer others."""
LEAST_PROMPTS: Final = 20
SECONDS_AT_A_RATE: Final = 60
MOST_RUNS: Final = 200
"""Of all points and repeats: what a result of bounded size holds."""


@dataclass(frozen=True, slots=True)
class Load:
    """Lengths of all requests, in tokens of the model's tokenizer."""

    prompt_tokens: int
    """Of a whole prompt."""
    output_tokens: int
    shared_prefix_tokens: int = 0
    """Of each prompt: what all prompts of a run begin with."""

    def __str__(self) -> str:
        shared = self.shared_prefix_tokens
        inside = f" ({shared} of them shared by all)" if shared else ""
        return f"{self.prompt_tokens}{inside} + {self.output_tokens} tokens"

    def to_json_object(self) -> dict[str, Any]:
        """As it is kept."""
        return {
            "promptTokens": self.prompt_tokens,
            "outputTokens": self.output_tokens,
            "sharedPrefixTokens": self.shared_prefix_tokens,
        }


@dataclass(frozen=True, slots=True)
class Point:
    """One load: so many requests at once, or so many a second."""

    prompts: int
    """Requests of a run."""
    concurrency: int | None = None
    request_rate: float | None = None

    def __str__(self) -> str:
        if self.concurrency is not None:
            return f"{self.concurrency} at once"
        return f"{self.request_rate:g} requests/s"

    def to_json_object(self) -> dict[str, Any]:
        """As it is kept."""
        return {
            "prompts": self.prompts,
            "concurrency": self.concurrency,
            "requestRate": self.request_rate,
        }


@dataclass(frozen=True, slots=True)
class Wish:
    """What was given on the command line; None where it was not."""

    prompt_tokens: int | None = None
    output_tokens: int | None = None
    shared_prefix_tokens: int | None = None
    concurrency: int | None = None
    sweep: Sequence[int] = ()
    request_rate: float | None = None
    prompts: int | None = None
    repeats: int = REPEATS


def load_of(server: VLLMServer, plan: Plan, wish: Wish) -> Load:
    """Lengths: as given, else the specification's, else those of the plan's expected performance.

    Raises ``InputError`` where the server would refuse such requests, with lengths that it takes.
    """
    workload, expected = server.spec.workload, plan.performance
    prompt = (
        wish.prompt_tokens
        or (workload.prompt_tokens if workload else None)
        or (expected.prompt_tokens if expected else PROMPT_TOKENS)
    )
    output = (
        wish.output_tokens
        or (workload.output_tokens if workload else None)
        or (expected.output_tokens if expected else OUTPUT_TOKENS)
    )
    stated = (workload.shared_prefix_tokens if workload else None) or 0
    shared = stated if wish.shared_prefix_tokens is None else wish.shared_prefix_tokens
    longest = plan.capacity.max_model_len
    if prompt + output > longest:
        raise InputError(
            f"a request of {prompt} + {output} tokens is longer than the server's longest, "
            f"{longest}; --prompt-tokens {max(1, longest - output)} with that output fits"
            if output < longest
            else f"--output-tokens {output} leaves no room for a prompt in {longest} tokens, the "
            f"server's longest request; --output-tokens {max(1, longest // 4)} does"
        )
    if shared >= prompt:
        given = "--shared-prefix" if wish.shared_prefix_tokens else SHARED_FIELD
        raise InputError(
            f"{given} {shared} leaves nothing of a prompt of {prompt} tokens that differs; "
            f"at most {prompt - 1} (--shared-prefix)"
        )
    return Load(prompt, output, shared)


def points_of(server: VLLMServer, plan: Plan, wish: Wish) -> tuple[Point, ...]:
    """The loads in their order: one, or each of a sweep.

    Requests at once are those of all replicas: what is expected of one (``spec.workload``, the
    plan) is taken as often as there are replicas. Raises ``InputError`` for wishes that exclude
    each other, and for more runs than a result holds.
    """
    if wish.request_rate is not None:
        if wish.sweep or wish.concurrency:
            raise InputError(
                "--request-rate sends requests by the clock, whatever is answered; leave out "
                "--concurrency and --sweep, or the rate"
            )
        prompts = wish.prompts or max(LEAST_PROMPTS, round(SECONDS_AT_A_RATE * wish.request_rate))
        return (Point(prompts, request_rate=wish.request_rate),)
    if wish.sweep and wish.concurrency:
        raise InputError("--sweep has the requests at once; leave out --concurrency")
    at_once = tuple(wish.sweep) or (wish.concurrency or _expected(server, plan),)
    if len(set(at_once)) < len(at_once):
        raise InputError(f"--sweep names a load twice: {', '.join(map(str, at_once))}")
    if len(at_once) * wish.repeats > MOST_RUNS:
        raise InputError(
            f"{len(at_once)} loads, each {wish.repeats} times, are "
            f"{len(at_once) * wish.repeats} runs, and a result holds {MOST_RUNS}; "
            f"--repeats {MOST_RUNS // len(at_once)} fits"
        )
    return tuple(
        Point(wish.prompts or max(LEAST_PROMPTS, ROUNDS * one), concurrency=one) for one in at_once
    )


def _expected(server: VLLMServer, plan: Plan) -> int:
    workload = server.spec.workload
    one = (workload.concurrency if workload else None) or (
        plan.performance.concurrency if plan.performance else CONCURRENCY
    )
    return one * max(1, server.spec.replicas)


def seed_of(name: str, number: int) -> int:
    """Of a run's prompts: another one for each run and each benchmark.

    Equal prompts would be found in the prefix cache from the second time on.
    """
    return int.from_bytes(hashlib.sha256(f"{name}/{number}".encode()).digest()[:4]) >> 1
