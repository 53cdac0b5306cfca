"""What results of benchmarks teach the next plan of their kind. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace

from vllm_operator.api.plan import Plan
from vllm_operator.api.v1alpha1 import Engine, VLLMServer
from vllm_operator.sizing.asked.inputs import PlanningInputs
from vllm_operator.sizing.memory.calibration import engine_digest
from vllm_operator.sizing.performance import learned
from vllm_operator.sizing.performance.learned import Kind, MeasuredSpeed

from .predicted import asked_anew
from .results import OUTPUT, TPOT, Measured, Result


def kind_of(server: VLLMServer, plan: Plan) -> Kind:
    """What a measurement of a server with this plan holds for."""
    place = plan.placement
    return Kind(
        model=plan.model.id,
        version=plan.engine.version,
        gpu=place.gpu,
        engine=engine_digest(server.spec.engine or Engine()),
        tensor=place.tensor,
        pipeline=place.pipeline,
        data=place.data,
    )


def speeds_of(
    server: VLLMServer, plan: Plan, inputs: PlanningInputs, results: Iterable[Result]
) -> Iterator[MeasuredSpeed]:
    """Measured over estimated, of each load that one of ``results`` has of this very plan.

    ``server`` and ``inputs`` are those that the plan was made of. A rate of requests, a shared
    prefix, failed requests and a GPU of which nothing is known teach nothing.
    """
    plain = replace(inputs, measured_speeds=())
    for result in results:
        same = result.plan.engine.command == plan.engine.command
        if not same or result.plan.placement != plan.placement or result.load.shared_prefix_tokens:
            continue
        for point in result.points:
            found = _speed(server, plan, plain, result, point)
            if found is not None:
                yield found


def _speed(
    server: VLLMServer, plan: Plan, inputs: PlanningInputs, result: Result, point: Measured
) -> MeasuredSpeed | None:
    at_once, replicas = point.point.concurrency, max(1, result.replicas)
    made, between = _mean(point, OUTPUT.name), _mean(point, TPOT.name)
    if at_once is None or point.failed or made is None or between is None:
        return None
    each = max(1, round(at_once / replicas))
    load = learned.Load(result.load.prompt_tokens, result.load.output_tokens, each)
    expected = asked_anew(server, plan, (*load, 0), inputs)
    if expected is None:
        return None
    ratios = (
        between / 1000 / expected.inter_token_latency,
        made / replicas / expected.output_tokens_per_second,
    )
    if any(not 1 / learned.LARGEST < ratio < learned.LARGEST for ratio in ratios):
        return None
    return MeasuredSpeed(kind_of(server, plan), load, *ratios, at=result.at)


def _mean(point: Measured, name: str) -> float | None:
    """The geometric mean over the runs: noise of speeds is a share of them."""
    values = point.values(name)
    if not values or min(values) <= 0:
        return None
    return math.exp(sum(map(math.log, values)) / len(values))
