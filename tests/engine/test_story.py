"""The life of a server with the real engine: every process but the GPU is the one of production.

`make demo-engine` shows the same to a person.
"""

from __future__ import annotations

import json
import re
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from localcluster import Cluster
from localcluster.chart import install_chart
from localcluster.waiting import wait_until
from realengine.environments import SERVING_VERSION, Environment
from scriptedengine.images import real
from support.operating import OperatorProcess
from support.pods import PodPlace, pod_place, reached_by_services
from support.world import World, flag
from vllm_operator.cli.main import main

pytestmark = pytest.mark.timeout(900)

CRDS = Path(__file__).parents[2] / "crds"
START = 240  # seconds that a start of vLLM may take here; 30 on an idle machine
FEW, FEWER = 4, 2


@pytest.fixture
def place(environment: Environment, models: Path) -> Iterator[PodPlace]:
    """A namespace of a cluster whose node runs the real vLLM, with the tiny models on a claim."""
    with Cluster(kwok=False, manifests=[CRDS]) as cluster:
        # No faster than a kubelet: what the probes wait for is real.
        cluster.add_agent_node("real-0", [real(environment)], count=8, speed=1)
        with pod_place(cluster) as found:
            found.claim("models", str(models))
            yield found


@pytest.fixture
def world(place: PodPlace, tmp_path: Path) -> Iterator[World]:
    """With an operator under its chart's rights."""
    values = {"namespaces": [place.namespace], "crds": {"install": False}}
    kubeconfig = install_chart(
        place.cluster, values, release=place.namespace, namespace=place.namespace
    )
    log = tmp_path / "operator.log"
    with OperatorProcess(place.cluster, kubeconfig, log, namespaces=place.namespace):
        yield World(place.cluster, place.namespace)


def manifest(config: dict[str, Any], **engine: Any) -> dict[str, Any]:
    claim = {"claimName": "models", "path": "/llama", "mode": "Model"}
    pins = {"maxModelLen": 2048, "maxNumSeqs": FEW, "maxNumBatchedTokens": 512, "blockSize": 32}
    switches = {"dtype": "bfloat16", "enforceEager": True}
    image = {"image": f"vllm/vllm-openai:v{SERVING_VERSION}"}
    return {
        "apiVersion": "vllm-operator.io/v1alpha1",
        "kind": "VLLMServer",
        "metadata": {"name": "tiny"},
        "spec": {
            "model": {
                "id": "tiny/llama",
                "servedName": "tiny",
                "config": config,
                "storage": {"persistentVolumeClaim": claim},
            },
            "engine": {**image, **pins, **switches, **engine},
            "rollout": {"drainSeconds": 1},
        },
    }


def apply(world: World, body: dict[str, Any]) -> None:
    world.cluster.kubectl(
        *("apply", "--server-side", "--namespace", world.namespace, "-f", "-"),
        input=json.dumps(body),
    )


def endpoints(world: World) -> list[str]:
    """Where the Service leads: addresses of ready pods, with their port."""
    path = f"/apis/discovery.k8s.io/v1/namespaces/{world.namespace}/endpointslices"
    found = []
    for item in world.cluster.api("GET", f"{path}?labelSelector=kubernetes.io/service-name%3Dtiny")[
        "items"
    ]:
        for endpoint in item["endpoints"] or []:
            if endpoint["conditions"]["ready"]:
                port = item["ports"][0]["port"]
                found += [f"http://{address}:{port}" for address in endpoint["addresses"]]
    return found


def endpoint(world: World) -> str:
    """The one endpoint of the Service: its ready pod's."""
    (pod,) = [pod for pod in world.list("Pod") if is_ready(pod)]
    address = reached_by_services(pod["status"]["podIP"])
    url = f"http://{address}:8000"
    wait_until(lambda: endpoints(world) == [url], f"{url} to be the only endpoint", 60)
    return url


def is_ready(pod: dict[str, Any]) -> bool:
    conditions = pod["status"].get("conditions", [])
    return "deletionTimestamp" not in pod["metadata"] and any(
        c["type"] == "Ready" and c["status"] == "True" for c in conditions
    )


def ask(url: str, path: str, body: object = None, seconds: float = 60) -> str:
    data = None if body is None else json.dumps(body).encode()
    headers = {"content-type": "application/json"}
    request = urllib.request.Request(url + path, data, headers)
    with urllib.request.urlopen(request, timeout=seconds) as answer:
        text: str = answer.read().decode()
    return text


def running_at_most(url: str) -> int:
    """The most requests that the scheduler runs at once, while more than that are sent."""
    enough = threading.Event()

    def load() -> None:
        body = {"model": "tiny", "prompt": [5] * 20, "max_tokens": 600, "ignore_eos": True}
        while not enough.is_set():
            ask(url, "/v1/completions", body)

    def gauge(name: str) -> int:
        (value,) = re.findall(rf"^vllm:{name}\{{.*\}} (\S+)$", ask(url, "/metrics"), re.M)
        return int(float(value))

    threads = [threading.Thread(target=load, daemon=True) for _ in range(FEW + 3)]
    for thread in threads:
        thread.start()
    seen = []
    try:
        wait_until(lambda: gauge("num_requests_waiting") > 0, "requests to wait for a place", 60)
        seen = [gauge("num_requests_running") for _ in range(20)]
    finally:
        enough.set()
        for thread in threads:
            thread.join(120)
    return max(seen)


def checked(world: World) -> dict[str, str]:
    """The outcome of each check of ``vllm-operator check``, which finds nothing that fails."""
    command = ["check", "tiny", "-n", world.namespace, "-o", "json"]
    environment = {"KUBECONFIG": str(world.cluster.kubeconfig)}
    found = CliRunner().invoke(main, command, env=environment)
    assert found.exit_code == 0, found.output
    (one,) = json.loads(found.output)
    return {check["check"]: check["outcome"] for check in one["checks"]}


def test_a_server_starts_answers_changes_and_fails_as_its_conditions_say(
    world: World, models: Path
) -> None:
    config = json.loads((models / "llama" / "config.json").read_text())
    apply(world, manifest(config))
    server = world.wait_ready("tiny", timeout=START)
    assert server["status"]["readyReplicas"] == 1
    url = endpoint(world)
    assert json.loads(ask(url, "/version"))["version"].startswith(SERVING_VERSION)
    message = {"role": "user", "content": "def main"}
    chat = {"model": "tiny", "messages": [message], "max_tokens": 8, "ignore_eos": True}
    assert json.loads(ask(url, "/v1/chat/completions", chat))["usage"]["completion_tokens"] == 8
    assert running_at_most(url) == FEW
    outcomes = checked(world)
    # No backend is in the log of vLLM's CPU build.
    assert outcomes["attention backend"] == "skip"
    for name in ("plan", "health", "completion"):
        assert outcomes[name] == "pass", outcomes

    apply(world, manifest(config, maxNumSeqs=FEWER))
    world.wait_ready("tiny", timeout=START)
    rolled = endpoint(world)
    assert rolled != url
    assert running_at_most(rolled) == FEWER
    assert flag(world.args("tiny"), "--max-num-seqs") == str(FEWER)

    apply(world, manifest(config, maxNumSeqs=FEWER, extraArgs=["--swap-space=4"]))
    refused = world.wait_condition("Planned", "False", "IllegalPin", name="tiny")
    assert "--swap-space" in refused["message"]
    assert endpoint(world) == rolled

    # What the operator passes on unread, and vLLM's own parser refuses.
    forced = ['--structured-outputs-config={"backend": "nobody"}']
    apply(world, manifest(config, maxNumSeqs=FEWER, extraArgs=forced))
    ended = world.wait_condition("Progressing", "False", "ArgumentRefused", "tiny", START)
    assert "--structured-outputs-config" in ended["message"]
    assert world.condition("Available", "tiny")["status"] == "True"
    assert endpoints(world) == [rolled]
    assert json.loads(ask(rolled, "/v1/chat/completions", chat))["choices"]
