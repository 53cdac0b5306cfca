"""What results of benchmarks teach the next plan of their kind. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace

from vllm_operator.api.plan import Plan
from vllm_operator.api.v1alpha1 import Engine, VLLMServer
from vllm_operator.sizing.asked.defaults import overlaid
from vllm_operator.sizing.asked.inputs import PlanningInputs
from vllm_operator.sizing.memory.calibration import engine_digest
from vllm_operator.sizing.performance import coefficients, learned
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
        estimate=coefficients.fingerprint(),
    )


def speeds_of(
    server: VLLMServer, plan: Plan, inputs: PlanningInputs, results: Iterable[Result]
) -> Iterator[MeasuredSpeed]:
    """Measured over estimated, of each load that one of ``results`` has of this very plan.

    ``server`` and ``inputs`` are those that the plan was made of. A rate of requests, a shared
    prefix, failed requests and a GPU of which nothing is known teach nothing.
    """
    server = overlaid(server, inputs.defaults).server
    if server.spec.engine is not None and server.spec.engine.speculative is not None:
        return  # how many drafts were accepted is not known
    plain = replace(inputs, measured_speeds=())
    for result in results:
        measured = result.plan
        same = (measured.model.id, measured.engine, measured.placement) == (
            plan.model.id,
            plan.engine,
            plan.placement,
        )
        if not same or result.load.shared_prefix_tokens:
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
    found = MeasuredSpeed(kind_of(server, plan), load, *ratios, at=result.at)
    try:
        return MeasuredSpeed.from_json_object(found.to_json_object())
    except ValueError:
        return None  # no measurement of such a server


def _mean(point: Measured, name: str) -> float | None:
    """The geometric mean over the runs: noise of speeds is a share of them."""
    values = point.values(name)
    if not values or min(values) <= 0:
        return None
    return math.exp(sum(map(math.log, values)) / len(values))
