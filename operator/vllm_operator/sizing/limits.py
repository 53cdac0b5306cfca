"""The limits of a batch while a layout is sought: what they start from, how they give way, and why.

Limits that are not pinned start from vLLM's own defaults. Where the context that is asked for does
not fit beside them, the one that drives the profiling run's peak is halved, again and again: that
is the cheapest memory there is. Where ``spec.workload`` says what to expect, they end no larger
than what the KV cache surely holds of it, and never smaller than what it asks for.
"""

from __future__ import annotations

from typing import Final

from vllm_operator.engine import defaults
from vllm_operator.engine.first_engine import first_engine_because, prefills_whole_prompts
from vllm_operator.errors import IllegalPin

from .engines import setup_of
from .gpus import GPUCandidate
from .memory import Load
from .parallelism import Parallelism
from .profiles import Profile
from .repairs import tightest
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

    def __init__(
        self,
        request: Request,
        gpu: GPUCandidate,
        element_bytes: int,
        parallelism: Parallelism,
    ) -> None:
        engine = request.engine
        self.request = request
        self.element_bytes = element_bytes
        self.asked = request.load.concurrency or 0
        self.shorter = tightest(request.repairs, "shorterMaxModelLen")
        self.fewer = tightest(request.repairs, "fewerSequences")
        self.length = engine.max_model_len or request.architecture.context_length
        if self.shorter is not None and engine.max_model_len is None:
            self.length = min(self.length, int(self.shorter.limit))
        self.whole = self.length
        """The longest request that is asked for."""
        self.setup = setup_of(request, gpu, parallelism, element_bytes)
        self.first_engine = first_engine_because(request.version, self.setup)
        """Why the engine before V1 serves, or None where it does not."""
        self.state_blocks: int | None = None
        """Blocks that bounded the sequences, one for the recurrent states of each."""
        offer = gpu.offer
        default = defaults.batch_defaults(request.version, offer.memory_bytes, offer.product)
        profile = request.features.profile
        self.start_seqs = _start(default.max_num_seqs, profile.most_seqs, profile, default.reason)
        self.start_tokens = _start(
            default.max_num_batched_tokens, profile.most_tokens, profile, default.reason
        )
        self.each = request.features.step_tokens
        """Tokens that a running sequence takes of a step."""
        self.seqs = engine.max_num_seqs or max(self.start_seqs.value, self.asked)
        self.tokens = engine.max_num_batched_tokens or self.start_tokens.value
        if engine.max_num_batched_tokens is None:
            # vLLM refuses fewer tokens a step than sequences.
            self.tokens = max(self.tokens, (engine.max_num_seqs or self.asked) * self.each)
        if engine.max_num_seqs is None:
            self.seqs = min(self.seqs, self._most_seqs)
            if self.fewer is not None:
                self.seqs = min(self.seqs, int(self.fewer.limit))
        if not self.chunked:
            self._one_step_prompts()
        self.first_seqs, self.first_tokens = self.seqs, self.tokens
        self.held: int | None = None

    @property
    def chunked(self) -> bool:
        """Whether a prompt may take several steps."""
        wanted = self.request.engine.chunked_prefill
        if wanted is not None:
            return wanted
        return self.first_engine is None or not prefills_whole_prompts(self.setup, self.length)

    def parts_prompts_above(self, length: int) -> bool:
        """Whether prompts are parted now, and would not be if requests were only so long."""
        free = self.request.engine.chunked_prefill is None and self.first_engine is not None
        return free and self.chunked and prefills_whole_prompts(self.setup, length)

    def bound_length(self, length: int) -> None:
        """Take requests of at most ``length`` tokens; a prompt may then have to be one step."""
        self.length = length
        if not self.chunked:
            self._one_step_prompts()

    def bound_seqs(self, blocks: int) -> None:
        """Take no more sequences than there are blocks for their recurrent states."""
        self.seqs = self.state_blocks = blocks

    def _one_step_prompts(self) -> None:
        """Without chunked prefill a prompt is one step: tokens a step bound the length."""
        engine = self.request.engine
        if engine.max_num_batched_tokens is None:
            self.tokens = max(self.tokens, self.length)
        elif engine.max_model_len is None:
            self.length = min(self.length, self.tokens)

    @property
    def _most_seqs(self) -> int:
        """Sequences that a step has tokens for."""
        return max(1, self.tokens // self.each)

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
            first_engine=self.first_engine is not None,
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
        needed = (self.request.engine.max_num_seqs or self.asked) * self.each
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
        if self.request.engine.max_num_seqs is None:
            self.seqs = min(self.seqs, self._most_seqs)

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
        self.tokens = max(half, self.seqs * self.each)
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
            floor = max(self._tokens_floor, self.seqs * self.each)
            self.tokens = min(self.tokens, max(floor, prompts))
        return (self.seqs, self.tokens) != before

    def explained_length(self, length: int) -> Chosen:
        """``max-model-len`` with its reason."""
        if self.request.engine.max_model_len is not None:
            return Chosen(length, "pinned in spec.engine.maxModelLen")
        limit = self.request.architecture.context_length
        if self.shorter is not None and length == self.shorter.limit:
            return Chosen(length, self.shorter.reason)
        if length == limit:
            return Chosen(length, "the model's own limit, and it fits")
        if not self.chunked and length == self.tokens:
            if self.first_engine is not None:
                return Chosen(length, f"{self._one_step}; the model's own limit is {limit}")
            reason = "a prompt is one step without chunked prefill; the model's own limit is"
        else:
            reason = "the longest that fits; the model's own limit is"
        return Chosen(length, f"{reason} {limit}")

    def explained_seqs(self) -> Chosen:
        """``max-num-seqs`` with its reason."""
        value, load = self.seqs, self.request.load
        if self.request.engine.max_num_seqs is not None:
            return Chosen(value, "pinned in spec.engine.maxNumSeqs")
        if self.fewer is not None and value == self.fewer.limit:
            return Chosen(value, self.fewer.reason)
        if self.state_blocks == value:
            return Chosen(
                value,
                f"the KV cache surely has {value} blocks, and vLLM {self.request.version} wants "
                f"one for the recurrent states of each sequence; {self.start_seqs.value} is the "
                f"{self.start_seqs.reason}",
            )
        if self.held is not None and value == max(self.held, self.asked) != self.first_seqs:
            return Chosen(
                value,
                f"the KV cache surely holds {self.held} request{'s' * (self.held != 1)} of "
                f"{load.request} (spec.workload); {self.start_seqs.value} is the "
                f"{self.start_seqs.reason}",
            )
        if value == self.asked > self.start_seqs.value:
            return Chosen(
                value,
                f"raised from {self.start_seqs.value}, the {self.start_seqs.reason}, to "
                "spec.workload.concurrency",
            )
        if value == self.asked < self.first_seqs:
            return Chosen(
                value,
                f"lowered from {self.first_seqs}, the {self.start_seqs.reason}, to "
                "spec.workload.concurrency, to make room for the KV cache",
            )
        if self.each > 1 and value == self._most_seqs < self.start_seqs.value:
            return Chosen(
                value,
                f"a step of {self.tokens} tokens verifies {self.each} of each sequence "
                f"(spec.engine.speculative); {self.start_seqs.value} is the "
                f"{self.start_seqs.reason}",
            )
        return self._halved(value, self.first_seqs, self.start_seqs)

    def explained_tokens(self) -> Chosen:
        """``max-num-batched-tokens`` with its reason."""
        value, load = self.tokens, self.request.load
        if self.request.engine.max_num_batched_tokens is not None:
            return Chosen(value, "pinned in spec.engine.maxNumBatchedTokens")
        if not self.chunked and value >= self.length:
            if self.request.engine.chunked_prefill is None:
                return Chosen(value, f"{self._one_step}; {self.start_tokens.value} is vLLM's own")
            return Chosen(value, "the longest prompt: without chunked prefill it is one step")
        prompts = self.seqs * load.prompt_tokens
        if self.held is not None and prompts <= value < self.first_tokens:
            return Chosen(
                value,
                f"no step has more to compute: {self.seqs} prompts of {load.prompt_tokens} tokens "
                f"(spec.workload) are {prompts}; {self.first_tokens} is the "
                f"{self.start_tokens.reason}",
            )
        return self._halved(value, self.first_tokens, self.start_tokens)

    @property
    def _one_step(self) -> str:
        return (
            "the longest prompt is one step: the engine before V1 serves, because "
            f"{self.first_engine}, and it leaves chunked prefill off"
        )

    def refused(self) -> IllegalPin | None:
        """Why the engine before V1, where it serves, refuses the pins."""
        engine = self.request.engine
        if self.first_engine is None:
            return None
        if engine.chunked_prefill is True and self.setup.pooling:
            return IllegalPin(
                "spec.engine.chunkedPrefill",
                f"is true, and the engine before V1 serves, because {self.first_engine}: it "
                "refuses that for models that are pooled; remove it",
            )
        tokens, length = engine.max_num_batched_tokens, engine.max_model_len
        if tokens is None or length is None or tokens >= length or self.chunked:
            return None
        return IllegalPin(
            "spec.engine.maxNumBatchedTokens",
            f"is {tokens}, less than spec.engine.maxModelLen {length}, and {self._one_step}; "
            f"set it to at least {length}",
        )

    def _halved(self, value: int, first: int, start: Chosen) -> Chosen:
        if value != first:
            return Chosen(
                value,
                f"lowered from {first}, the {start.reason}, to make room for the KV cache",
            )
        if value > start.value:
            field = "maxNumSeqs" if self.request.engine.max_num_seqs else None
            source = f"spec.engine.{field}" if field else "spec.workload.concurrency"
            if self.each == 1:
                return Chosen(value, f"raised to {source}, one token a sequence")
            each = f"{self.each} tokens a sequence (spec.engine.speculative)"
            return Chosen(value, f"raised to {source}, {each}")
        if value < start.value:
            return Chosen(value, "bounded by spec.engine.maxNumBatchedTokens")
        return Chosen(value, start.reason)


def _start(default: int, most: int | None, profile: Profile, reason: str) -> Chosen:
    """What a limit starts from, and what that is called."""
    if most is not None and most < default:
        return Chosen(most, f"limit of spec.workload.profile {profile.name}")
    if profile.times > 1:
        named = f"doubled {reason} (spec.workload.profile {profile.name})"
        return Chosen(default * profile.times, named)
    return Chosen(default, reason)
