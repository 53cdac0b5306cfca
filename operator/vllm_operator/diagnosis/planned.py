"""Checks of a server's plan, with what was seen of its load where there is that."""

from __future__ import annotations

from typing import Final

from vllm_operator.api.plan import Plan
from vllm_operator.api.quantity import GIBIBYTE
from vllm_operator.api.v1alpha1 import Engine, VLLMServer
from vllm_operator.engine.defaults import gpu_memory_utilization
from vllm_operator.engine.versions import Version

from .checks import Check, failed, passed, skipped, warned
from .figures import Figures
from .remedies import tokens_of_memory

HIT_RATE: Final = 0.7
"""Share of prompt tokens found in the prefix cache that servers of a shared prefix should have."""
THRASHING: Final = 0.1
"""Preemptions of a request that are too many."""
NEARLY_FULL: Final = 0.9
"""Share of the KV cache from which on requests soon wait for it."""
NEAR_THE_LIMIT: Final = 0.8
"""Share of the longest request that those that come may have on average: they vary."""
GREEDY: Final = 0.5
"""Share of the KV cache that one request may take before it crowds out the others."""

PREFIX_FIELD: Final = "spec.engine.prefixCaching"
UTILIZATION_FIELD: Final = "spec.engine.gpuMemoryUtilization"
LENGTH_FIELD: Final = "spec.engine.maxModelLen"
MODEL_FIELD: Final = "spec.model.id"
SHARED_FIELD: Final = "spec.workload.sharedPrefixTokens"
QUANTIZED_FIELDS: Final = ("spec.engine.quantization", MODEL_FIELD)
"""What advice on quantisation names."""


def quantization(server: VLLMServer, plan: Plan) -> Check:
    """Whether a quantised checkpoint would be of use: where memory is short of what is expected."""
    name = "quantisation"
    method = _flag(plan, "--quantization")
    config = plan.model.facts.get("quantization_config")
    if method is None and isinstance(config, dict):
        method = str(config.get("quant_method") or "of its own")
    share = f"{plan.memory.weights / GIBIBYTE:.2f} GiB on each GPU, " + _percent(
        plan.memory.weights / plan.memory.total
    )
    if method is not None:
        return passed(name, f"the weights are quantised ({method}): {share}")
    room, wanted = plan.capacity.max_concurrency.low, _wanted(server)
    request = _request(server)
    if request is not None:
        room, what = plan.capacity.kv_tokens.low / request, f"requests of {request:,} tokens"
    else:
        what = f"requests of {plan.capacity.max_model_len:,} tokens"
    said = f"the weights are not quantised: {share}; the KV cache surely holds {room:.1f} {what}"
    if wanted is not None and room < wanted:
        return warned(name, f"{said}, and {wanted} are expected at once", MODEL_FIELD)
    fewer = [one for one in plan.advice or () if one.field in QUANTIZED_FIELDS]
    if fewer:
        return warned(name, f"{said}. {fewer[0].message}", fewer[0].field)
    return passed(name, said)


def prefix_caching(server: VLLMServer, plan: Plan, seen: Figures | None) -> Check:
    """Whether equal beginnings of prompts are computed once, and how often there are some."""
    name, found = "prefix caching", plan.prefix_caching
    if found is None:
        return skipped(name, "the plan does not say whether prefixes are cached", PREFIX_FIELD)
    if not found.enabled:
        again = "equal beginnings of prompts are computed again for each request"
        return warned(name, f"it is off, {found.reason}: {again}", PREFIX_FIELD)
    said = f"it is on, {found.reason}"
    if seen is None or seen.hit_rate is None:
        return passed(name, said)
    said = f"{said}; {_percent(seen.hit_rate)} of prompt tokens were found"
    workload = server.spec.workload
    if workload is None or workload.shared_prefix_tokens is None or seen.hit_rate >= HIT_RATE:
        return passed(name, said)
    shared = f"prompts share {workload.shared_prefix_tokens:,} tokens (spec.workload)"
    return warned(name, f"{said}, and {HIT_RATE:.0%} should be where {shared}", SHARED_FIELD)


def memory_utilization(server: VLLMServer, plan: Plan, seen: Figures | None) -> Check:
    """Whether the engine gets the memory that it could have, and whether its cache is enough."""
    name = "memory utilisation"
    memory = plan.memory
    free = memory.total - memory.budget - memory.outside_budget
    said = (
        f"{memory.utilization:g} of {memory.total / GIBIBYTE:.2f} GiB, "
        f"{max(0, free) / GIBIBYTE:.2f} GiB left free"
    )
    if seen is not None and seen.preemptions > THRASHING:
        return failed(
            name,
            f"{said}; {seen.preemptions:.2f} preemptions come on a request, and {THRASHING:g} are "
            f"too many: {_percent(seen.kv_cache_usage)} of the KV cache is in use",
            UTILIZATION_FIELD,
        )
    if seen is not None and seen.kv_cache_usage > NEARLY_FULL:
        return warned(
            name,
            f"{said}; {_percent(seen.kv_cache_usage)} of the KV cache is in use, and from "
            f"{NEARLY_FULL:.0%} on requests soon wait for it",
            UTILIZATION_FIELD,
        )
    default = gpu_memory_utilization(Version.parse(plan.engine.version))
    asked = _engine(server).gpu_memory_utilization
    if asked is not None and asked < default:
        lost = tokens_of_memory(plan, (default - asked) * memory.total)
        return warned(
            name,
            f"{said}: pinned below the {default:g} that is the default of vLLM "
            f"{plan.engine.version}, which costs about {lost:,.0f} tokens of KV cache",
            UTILIZATION_FIELD,
        )
    if seen is not None:
        said += f"; {_percent(seen.kv_cache_usage)} of the KV cache is in use"
    return passed(name, said)


def request_length(server: VLLMServer, plan: Plan, seen: Figures | None) -> Check:
    """Whether the longest request fits those that come, and does not crowd them out."""
    name = "request length"
    longest, cache = plan.capacity.max_model_len, plan.capacity.kv_tokens.low
    said = f"at most {longest:,} tokens"
    mean = seen.request_tokens if seen is not None else None
    source = "come on average"
    if mean is None:
        mean, source = _request(server), "are expected in spec.workload"
    if mean is None:
        return skipped(
            name,
            f"{said}; nobody says how long requests are, and none was seen",
            "spec.workload.promptTokens",
        )
    said += f", and {mean:,.0f} {source}"
    if mean > longest:
        return failed(name, f"{said}: most are refused", LENGTH_FIELD)
    if mean > NEAR_THE_LIMIT * longest:
        return warned(name, f"{said}: longer ones are refused", LENGTH_FIELD)
    if longest > GREEDY * cache and mean < GREEDY * longest:
        return warned(
            name,
            f"{said}; one of the longest takes {_percent(longest / cache)} of the KV cache of "
            f"{cache:,} tokens from the others",
            LENGTH_FIELD,
        )
    return passed(
        name, f"{said}; one of the longest takes {_percent(longest / cache)} of the cache"
    )


def replicas(server: VLLMServer) -> Check:
    """Whether another pod serves where one does not."""
    name, number = "replicas", server.spec.replicas
    if number == 0:
        return failed(name, "spec.replicas is 0: nothing serves", "spec.replicas")
    if number == 1:
        return warned(
            name,
            "there is one: a drain of its node, a crash and a change of the plan leave nobody to "
            "answer until another has started",
            "spec.replicas",
        )
    return passed(name, f"there are {number}")


def _wanted(server: VLLMServer) -> int | None:
    workload = server.spec.workload
    return workload.concurrency if workload else None


def _request(server: VLLMServer) -> int | None:
    """Tokens of an expected request; None where the specification does not say both lengths."""
    workload = server.spec.workload
    if workload is None or workload.prompt_tokens is None or workload.output_tokens is None:
        return None
    return workload.prompt_tokens + workload.output_tokens


def _engine(server: VLLMServer) -> Engine:
    return server.spec.engine or Engine()


def _flag(plan: Plan, name: str) -> str | None:
    return next((flag.value for flag in plan.flags if flag.name == name), None)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
