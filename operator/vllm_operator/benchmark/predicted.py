"""What the plan expects of a load, in the figures and units of vLLM's result."""

from __future__ import annotations

from typing import Final

from vllm_operator.api.performance import Performance
from vllm_operator.api.plan import Plan
from vllm_operator.api.v1alpha1 import VLLMServer
from vllm_operator.errors import VLLMOperatorError
from vllm_operator.models.facts import ModelFacts
from vllm_operator.sizing.asked.inputs import PlanningInputs
from vllm_operator.sizing.plan.planner import make_plan

from .load import Load, Point
from .results import FIGURES, Prediction

SECONDS: Final = ("time_to_first_token", "inter_token_latency")


def predicted(server: VLLMServer, plan: Plan, load: Load, point: Point) -> Prediction | None:
    """What all replicas together do under a load; None where the plan does not tell.

    The figures of ``status.plan`` where they are of this load; else the same layout is asked anew:
    the plan's facts, GPU, division and limits, with the load as its workload, and without what was
    measured before: every load is compared with the same estimate. A rate of requests
    and an unknown GPU are not described.
    """
    if point.concurrency is None:
        return None
    replicas = max(1, server.spec.replicas)
    each = max(1, round(point.concurrency / replicas))
    expected = plan.performance
    if expected is None:
        return None
    workload = server.spec.workload
    asked = (load.prompt_tokens, load.output_tokens, each, load.shared_prefix_tokens)
    stated = (workload.shared_prefix_tokens if workload else None) or 0
    known = (expected.prompt_tokens, expected.output_tokens, expected.concurrency, stated)
    measured = expected.correction is not None or expected.gpu_measured is not None
    if known != asked or measured:
        facts = ModelFacts(
            config=plan.model.facts, weight_bytes=plan.model.weight_bytes, source=plan.model.source
        )
        expected = asked_anew(server, plan, asked, PlanningInputs(facts, plan.engine.image))
    return None if expected is None else _in_vllms_units(expected, replicas)


def _in_vllms_units(expected: Performance, replicas: int) -> Prediction:
    found = {}
    for figure in FIGURES:
        if figure.predicted is None:
            continue
        value = getattr(expected, figure.predicted)
        seconds = figure.predicted in SECONDS
        # The plan's three digits, and not what binary fractions make of them.
        found[figure.name] = float(f"{value * 1000.0 if seconds else value * replicas:.6g}")
    return found


def asked_anew(
    server: VLLMServer, plan: Plan, asked: tuple[int, int, int, int], inputs: PlanningInputs
) -> Performance | None:
    """What the plan's layout does with requests of so many prompt and output tokens, so many at
    once, so many tokens of each prompt shared; None where the specification has no such layout any
    more."""
    place, room = plan.placement, plan.capacity
    body = server.to_json_object()
    spec = body["spec"]
    prompt, output, concurrency, shared = asked
    workload = {
        "promptTokens": prompt,
        "outputTokens": output,
        "concurrency": concurrency,
        "sharedPrefixTokens": shared,
    }
    spec["workload"] = {**(spec.get("workload") or {}), **workload}
    spec["gpu"] = {
        **(spec.get("gpu") or {}),
        "product": place.gpu,
        "perNode": place.gpus_per_node,
    }
    parallelism = {
        "tensor": place.tensor,
        "pipeline": place.pipeline,
        "data": place.data,
        "expert": place.expert,
    }
    spec["parallelism"] = {**(spec.get("parallelism") or {}), **parallelism}
    spec["engine"] = {
        **(spec.get("engine") or {}),
        "image": plan.engine.image,
        "version": plan.engine.version,
        "maxModelLen": room.max_model_len,
        "maxNumSeqs": room.max_num_seqs,
        "maxNumBatchedTokens": room.max_num_batched_tokens,
        "gpuMemoryUtilization": plan.memory.utilization,
    }
    given = PlanningInputs(
        model=inputs.model,
        default_image=plan.engine.image,
        max_nodes=place.nodes,
        measured_gpus=inputs.measured_gpus,
    )
    try:
        found = make_plan(VLLMServer.model_validate(body), given)
    except (VLLMOperatorError, ValueError):
        return None
    same = isinstance(found, Plan) and found.placement.gpus_per_replica == place.gpus_per_replica
    return found.performance if same and isinstance(found, Plan) else None
