"""The limits of a batch while a layout is sought: what they start from and how they give way.

Limits that are not pinned start from vLLM's own defaults. Where the context that is asked for does
not fit beside them, the one that drives the profiling run's peak is halved, again and again: that
is the cheapest memory there is. Where ``spec.workload`` says what to expect, they end no larger
than what the KV cache surely holds of it, and never smaller than what it asks for.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from vllm_operator.engine import defaults
from vllm_operator.engine.first_engine import Setup, first_engine_because, prefills_whole_prompts
from vllm_operator.errors import IllegalPin
from vllm_operator.sizing.asked.gpu_candidates import GPUCandidate
from vllm_operator.sizing.asked.specification import ACTIVE_FLAG, Asked
from vllm_operator.sizing.asked.workload_profiles import Profile
from vllm_operator.sizing.memory.load import Load
from vllm_operator.sizing.split.parallelism import Parallelism

from .knobs import Knob, repaired, tuned
from .v0_setup import setup_of

SMALLEST_MAX_NUM_SEQS: Final = 64
SMALLEST_MAX_NUM_BATCHED_TOKENS: Final = 2048
TOKENS_STEP: Final = 256
"""Tokens a step that follow from the expected prompts are a multiple of this."""
SHORTEST_USEFUL_LENGTH: Final = 1024
"""A server whose requests must be shorter than this is not worth starting unasked."""
ROOM: Final = "the KV cache needs the room"
LONGEST: Final = "the longest that fits"
DRAFTED: Final = " (spec.engine.speculative)"


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """``max-num-seqs``, ``max-num-batched-tokens`` and ``max-model-len`` of one layout."""

    asked: Asked
    element_bytes: int
    setup: Setup
    first_engine: str | None
    """Why the engine before V1 serves, or None where it does not."""
    seqs: Knob[int]
    tokens: Knob[int]
    length: Knob[int]
    block: int = 0
    """Tokens that a step must hold whatever gives way: a block of what recurrent layers keep."""

    @property
    def at_once(self) -> int:
        """Requests at once that are asked for."""
        return self.asked.load.concurrency or 0

    @property
    def fewest(self) -> int:
        """Sequences below which none are taken away: those at once that are asked or pinned."""
        return max(self.at_once, self.asked.engine.max_num_active_seqs or 0)

    @property
    def settled_seqs(self) -> bool:
        """Whether the sequences do not follow from the expected load: pinned, or proven better."""
        return self.seqs.pinned or self.asked.tuned.max_num_seqs is not None

    @property
    def active(self) -> Knob[int] | None:
        """``max-num-active-seqs``; None where all sequences are admitted.

        One that is pinned stays as it is, also above the sequences. Who pins the sequences says
        how many run at once, whatever a trial has proven.
        """
        pin, proven = self.asked.engine.max_num_active_seqs, self.asked.tuned
        if pin is not None:
            return Knob.starting(pin, "maxNumActiveSeqs", pin, "")
        if self.seqs.pinned or not defaults.has_flag(ACTIVE_FLAG, self.asked.version):
            return None
        all_of_them = Knob(self.seqs.value, "all sequences")
        knob = tuned(all_of_them, proven.max_num_active_seqs, proven.reason)
        knob = knob.at_least(self.at_once, "spec.workload.concurrency")
        return knob if knob.value < self.seqs.value else None

    @property
    def each(self) -> int:
        """Tokens that a running sequence takes of a step."""
        return self.asked.features.step_tokens

    @property
    def chunked(self) -> bool:
        """Whether a prompt may take several steps."""
        wanted = self.asked.engine.chunked_prefill
        if wanted is not None:
            return wanted
        length = self.length.value
        return self.first_engine is None or not prefills_whole_prompts(self.setup, length)

    def parts_prompts_above(self, length: int) -> bool:
        """Whether prompts are parted now, and would not be if requests were only so long."""
        free = self.asked.engine.chunked_prefill is None and self.first_engine is not None
        return free and self.chunked and prefills_whole_prompts(self.setup, length)

    def longest(self, length: int) -> Knob[int]:
        """``max-model-len`` where requests of ``length`` tokens fit."""
        knob = self.length.at_most(length, LONGEST)
        return knob if knob.pinned or knob.before is not None else knob.noted(", and it fits")

    def with_length(self, length: int) -> BatchLimits:
        """For requests of at most ``length`` tokens; a prompt may then have to be one step."""
        shorter = self.length.at_most(length, LONGEST)
        return self._with(self.seqs, self.tokens, shorter).with_whole_prompts()

    def with_states(self, blocks: int) -> BatchLimits:
        """With no more sequences than there are blocks for their recurrent states."""
        why = (
            f"the KV cache surely has {blocks} blocks, and vLLM {self.asked.version} wants one "
            "for the recurrent states of each sequence"
        )
        return self._with(self.seqs.at_most(blocks, why), self.tokens, self.length)

    def with_whole_prompts(self) -> BatchLimits:
        """Without chunked prefill a prompt is one step: tokens a step bound the length."""
        if self.chunked:
            return self
        if self.tokens.pinned:
            shorter = self.length.at_most(self.tokens.value, self._one_step)
            return self._with(self.seqs, self.tokens, shorter)
        longer = self.tokens.at_least(self.length.value, self._one_step)
        return self._with(self.seqs, longer, self.length)

    def bounded_by_a_step(self) -> BatchLimits:
        """With no more sequences than a step has tokens for."""
        most, seqs = max(1, self.tokens.value // self.each), self.seqs
        if seqs.pinned or seqs.value <= most:
            return self
        step = "spec.engine.maxNumBatchedTokens" if self.tokens.pinned else "a step"
        why = f"{step} has tokens for no more"
        if self.each > 1:
            why += f": it verifies {self.each} of each sequence{DRAFTED}"
        return self._with(seqs.at_most(most, why), self.tokens, self.length)

    def _with(self, seqs: Knob[int], tokens: Knob[int], length: Knob[int]) -> BatchLimits:
        fixed = self.asked, self.element_bytes, self.setup, self.first_engine
        return BatchLimits(*fixed, seqs, tokens, length, self.block)

    def with_block(self, block: int) -> BatchLimits:
        """With steps that hold a block of ``block`` tokens."""
        why = f"vLLM {self.asked.version} wants a block of recurrent states, {block} tokens, a step"
        tokens = self.tokens.at_least(block, why)
        return replace(self, tokens=tokens, block=block)

    @property
    def load(self) -> Load:
        """What the profiling run works on."""
        # The profiling run goes by the length where it encodes pictures, gathers whole requests for
        # sparse attention, or projects latent states up.
        model = self.asked.architecture
        measured = model.pictures or model.latent or model.indexed_tokens
        length = self.length.value if measured else 0
        return Load(
            self.seqs.value,
            self.tokens.value,
            self.element_bytes,
            max_model_len=length,
            flashinfer=defaults.samples_with_flashinfer(self.asked.version, self.asked.image),
            drafts=self.each - 1,
            first_engine=self.first_engine is not None,
        )

    @property
    def useful_length(self) -> int:
        """Length below which the layout is not worth having; what the load needs where stated."""
        expected = self.asked.load.tokens if self.asked.load.stated else 0
        return max(expected, min(SHORTEST_USEFUL_LENGTH, self.length.value))

    @property
    def _tokens_floor(self) -> int:
        needed = (self.asked.engine.max_num_seqs or self.at_once) * self.each
        return max(SMALLEST_MAX_NUM_BATCHED_TOKENS, needed, self.block)

    def fewer_seqs(self) -> BatchLimits | None:
        """Half the sequences, down to what is asked for; None where no fewer may be taken."""
        floor, seqs = self.fewest or SMALLEST_MAX_NUM_SEQS, self.seqs
        if seqs.pinned or seqs.value <= floor:
            return None
        why = ROOM
        if self.fewest:
            wanted = "workload.concurrency" if self.at_once == floor else "engine.maxNumActiveSeqs"
            why = f"{ROOM}, down to spec.{wanted}"
        return self._with(seqs.at_most(max(floor, seqs.value // 2), why), self.tokens, self.length)

    def fewer_tokens(self) -> BatchLimits | None:
        """Half the tokens a step, which bound the sequences; None where no fewer may be taken."""
        floor, tokens = self._tokens_floor, self.tokens
        if not self.chunked or tokens.pinned or tokens.value <= floor:
            return None
        fewer = tokens.at_most(max(floor, tokens.value // 2), ROOM)
        return self._with(self.seqs, fewer, self.length).bounded_by_a_step()

    def shorter(self, block_size: int) -> BatchLimits | None:
        """Without chunked prefill, half the length that is not asked for, and the step with it."""
        length, tokens = self.length, self.tokens
        if self.chunked or tokens.pinned or length.pinned or length.value <= SHORTEST_USEFUL_LENGTH:
            return None
        half = length.value // 2 // block_size * block_size
        if half < self.useful_length:
            return None
        step = max(half, self.seqs.value * self.each)
        tokens = tokens.at_most(step, self._one_step)
        return self._with(self.seqs, tokens, length.at_most(half, ROOM))

    def following(self, held: int, first: BatchLimits) -> BatchLimits | None:
        """With limits of the expected load, of which ``held`` requests surely fit.

        ``first`` are the limits before any followed. None where no limit changes.
        """
        load, seqs, tokens = self.asked.load, self.seqs, self.tokens
        most = max(1, held, self.fewest)
        if most < seqs.value and not self.settled_seqs:
            requests = f"request{'s' * (held != 1)} of {load.request} ({load.source})"
            seqs = first.seqs.at_most(most, f"the KV cache surely holds {held} {requests}")
        prompts = seqs.value * load.prompt_tokens
        rounded = -(-prompts // TOKENS_STEP) * TOKENS_STEP
        needed = max(self._tokens_floor, seqs.value * self.each, rounded)
        if self.chunked and self.asked.tuned.max_num_batched_tokens is None:
            why = (
                f"no step has more to compute: {seqs.value} prompts of {load.prompt_tokens} "
                f"tokens ({load.source}) are {prompts}"
            )
            tokens = first.tokens.at_most(needed, why)
        changed = (seqs.value, tokens.value) != (self.seqs.value, self.tokens.value)
        return self._with(seqs, tokens, self.length) if changed else None

    @property
    def _one_step(self) -> str:
        if self.asked.engine.chunked_prefill is not None:
            return "the longest prompt is one step without chunked prefill"
        return (
            "the longest prompt is one step: the engine before V1 serves, because "
            f"{self.first_engine}, and it leaves chunked prefill off"
        )

    def refused(self) -> IllegalPin | None:
        """Why the engine before V1, where it serves, refuses the pins."""
        engine = self.asked.engine
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


def first_limits(
    asked: Asked, gpu: GPUCandidate, element_bytes: int, parallelism: Parallelism
) -> BatchLimits:
    """What the search starts from."""
    engine, profile, offer = asked.engine, asked.features.profile, gpu.offer
    proven, active = asked.tuned, asked.engine.max_num_active_seqs or 0
    default = defaults.batch_defaults(asked.version, offer.memory_bytes, offer.product)
    at_once, each = asked.load.concurrency or 0, asked.features.step_tokens
    setup = setup_of(asked, gpu, parallelism, element_bytes)
    context = asked.architecture.context_length
    length = Knob.starting(engine.max_model_len, "maxModelLen", context, "the model's own limit")
    start = _start(default.max_num_seqs, profile.most_seqs, profile, default.reason)
    seqs = Knob.starting(engine.max_num_seqs, "maxNumSeqs", *start)
    seqs = tuned(seqs, proven.max_num_seqs, proven.reason)
    start = _start(default.max_num_batched_tokens, profile.most_tokens, profile, default.reason)
    tokens = Knob.starting(engine.max_num_batched_tokens, "maxNumBatchedTokens", *start)
    tokens = tuned(tokens, proven.max_num_batched_tokens, proven.reason)
    # vLLM refuses fewer tokens a step than sequences.
    field = "spec.engine.maxNumSeqs" if engine.max_num_seqs else "spec.workload.concurrency"
    taken = "one token" if each == 1 else f"{each} tokens"
    why = f"raised to {field}, {taken} a sequence{DRAFTED * (each > 1)}"
    tokens = tokens.at_least((engine.max_num_seqs or at_once) * each, why, source=True)
    seqs = seqs.at_least(at_once, "spec.workload.concurrency")
    seqs = seqs.at_least(active, "spec.engine.maxNumActiveSeqs")
    if proven.max_model_len is not None:
        length = length.at_most(proven.max_model_len, "as before it was tuned", source=True)
    length = repaired(length, asked.repairs, "shorterMaxModelLen")
    first_engine = first_engine_because(asked.version, setup)
    limits = BatchLimits(asked, element_bytes, setup, first_engine, seqs, tokens, length)
    seqs = repaired(limits.bounded_by_a_step().seqs, asked.repairs, "fewerSequences")
    return limits._with(seqs, tokens, length).with_whole_prompts()


def _start(default: int, most: int | None, profile: Profile, reason: str) -> tuple[int, str]:
    """What a limit starts from, and what that is called."""
    if most is not None and most < default:
        return most, f"limit of spec.workload.profile {profile.name}"
    if profile.times > 1:
        named = f"{reason}, doubled by spec.workload.profile {profile.name}"
        return default * profile.times, named
    return default, reason
