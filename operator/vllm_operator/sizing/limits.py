"""The limits of a batch while a layout is sought: what they start from, how they give way, and why.

Limits that are not pinned start from vLLM's own defaults. Where the context that is asked for does
not fit beside them, the one that drives the profiling run's peak is halved, again and again: that
is the cheapest memory there is. Where ``spec.workload`` says what to expect, they end no larger
than what the KV cache surely holds of it, and never smaller than what it asks for.
"""

from __future__ import annotations

from typing import Final

from vllm_operator.engine import defaults

from .gpus import GPUCandidate
from .memory import Load
from .request import Request
from .suitability import Chosen

SMALLEST_MAX_NUM_SEQS: Final = 64
SMALLEST_MAX_NUM_BATCHED_TOKENS: Final = 2048
TOKENS_STEP: Final = 256
"""Tokens a step that follow from the expected prompts are a multiple of this."""
SHORTEST_USEFUL_LENGTH: Final = 1024
"""A server whose requests must be shorter than this is not worth starting unasked."""


class Limits:
    """``max-num-seqs``, ``max-num-batched-tokens`` and ``max-model-len`` of one layout."""

    def __init__(self, request: Request, gpu: GPUCandidate, element_bytes: int) -> None:
        engine = request.engine
        self.request = request
        self.element_bytes = element_bytes
        self.asked = request.load.concurrency or 0
        self.length = engine.max_model_len or request.architecture.context_length
        self.chunked = engine.chunked_prefill is not False
        offer = gpu.offer
        self.default = defaults.batch_defaults(request.version, offer.memory_bytes, offer.product)
        self.seqs = engine.max_num_seqs or max(self.default.max_num_seqs, self.asked)
        self.tokens = engine.max_num_batched_tokens or self.default.max_num_batched_tokens
        if engine.max_num_batched_tokens is None:
            # vLLM refuses fewer tokens a step than sequences.
            self.tokens = max(self.tokens, engine.max_num_seqs or self.asked)
        if engine.max_num_seqs is None:
            self.seqs = min(self.seqs, self.tokens)
        if not self.chunked:
            self._one_step_prompts()
        self.first_seqs, self.first_tokens = self.seqs, self.tokens
        self.held: int | None = None

    def _one_step_prompts(self) -> None:
        """Without chunked prefill a prompt is one step: tokens a step bound the length."""
        engine = self.request.engine
        if engine.max_num_batched_tokens is None:
            self.tokens = max(self.tokens, self.length)
        elif engine.max_model_len is None:
            self.length = min(self.length, self.tokens)

    @property
    def load(self) -> Load:
        """What the profiling run works on."""
        # The length only matters to the profiling run of models that see pictures.
        length = self.length if self.request.architecture.pictures else 0
        return Load(
            self.seqs,
            self.tokens,
            self.element_bytes,
            max_model_len=length,
            flashinfer=defaults.samples_with_flashinfer(self.request.version, self.request.image),
        )

    @property
    def useful_length(self) -> int:
        """Length below which the layout is not worth having; what the load needs where stated."""
        expected = self.request.load.tokens if self.request.load.stated else 0
        return max(expected, min(SHORTEST_USEFUL_LENGTH, self.length))

    @property
    def _seqs_floor(self) -> int:
        return self.asked or SMALLEST_MAX_NUM_SEQS

    @property
    def _tokens_floor(self) -> int:
        needed = self.request.engine.max_num_seqs or self.asked
        return max(SMALLEST_MAX_NUM_BATCHED_TOKENS, needed)

    @property
    def may_lower_tokens(self) -> bool:
        """Whether fewer tokens a step may be taken."""
        free = self.chunked and self.request.engine.max_num_batched_tokens is None
        return free and self.tokens > self._tokens_floor

    @property
    def may_lower_seqs(self) -> bool:
        """Whether fewer sequences may be taken."""
        return self.request.engine.max_num_seqs is None and self.seqs > self._seqs_floor

    def lower_seqs(self) -> None:
        """Halve the sequences, down to what is asked for."""
        self.seqs = max(self._seqs_floor, self.seqs // 2)

    def lower_tokens(self) -> None:
        """Halve the tokens a step, and bound the sequences by them."""
        self.tokens = max(self._tokens_floor, self.tokens // 2)
        self.seqs = min(self.seqs, self.tokens)

    def shorten(self, block_size: int) -> bool:
        """Without chunked prefill, halve the length that is not asked for, and the step with it."""
        engine = self.request.engine
        if self.chunked or engine.max_num_batched_tokens is not None:
            return False
        if engine.max_model_len is not None or self.length <= SHORTEST_USEFUL_LENGTH:
            return False
        half = self.length // 2 // block_size * block_size
        if half < self.useful_length:
            return False
        self.length = half
        self.tokens = max(half, self.seqs)
        return True

    def follow(self, held: int) -> bool:
        """Take limits of the expected load, of which ``held`` requests surely fit.

        Returns whether a limit changed.
        """
        load, engine = self.request.load, self.request.engine
        before = self.seqs, self.tokens
        self.held = held
        if engine.max_num_seqs is None:
            self.seqs = min(self.seqs, max(1, held, self.asked))
        if engine.max_num_batched_tokens is None and self.chunked:
            prompts = -(-self.seqs * load.prompt_tokens // TOKENS_STEP) * TOKENS_STEP
            floor = max(self._tokens_floor, self.seqs)
            self.tokens = min(self.tokens, max(floor, prompts))
        return (self.seqs, self.tokens) != before

    def explained_length(self, length: int) -> Chosen:
        """``max-model-len`` with its reason."""
        if self.request.engine.max_model_len is not None:
            return Chosen(length, "pinned in spec.engine.maxModelLen")
        limit = self.request.architecture.context_length
        if length == limit:
            return Chosen(length, "the model's own limit, and it fits")
        if not self.chunked and length == self.tokens:
            reason = "a prompt is one step without chunked prefill; the model's own limit is"
        else:
            reason = "the longest that fits; the model's own limit is"
        return Chosen(length, f"{reason} {limit}")

    def explained_seqs(self) -> Chosen:
        """``max-num-seqs`` with its reason."""
        value, load = self.seqs, self.request.load
        if self.request.engine.max_num_seqs is not None:
            return Chosen(value, "pinned in spec.engine.maxNumSeqs")
        if self.held is not None and value == max(self.held, self.asked) != self.first_seqs:
            return Chosen(
                value,
                f"the KV cache surely holds {self.held} request{'s' * (self.held != 1)} of "
                f"{load.request} (spec.workload); {self.default.max_num_seqs} is the "
                f"{self.default.reason}",
            )
        if value == self.asked > self.default.max_num_seqs:
            return Chosen(
                value,
                f"raised from {self.default.max_num_seqs}, the {self.default.reason}, to "
                "spec.workload.concurrency",
            )
        if value == self.asked < self.first_seqs:
            return Chosen(
                value,
                f"lowered from {self.first_seqs}, the {self.default.reason}, to "
                "spec.workload.concurrency, to make room for the KV cache",
            )
        return self._halved(value, self.first_seqs, self.default.max_num_seqs)

    def explained_tokens(self) -> Chosen:
        """``max-num-batched-tokens`` with its reason."""
        value, load = self.tokens, self.request.load
        if self.request.engine.max_num_batched_tokens is not None:
            return Chosen(value, "pinned in spec.engine.maxNumBatchedTokens")
        if not self.chunked and value >= self.length:
            return Chosen(value, "the longest prompt: without chunked prefill it is one step")
        prompts = self.seqs * load.prompt_tokens
        if self.held is not None and prompts <= value < self.first_tokens:
            return Chosen(
                value,
                f"no step has more to compute: {self.seqs} prompts of {load.prompt_tokens} tokens "
                f"(spec.workload) are {prompts}; {self.first_tokens} is the {self.default.reason}",
            )
        return self._halved(value, self.first_tokens, self.default.max_num_batched_tokens)

    def _halved(self, value: int, first: int, default: int) -> Chosen:
        if value != first:
            return Chosen(
                value,
                f"lowered from {first}, the {self.default.reason}, to make room for the KV cache",
            )
        if value > default:
            field = "maxNumSeqs" if self.request.engine.max_num_seqs else None
            source = f"spec.engine.{field}" if field else "spec.workload.concurrency"
            return Chosen(value, f"raised to {source}, one token a sequence")
        if value < default:
            return Chosen(value, "bounded by spec.engine.maxNumBatchedTokens")
        return Chosen(value, self.default.reason)
