"""The expected request and how many of them run at once: ``spec.workload``, checked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from vllm_operator.api.v1alpha1 import Engine
from vllm_operator.api.workload import Workload
from vllm_operator.errors import IllegalPin

PROMPT_TOKENS: Final = 1024
OUTPUT_TOKENS: Final = 256
"""The request that is expected where ``spec.workload`` does not say."""


@dataclass(frozen=True, slots=True)
class ExpectedLoad:
    """Requests of ``prompt_tokens`` + ``output_tokens`` tokens, ``concurrency`` of them at once."""

    prompt_tokens: int
    output_tokens: int
    concurrency: int | None
    """Requests at once on one engine (one data-parallel rank); None where nobody asks for any."""
    stated: bool
    """Whether ``spec.workload`` says any of this."""
    shared_tokens: int = 0
    """Tokens that all prompts begin with."""
    draft_acceptance: float | None = None
    """Share of drafted tokens that are accepted; None where nobody says it."""

    @property
    def tokens(self) -> int:
        """Tokens of one request at its end."""
        return self.prompt_tokens + self.output_tokens

    @property
    def request(self) -> str:
        """One request for a message: ``1024 + 256 tokens``."""
        text = f"{self.prompt_tokens} + {self.output_tokens} tokens"
        return f"{text} ({self.shared_tokens} shared by all)" if self.shared_tokens else text

    @property
    def source(self) -> str:
        """Where it comes from, for a message."""
        return "spec.workload" if self.stated else "assumed: spec.workload states none"


def expected_load(workload: Workload | None, limit: int, data: int) -> ExpectedLoad:
    """The load on each of ``data`` ranks; what is not stated is cut to requests of ``limit``."""
    prompt = workload.prompt_tokens if workload else None
    output = workload.output_tokens if workload else None
    asked = workload.concurrency if workload else None
    if output is None:
        room = limit // 2 if prompt is None else limit - prompt
        output = min(OUTPUT_TOKENS, max(1, room))
    if prompt is None:
        prompt = min(PROMPT_TOKENS, max(1, limit - output))
    shared = workload.shared_prefix_tokens if workload else None
    given = (workload.prompt_tokens, workload.output_tokens, asked, shared) if workload else ()
    return ExpectedLoad(
        prompt_tokens=prompt,
        output_tokens=output,
        concurrency=None if asked is None else -(-asked // data),
        stated=any(figure is not None for figure in given),
        shared_tokens=shared or 0,
        draft_acceptance=workload.draft_acceptance if workload else None,
    )


def load_problems(
    load: ExpectedLoad, workload: Workload | None, engine: Engine, context_length: int, data: int
) -> Iterator[IllegalPin]:
    """Why a stated load contradicts the model or a pin, with the figure that would not."""
    if workload is None:
        return
    if load.draft_acceptance is not None and engine.speculative is None:
        yield IllegalPin(
            "spec.workload.draftAcceptance",
            f"is {load.draft_acceptance:g}, and nothing is drafted; set spec.engine.speculative, "
            "or remove it",
        )
    if not load.stated:
        return
    if load.shared_tokens >= load.prompt_tokens:
        yield IllegalPin(
            "spec.workload.sharedPrefixTokens",
            f"is {load.shared_tokens}, and a prompt of {load.prompt_tokens} tokens "
            f"({'promptTokens' if workload.prompt_tokens else 'assumed'}) has more than what it "
            f"shares; set it to at most {load.prompt_tokens - 1}, or promptTokens to at least "
            f"{load.shared_tokens + 1}",
        )
    length, tokens = engine.max_model_len, engine.max_num_batched_tokens
    if load.tokens > context_length:
        longer = load.prompt_tokens >= load.output_tokens
        name = "promptTokens" if longer else "outputTokens"
        rest = min(load.prompt_tokens, load.output_tokens)
        works = f"set it to at most {context_length - rest}"
        if rest >= context_length:
            works = f"set both to at most {context_length} together"
        yield IllegalPin(
            f"spec.workload.{name}",
            f"a request of {load.request} is longer than the model's own limit of "
            f"{context_length}; {works}",
        )
    elif length is not None and load.tokens > length:
        yield IllegalPin(
            "spec.engine.maxModelLen",
            f"is {length}, and spec.workload expects requests of {load.request}; "
            f"set it to at least {load.tokens}",
        )
    if engine.chunked_prefill is False and tokens is not None and load.tokens > tokens:
        yield IllegalPin(
            "spec.engine.maxNumBatchedTokens",
            f"is {tokens}, and without chunkedPrefill it bounds a request, of which spec.workload "
            f"expects {load.request}; set it to at least {load.tokens}",
        )
    asked = load.concurrency
    if asked is None:
        return
    ranks = f" over {data} data-parallel ranks" if data > 1 else ""
    for field, pin in (
        ("maxNumSeqs", engine.max_num_seqs),
        ("maxNumActiveSeqs", engine.max_num_active_seqs),
        ("maxNumBatchedTokens", tokens),
    ):
        if pin is not None and pin < asked:
            yield IllegalPin(
                f"spec.engine.{field}",
                f"is {pin}, less than the {asked} requests at once of spec.workload.concurrency "
                f"{workload.concurrency}{ranks}; set it to at least {asked}, or the concurrency to "
                f"at most {pin * data}",
            )
