"""What ``vllm-operator check`` looks at in a cluster, and asks of the server itself. Edge."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass, replace
from typing import Any, Final

import requests

from vllm_operator.api.base import PORT
from vllm_operator.api.plan import Plan
from vllm_operator.api.pod_rules import ENGINE
from vllm_operator.diagnosis.checklist import Running
from vllm_operator.diagnosis.running import Answered, Scraped, selects
from vllm_operator.engine.attention import attention_in
from vllm_operator.errors import ApiError, InputError, PlanningError, TemporaryFailure
from vllm_operator.lifecycle.kinds import BUDGETS, Resource
from vllm_operator.manifests import labels as names
from vllm_operator.models.architecture import architecture_from_config
from vllm_operator.tuning.durations import Durations

from .cluster import Object, Reader, metadata_of
from .live import Live, with_look, with_pods
from .sources import MetricsOptions, source_of

MONITORS: Final = Resource("PodMonitor", "monitoring.coreos.com/v1", "podmonitors")
LOG_BYTES: Final = 2 * 1024 * 1024
"""From the beginning of a log: backends are told while the engine loads."""
LOG_SECONDS: Final = 30.0
COMPLETION_SECONDS: Final = 60.0
COMPLETION_TOKENS: Final = 5
PROMPT: Final = "Say yes."


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line asks for."""

    metrics: MetricsOptions
    endpoint: str | None = None
    api_key: str | None = None
    completion: bool = True


async def seen_of(reader: Reader, live: Live, plan: Plan, asked: Asked) -> tuple[Live, Running]:
    """The server with its pods and metrics, and what was seen of it. What may not be read says so
    instead: only the server itself must be readable."""
    namespace = live.server.metadata.namespace
    (live,) = await with_pods(reader, [live], namespace)
    live = await _with_metrics(reader, live, asked.metrics)
    monitors, missing = await _monitors(reader, live)
    scraped = Scraped(
        asked=live.look is not None,
        held=live.look.held if live.look else None,
        monitors=monitors,
        missing="; ".join(filter(None, (live.no_look, missing))),
    )
    attention, no_log = await _attention(reader, live)
    budget, no_budget = await _budget(reader, live)
    return live, Running(
        ready=live.remembered.condition("Ready"),
        serving=live.remembered.status.ready_replicas or 0,
        pods=live.pods,
        look=live.look,
        scraped=scraped,
        attention=attention_in(attention) if attention else None,
        no_log=no_log,
        budget=budget,
        no_budget=no_budget,
        answered=await completion_of(reader, live, plan, asked),
    )


async def _with_metrics(reader: Reader, live: Live, options: MetricsOptions) -> Live:
    durations = Durations(options.interval)
    try:
        source = await source_of(reader, options)
    except InputError as problem:
        return replace(live, no_look=str(problem))
    try:
        (live,) = await with_look([live], source, durations, window=durations.window)
        return live
    finally:
        source.close()


async def _monitors(reader: Reader, live: Live) -> tuple[list[str] | None, str]:
    """PodMonitors that select the server's pods; or None, and why."""
    namespace = live.server.metadata.namespace
    labels = names.object_labels(live.server.metadata.name)
    try:
        found = await reader.listed(MONITORS, None)
    except InputError as problem:
        return None, str(problem)
    except ApiError as error:
        if error.code == 404:
            return None, "the cluster has no PodMonitors"
        raise
    fitting = (metadata_of(one) for one in found if selects(one, namespace, labels))
    return [f"{one.get('namespace')}/{one.get('name')}" for one in fitting], ""


async def _attention(reader: Reader, live: Live) -> tuple[str, str]:
    """The beginning of a serving pod's log; or nothing, and why."""
    if not live.serving:
        return "", live.no_pods or "no pod serves"
    pod, namespace = live.serving[0].name, live.server.metadata.namespace
    sent = reader.client.beginning_of_log(
        namespace, pod, ENGINE, limit=LOG_BYTES, seconds=LOG_SECONDS
    )
    try:
        return await reader.may(sent, "get", "pods/log", namespace), ""
    except (InputError, ApiError, TemporaryFailure) as problem:
        return "", str(problem)


async def _budget(reader: Reader, live: Live) -> tuple[Object | None, str]:
    metadata = live.server.metadata
    try:
        return await reader.get(BUDGETS, metadata.namespace, metadata.name), ""
    except InputError as problem:
        return None, str(problem)


async def completion_of(reader: Reader, live: Live, plan: Plan, asked: Asked) -> Answered:
    """A few tokens, as a client would have them."""
    if not asked.completion:
        return Answered(missing="none was asked for (--no-completion)")
    if _pools(plan):
        return Answered(missing="the model generates nothing")
    if not live.serving and not asked.endpoint:
        if live.no_pods:  # a right is missing: nothing is said of the server
            return Answered(missing=live.no_pods)
        return Answered(problem="no pod serves")
    engine = live.server.spec.engine
    key_is_asked = engine is not None and engine.api_key_secret_ref is not None
    if asked.endpoint is None and key_is_asked:
        return Answered(
            missing="the server asks for an API key, which the API server's proxy takes away: "
            f"kubectl port-forward service/{live.server.metadata.name} {PORT}, then --endpoint "
            f"http://127.0.0.1:{PORT} --api-key-file FILE"
        )
    model = live.server.spec.model.served_names[0]
    if asked.endpoint is not None:
        return await asyncio.to_thread(completion_at, asked.endpoint, model, asked.api_key)
    began = time.monotonic()
    try:
        answer = await _through(reader, live, _request(model))
    except InputError as problem:  # a right is missing: nothing is said of the server
        return Answered(missing=str(problem))
    except (ApiError, TemporaryFailure) as problem:
        return Answered(problem=f"no completion came: {problem!s:.300}")
    return read_answer(answer, time.monotonic() - began)


def completion_at(endpoint: str, model: str, key: str | None = None) -> Answered:
    """A few tokens of a model from an address, with an API key where it asks for one."""
    url = f"{endpoint.rstrip('/').removesuffix('/v1')}/v1/completions"
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    began = time.monotonic()
    try:
        answer = requests.post(
            url, json=_request(model), headers=headers, timeout=COMPLETION_SECONDS
        )
    except (requests.RequestException, OSError) as problem:
        return Answered(problem=f"no completion came: {problem!s:.300}")
    if answer.status_code != requests.codes.ok:
        said = f"{answer.status_code} {answer.reason}: {answer.text[:200]}"
        return Answered(problem=f"no completion came: {said}")
    found = read_answer(answer.content, time.monotonic() - began)
    return replace(found, way=f"from {endpoint}")


def _request(model: str) -> dict[str, Any]:
    return {"model": model, "prompt": PROMPT, "max_tokens": COMPLETION_TOKENS, "temperature": 0}


def read_answer(answer: bytes, seconds: float) -> Answered:
    """What an answer to a completion says."""
    try:
        said = json.loads(answer)
        tokens = said["usage"]["completion_tokens"]
        if not isinstance(said["choices"][0]["text"], str) or not isinstance(tokens, int):
            raise TypeError
    except (ValueError, LookupError, TypeError):
        return Answered(problem=f"no completion came: {answer[:200].decode(errors='replace')}")
    if tokens < 1:
        return Answered(problem="the completion has no token")
    return Answered(tokens, seconds)


async def _through(reader: Reader, live: Live, body: Object) -> bytes:
    from vllm_operator.controller.client import ServiceAddress

    metadata = live.server.metadata
    service = ServiceAddress(metadata.namespace, metadata.name, str(PORT))
    sent = reader.client.through_service(
        service, "v1/completions", body=body, seconds=COMPLETION_SECONDS
    )
    answer: bytes = await reader.may(sent, "create", "services/proxy", metadata.namespace)
    return answer


def _pools(plan: Plan) -> bool:
    try:
        return architecture_from_config(plan.model.facts).pooling
    except PlanningError:
        return False
