"""Which Prometheus a command asks, and what it says where there is none."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from vllm_operator.cli.cluster import Reader
from vllm_operator.cli.sources import MetricsOptions, source_of
from vllm_operator.controller.sources.prometheus import Wanted
from vllm_operator.engine.versions import Version
from vllm_operator.errors import ApiError, InputError
from vllm_operator.tuning.durations import Durations

OPERATED, USUAL = "operated-prometheus=true", "app.kubernetes.io/name=prometheus"


def service(name: str, *ports: tuple[str, int]) -> dict[str, Any]:
    listed = [{"name": port, "port": number} for port, number in ports]
    return {"metadata": {"namespace": "monitoring", "name": name}, "spec": {"ports": listed}}


class Answers:
    """A client with Services by selector, behind which a Prometheus answers."""

    def __init__(self, services: Mapping[str, list[Any]], answer: Any = None) -> None:
        self.services, self.answer = services, answer
        self.asked: list[str] = []

    async def pages(self, _kind: Any, _space: Any, selector: str) -> AsyncIterator[list[Any]]:
        found = self.services.get(selector, [])
        if isinstance(found, Exception):
            raise found
        yield found

    async def through_service(self, service: Any, path: str, query: Any, **_: Any) -> bytes:
        self.asked.append(f"{service} {path} {query['query']}")
        if isinstance(self.answer, Exception):
            raise self.answer
        return json.dumps(self.answer).encode()


WANTED = Wanted("default", "qwen-1", Version.parse("0.32.0"), 60.0)


def read(client: Answers, options: MetricsOptions | None = None) -> str | None:
    """What was in the way of reading a pod; None where nothing was."""

    async def asked() -> str | None:
        source = await source_of(Reader(client), options or MetricsOptions())
        try:
            answers = await source.read([WANTED], Durations(15))
        finally:
            source.close()
        return answers[WANTED.key].problem

    return asyncio.run(asked())


def test_an_operated_prometheus_is_found_and_asked_through_the_api_server() -> None:
    client = Answers(
        {OPERATED: [service("prometheus-operated", ("grpc", 10901), ("http-web", 9090))]},
        {"data": {"result": []}},
    )
    assert read(client) is None
    (asked,) = client.asked
    assert asked.startswith("monitoring/prometheus-operated:http-web api/v1/query {__name__=~")
    assert 'pod=~"qwen-1"' in asked


def test_that_of_the_usual_chart_is_the_second_choice() -> None:
    client = Answers(
        {USUAL: [service("prometheus-server", ("web-ui", 80))]}, {"data": {"result": []}}
    )
    assert read(client) is None
    assert client.asked[0].startswith("monitoring/prometheus-server:80 ")


def test_a_service_can_be_named() -> None:
    client = Answers({}, {"data": {"result": []}})
    assert read(client, MetricsOptions("mine/prometheus:9090")) is None
    assert client.asked[0].startswith("mine/prometheus:9090 ")


TWO = [service("a", ("web", 1)), service("b", ("web", 1))]
REFUSED = ApiError(403, "Forbidden", "no")


@pytest.mark.parametrize(
    ("services", "options", "said"),
    [
        ({}, None, "name one by --prometheus"),
        ({USUAL: TWO}, None, "monitoring/a:web, monitoring/b:web"),
        ({OPERATED: REFUSED}, None, "you may not list services in all namespaces"),
        ({}, MetricsOptions("prometheus"), "neither a URL nor NAMESPACE/SERVICE:PORT"),
    ],
)
def test_where_there_is_none_it_is_said_what_to_do(
    services: Any, options: MetricsOptions | None, said: str
) -> None:
    with pytest.raises(InputError, match=said):
        read(Answers(services), options)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (ApiError(403, "Forbidden", "no"), "you may not get services/proxy in namespace mine"),
        (ApiError(503, "ServiceUnavailable", "no endpoints available"), "no endpoints available"),
        ({"status": "error"}, "none of Prometheus'"),
    ],
)
def test_a_prometheus_that_cannot_be_asked_says_why(answer: Any, said: str) -> None:
    problem = read(Answers({}, answer), MetricsOptions("mine/prometheus:9090"))
    assert problem is not None
    assert said in problem
