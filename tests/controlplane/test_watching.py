"""The chart's dashboards and rules on a real Prometheus, the operator and engines of two versions.

Engines are scripted: of the oldest and the newest version that is planned, with the labels that the
chart's PodMonitor gives.
"""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator

import pytest

from chart.support import only
from localcluster import Cluster
from localcluster.chart import render
from support.fixtures import StartOperator
from support.operating import OperatorProcess
from support.watched import Asked, Prometheus, job_at, job_of, of_dashboards, of_rules, of_variables
from support.world import World
from vllm_operator.engine.versions import NEWEST_KNOWN, OLDEST

# Prometheus may have to be built first.
pytestmark = pytest.mark.timeout(1800)

SERVERS = {"oldest": OLDEST, "newest": NEWEST_KNOWN, "drafts": NEWEST_KNOWN}
OPERATORS_OWN = "the-operators-own"
OF_ONE = {"drafts": {"speculative": {"method": "ngram", "tokens": 3}}}
"""A server with drafts is not tuned, and only it has acceptance."""
NOT_HERE = {
    "Kept the objective": "a scripted engine's histograms have no buckets but the last",
    "Bound by": "tuning says it after a quarter of an hour of load",
    "namespace_server:vllm_slow:ratio_rate": "as of Kept the objective",
    "VLLMObjective": "as of Kept the objective",
    "namespace_server:vllm_prefix_cache_hits": "of 100,000 prompt tokens and more",
    "VLLMLowPrefixCacheHitRate": "as of what is recorded for it",
}


def fillable(asked: Iterator[Asked]) -> list[Asked]:
    return [one for one in asked if not any(name in one.where for name in NOT_HERE)]


def generate(world: World, name: str) -> None:
    for pod in world.list("Pod"):
        if pod["metadata"]["labels"]["vllm-operator.io/server"] == name:
            body = json.dumps({"prompt": "two words", "max_tokens": 7}).encode()
            url = f"http://{pod['status']['podIP']}:8000/v1/completions"
            with urllib.request.urlopen(url, body, timeout=10) as answer:
                answer.read()


@pytest.fixture
def prometheus() -> Iterator[Prometheus]:
    with Prometheus() as found:
        yield found


@pytest.fixture
def operator(
    engine_world: World, start_operator: StartOperator, prometheus: Prometheus
) -> OperatorProcess:
    return start_operator(
        engine_world,
        calibration=True,
        lease_namespace=engine_world.namespace,
        prometheus_url=prometheus.url,
        prometheus_interval=1,
    )


def scrape(prometheus: Prometheus, cluster: Cluster, operator: OperatorProcess) -> None:
    monitor = only(
        render({"prometheus": {"podMonitor": {"enabled": True}}}),
        "PodMonitor",
        "vllm-operator-engines",
    )
    own = {"namespace": OPERATORS_OWN, "pod": "operator-1"}
    address = f"127.0.0.1:{operator.port}"
    jobs = [
        job_of(monitor, cluster.kubeconfig),
        job_at("operator", address, own, honoured=True),
    ]
    prometheus.start(jobs)


def test_every_query_of_dashboards_and_rules_is_answered_for_the_oldest_and_the_newest_version(
    engines: Cluster, engine_world: World, prometheus: Prometheus, operator: OperatorProcess
) -> None:
    for name, version in SERVERS.items():
        engine_world.apply(
            name,
            engine={"image": f"scripted/vllm:v{version}", **OF_ONE.get(name, {})},
            workload={"slo": {"timeToFirstTokenMilliseconds": 400}},
            autotune={"mode": "Recommend"},
        )
    for name in SERVERS:
        engine_world.wait_ready(name, timeout=300)
    scrape(prometheus, engines, operator)
    asked = [*of_rules(), *of_variables(engine_world.namespace)]
    for name in SERVERS:
        of_drafts = name in OF_ONE
        asked += [
            one
            for one in of_dashboards(engine_world.namespace, name)
            if (": Acceptance" in one.where or ": Tokens of a step of one" in one.where)
            == of_drafts
        ]
    wanted = fillable(iter(asked))
    assert len(wanted) > 200
    left = []

    def filled() -> bool:
        for name in SERVERS:
            generate(engine_world, name)
        left[:] = prometheus.problems(wanted, numbers=False)
        return not left

    try:
        prometheus.wait(filled, "every query to be answered", 180)
    except TimeoutError:
        assert not left, "\n".join(left)
    assert prometheus.broken_rules() == []
    # Servers of other tests may be in the cluster: theirs are other namespaces.
    places = f"{engine_world.namespace}|{OPERATORS_OWN}"
    series = f'{{__name__=~"up|vllm_operator_replicas",server!="",namespace=~"{places}"}}'
    labels = prometheus.ask(f"group by (namespace, server) ({series})")
    told = {(one["metric"]["namespace"], one["metric"]["server"]) for one in labels}
    assert told == {(engine_world.namespace, name) for name in SERVERS}
