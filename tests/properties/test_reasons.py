"""Every number that a reason names stood there before, for the reason that is told."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from properties.test_planning import MODELS, PRODUCTS, VERSIONS, architecture_of
from unit.sizing.examples import inputs_for, server
from vllm_operator.api.plan import Plan
from vllm_operator.api.v1alpha1 import VLLMServer
from vllm_operator.engine import defaults
from vllm_operator.engine.versions import Version
from vllm_operator.sizing.asked.inputs import PlanningInputs
from vllm_operator.sizing.asked.repairs import Repair
from vllm_operator.sizing.plan.planner import make_plan

LENGTH, SEQS, TOKENS = "--max-model-len", "--max-num-seqs", "--max-num-batched-tokens"
UTILIZATION = "--gpu-memory-utilization"
FIELDS = {
    LENGTH: "maxModelLen",
    SEQS: "maxNumSeqs",
    TOKENS: "maxNumBatchedTokens",
    UTILIZATION: "gpuMemoryUtilization",
}
REPAIRS = {
    LENGTH: ("shorterMaxModelLen", st.sampled_from([2048, 8192, 32_768])),
    SEQS: ("fewerSequences", st.sampled_from([32, 128, 200, 256])),
    UTILIZATION: ("lowerUtilization", st.sampled_from([0.8, 0.88, 0.9, 0.92, 0.95])),
}
LIMITS_OF_PROFILES = {("Latency", SEQS): 64, ("Latency", TOKENS): 2048, ("LongContext", SEQS): 64}
PROFILES = ("Balanced", "Throughput", "Latency", "LongContext", "Cost")


def optional(**strategies: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=strategies)


engines = optional(
    version=st.sampled_from(VERSIONS),
    maxModelLen=st.integers(1024, 16_384),
    maxNumSeqs=st.integers(1, 3000),
    maxNumBatchedTokens=st.integers(128, 16_384),
    gpuMemoryUtilization=st.sampled_from([0.5, 0.8, 0.95]),
    chunkedPrefill=st.booleans(),
    speculative=st.fixed_dictionaries(
        {"method": st.just("ngram"), "tokens": st.sampled_from([1, 7, 15, 32])}
    ),
)
workloads = optional(
    profile=st.sampled_from(PROFILES),
    promptTokens=st.integers(1, 4000),
    outputTokens=st.integers(1, 1000),
    concurrency=st.integers(1, 600),
)


@st.composite
def repaired_specifications(draw: st.DrawFn) -> tuple[VLLMServer, PlanningInputs]:
    gpu = {"product": draw(st.sampled_from(PRODUCTS)), "perNode": draw(st.integers(1, 8))}
    spec = {"gpu": gpu, "engine": draw(engines), "workload": draw(workloads)}
    planned = server(draw(st.sampled_from(MODELS)), **spec)
    repairs = tuple(
        Repair(kind, draw(limits), f"repair of {flag}")  # type: ignore[arg-type]
        for flag, (kind, limits) in REPAIRS.items()
        if draw(st.booleans())
    )
    return planned, replace(inputs_for(planned), repairs=repairs)


@dataclass
class Told:
    """A plan, and what the values in its reasons have to be by the specification alone."""

    planned: VLLMServer
    inputs: PlanningInputs
    plan: Plan

    def __post_init__(self) -> None:
        spec = self.planned.spec.to_json_object()
        self.engine, self.workload = spec.get("engine", {}), spec.get("workload", {})
        asked = self.workload.get("concurrency", 0)
        self.asked = -(-asked // self.plan.placement.data)
        self.each = 1 + self.engine.get("speculative", {}).get("tokens", 0)
        self.least_tokens = (self.engine.get("maxNumSeqs") or self.asked) * self.each

    def default(self, flag: str) -> float:
        version, place = Version.parse(self.plan.engine.version), self.plan.placement
        if flag == UTILIZATION:
            return defaults.gpu_memory_utilization(version)
        limits = defaults.batch_defaults(version, place.gpu_memory_bytes, place.gpu)
        return limits.max_num_seqs if flag == SEQS else limits.max_num_batched_tokens

    def of_source(self, flag: str, named: str) -> float:
        """The value of what a reason names as the source."""
        profile = self.workload.get("profile", "Balanced")
        if "pinned in" in named:
            return self.engine[FIELDS[flag]]
        if "repair" in named:
            kind = REPAIRS[flag][0]
            return next(one.limit for one in self.inputs.repairs if one.kind == kind)
        if "raised to" in named:
            return self.least_tokens
        if "limit of spec.workload.profile" in named:
            return LIMITS_OF_PROFILES[profile, flag]
        if "the model's own limit" in named:
            return architecture_of(self.planned).context_length
        assert "default of vLLM" in named, named
        return self.default(flag) * (2 if "doubled" in named else 1)

    def halves(self, flag: str, start: float) -> Iterator[int]:
        """What a limit may be after some halvings."""
        floor = (self.asked or 64) if flag == SEQS else max(2048, self.least_tokens)
        value = int(start)
        while value > 0:
            yield max(value, floor)
            value //= 2

    def holds(self, flag: str, before: float, value: float, why: str) -> bool:
        """Whether a change is for the reason that is told."""
        numbers = [int(one) for one in re.findall(r"\b\d+\b", why)]
        if "surely holds" in why:
            stated = {"promptTokens", "outputTokens", "concurrency"} & self.workload.keys()
            assert ("(spec.workload)" in why) == bool(stated)
            return value == max(1, numbers[0], self.asked)
        if "surely has" in why:
            return value == numbers[0]
        if "no step has more" in why:
            count, prompt, tokens = numbers[0], numbers[1], numbers[-1]
            return count * prompt == tokens <= value and count == self.plan.capacity.max_num_seqs
        if "needs the room" in why or "to make room" in why:
            return flag == LENGTH or value in self.halves(flag, before)
        if "has tokens for no more" in why:
            pinned = self.engine.get("maxNumBatchedTokens")
            assert ("maxNumBatchedTokens" in why) == (pinned is not None)
            start = max(self.default(TOKENS), self.least_tokens)
            steps = [pinned] if pinned else [2 * int(start), *self.halves(TOKENS, start)]
            return value in (max(1, step // self.each) for step in steps)
        if "the longest prompt is one step" in why:
            return flag == LENGTH or value >= self.plan.capacity.max_model_len
        if why.startswith("spec.workload.concurrency"):
            return value == self.asked > before
        return "the longest that fits" in why or flag == UTILIZATION


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(repaired_specifications())
def test_what_a_reason_names_stood_there_before_for_the_reason_that_is_told(given_: tuple):
    planned, inputs = given_
    plan = make_plan(planned, inputs)
    if not plan.feasible:
        return
    told = Told(planned, inputs, plan)
    for flag in plan.flags:
        if flag.name not in FIELDS or len(flag.reason) == 512:
            continue
        steps = re.sub(r" \(vLLM [^()]* whose tables are taken\)$", "", flag.reason)
        value, rest = float(flag.value), steps
        for part in re.split(r"; (?=lowered from|raised from)", steps):
            moved = re.match(r"(lowered|raised) from ([\d.]+)(?:(?: \(|, the )(.*))?", part)
            if moved is None:
                break
            verb, before = moved[1], float(moved[2])
            assert (value < before) == (verb == "lowered"), flag
            assert value != before, flag
            why = part.rpartition("): ")[2] if moved[3] else part.partition(": ")[2]
            assert told.holds(flag.name, before, value, why), flag
            value, rest = before, moved[3]
        assert rest is not None, flag
        assert value == told.of_source(flag.name, rest), flag
