"""A logged start beside its plan: what was foretold, and how far it was off."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

from pydantic import ValidationError
from support_peers import PeerFacts, facts_of
from support_starts import LoggedStart

from vllm_operator.api.plan import Plan, Unplanned
from vllm_operator.api.v1alpha1 import VLLMServer
from vllm_operator.engine.defaults import OFFICIAL_IMAGE
from vllm_operator.engine.versions import DEFAULT_IMAGE
from vllm_operator.models import catalogue
from vllm_operator.models.architecture import architecture_from_config
from vllm_operator.models.facts import ModelFacts
from vllm_operator.sizing.asked.inputs import PlanningInputs
from vllm_operator.sizing.plan.planner import make_plan

GIBIBYTE: Final = 1024**3
ONLINE: Final = frozenset({"fp8", "bitsandbytes"})
"""Methods that quantise a checkpoint on the fly, where the checkpoint itself is not quantised."""
WHEEL_IMAGE: Final = "example.com/vllm-wheel"
"""Stands for an engine of which nobody says how it was installed."""
ROUNDING_GIB: Final = 0.005
"""Logs round to two digits: a bound that is above by less is not broken."""

Unit = Literal["GiB", "tokens", "concurrency"]


@dataclass(frozen=True, slots=True)
class Forecast:
    """A start beside its plan. ``expected``, ``low`` and ``measured`` are in ``unit``."""

    start: LoggedStart
    problem: str
    """Why there is no plan with the start's own length; empty where there is one."""
    unit: Unit | None = None
    """None where even a shorter length gives no plan."""
    expected: float = 0.0
    low: float = 0.0
    measured: float = 0.0
    expected_gib: float = 0.0
    measured_gib: float = 0.0
    """As logged, else in proportion to ``measured``."""
    weights_gib: float = 0.0
    facts: PeerFacts | None = None

    @property
    def refused(self) -> bool:
        """Whether a start that went well would have been refused."""
        return self.start.started and (
            bool(self.problem) or (self.unit is not None and self.low <= 0)
        )

    @property
    def scored(self) -> bool:
        """Whether there are figures to compare."""
        return self.unit is not None and self.measured > 0

    @property
    def error(self) -> float:
        """Distance of the best estimate, relative to what was measured."""
        return abs(self.expected - self.measured) / self.measured

    @property
    def broken(self) -> bool:
        """Whether the bound promised more than there was."""
        slack = ROUNDING_GIB if self.unit == "GiB" else 0.0
        return self.low > self.measured + slack

    @property
    def short(self) -> float:
        """How far the bound stays below what was measured."""
        return max(0.0, (self.measured - self.low) / self.measured)


def manifest(start: LoggedStart, facts: ModelFacts | None, *, length: bool = True) -> VLLMServer:
    """The server that runs as the logged one did; without ``length``, as long as fits."""
    quantised = facts is not None and bool(facts.config.get("quantization_config"))
    online = start.quantization in ONLINE and facts is not None and not quantised
    engine = {
        "image": f"{OFFICIAL_IMAGE if start.flashinfer else WHEEL_IMAGE}:v{start.version}",
        "version": start.version,
        "gpuMemoryUtilization": start.utilization,
        "maxModelLen": start.max_model_len if length else None,
        "maxNumSeqs": start.max_num_seqs,
        "maxNumBatchedTokens": start.max_num_batched_tokens,
        "enforceEager": start.enforce_eager or None,
        "dtype": start.dtype,
        "kvCacheDtype": start.kv_cache_dtype,
        "blockSize": start.block_size,
        "prefixCaching": start.prefix_caching,
        "quantization": start.quantization if online else None,
        "extraArgs": [f"--moe-backend={start.moe_backend}"] if start.moe_backend else None,
    }
    return VLLMServer.model_validate(
        {
            "apiVersion": "vllm-operator.io/v1alpha1",
            "kind": "VLLMServer",
            "metadata": {"name": start.id.lower()},
            "spec": {
                "model": {"id": start.model},
                "engine": {name: value for name, value in engine.items() if value is not None},
                "gpu": {
                    "product": start.gpu,
                    "perNode": start.tensor * start.pipeline * start.data,
                    **({"memoryGiB": start.gpu_memory_gib} if start.gpu_memory_gib else {}),
                    "resourceName": start.resource_name,
                },
                "parallelism": {
                    "tensor": start.tensor,
                    **({"pipeline": start.pipeline} if start.pipeline > 1 else {}),
                    **({"data": start.data} if start.data > 1 else {}),
                },
            },
        }
    )


def forecast(start: LoggedStart) -> Forecast:
    """Plan a logged start and compare.

    Where its own length does not fit, the start counts as refused, and its figures come from a plan
    with the longest request that fits.
    """
    facts = catalogue.find(start.model)
    if facts is None:
        return Forecast(start, f"{start.model} is not in the catalogue")
    inputs = PlanningInputs(model=facts, default_image=DEFAULT_IMAGE)
    try:
        plan = make_plan(manifest(start, facts), inputs)
    except ValidationError as error:
        first = error.errors()[0]
        return Forecast(start, f"{'.'.join(map(str, first['loc']))}: {first['msg']}")
    problem = "; ".join(f"{p.field}: {p.message}" for p in plan.problems)
    if isinstance(plan, Unplanned):
        plan = make_plan(manifest(start, facts, length=False), inputs)
    if isinstance(plan, Unplanned):
        return Forecast(start, problem)
    return _compared(start, plan, problem, facts)


def _compared(start: LoggedStart, plan: Plan, problem: str, facts: ModelFacts) -> Forecast:
    memory, capacity = plan.memory, plan.capacity
    architecture = architecture_from_config(facts.config)
    unit: Unit
    if start.kv_gib is not None:
        unit, measured = "GiB", start.kv_gib
        expected, low = memory.kv_cache.expected / GIBIBYTE, memory.kv_cache.low / GIBIBYTE
    elif start.max_concurrency is not None and not problem and _several_caches(architecture):
        unit, measured = "concurrency", start.max_concurrency
        expected, low = capacity.max_concurrency.expected, capacity.max_concurrency.low
    elif start.kv_tokens is not None:
        unit, measured = "tokens", float(start.kv_tokens)
        expected, low = float(capacity.kv_tokens.expected), float(capacity.kv_tokens.low)
    else:
        return Forecast(start, problem)
    expected_gib = memory.kv_cache.expected / GIBIBYTE
    return Forecast(
        start=start,
        problem=problem,
        unit=unit,
        expected=expected,
        low=low,
        measured=measured,
        expected_gib=expected_gib,
        measured_gib=measured / expected * expected_gib if expected else 0.0,
        weights_gib=memory.weights / GIBIBYTE,
        facts=facts_of(architecture),
    )


def _several_caches(architecture: Any) -> bool:
    """Whether tokens are an accounting figure: layers keep unlike things of a sequence."""
    return len({layer.cache for layer in getattr(architecture, "kinds", ()) if layer.cache}) > 1
