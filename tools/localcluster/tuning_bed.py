"""A server of the real vLLM that is tuned: a cluster, a Prometheus, the operator, engines.

What is shown by `make demo-tune`, measured by `benchmarks/tuning_real_engine.py` and held by
`tests/engine/test_tuning.py` runs on it.
"""

import json
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Self

from localcluster.agent.images import Image
from localcluster.chart import install_chart
from localcluster.client import ApiError
from localcluster.cluster import Cluster
from localcluster.demo_engine import claim
from localcluster.demo_operator import ROOT, Operator
from localcluster.waiting import wait_until
from realengine.environments import SERVING_VERSION, Environment
from scriptedengine.images import real

NAME = "tiny"
IN_ONE_PROCESS = "vllm.v1.executor.uniproc_executor.UniProcExecutor"
"""The engine computes where it schedules: one process less to start, and none that asks ten
thousand times a second for something to do."""
PRODUCT = "NVIDIA-L4"
"""One of the slowest GPUs of which labels are known: the nearest to a CPU."""
START_SECONDS = 600.0
"""That a start of vLLM may take on a machine with other work; 30 on an idle one."""
SERVERS = "/apis/vllm-operator.io/v1alpha1/namespaces/default/vllmservers"
PODS = f"/api/v1/namespaces/default/pods?labelSelector=vllm-operator.io%2Fserver%3D{NAME}"


@dataclass(frozen=True)
class Pace:
    """What a step takes at least, in milliseconds; 0 for what it takes on this machine."""

    step: float = 0.0
    sequence: float = 0.0
    """What each sequence in it adds."""


LIKE_A_GPU = Pace(20.0, 0.5)
"""A slow one; two engines then leave a machine of two processors some time."""


class TuningBed:
    """As a context manager: everything but the server is there.

    ``interval`` is in seconds; ``poses`` are variables of `posed`, such as ``begin_at=4``.
    """

    def __init__(
        self,
        environment: Environment,
        interval: float = 1.0,
        pace: Pace = LIKE_A_GPU,
        **poses: object,
    ) -> None:
        self.interval = interval
        """Seconds between two scrapes, of which every duration of tuning is a multiple."""
        self._poses = {name.upper(): str(value) for name, value in poses.items()}
        self._environment, self._pace = environment, pace
        self._models = environment.models()
        self._exits = ExitStack()
        self.cluster = Cluster(kwok=False, manifests=[ROOT / "crds"])

    def __enter__(self) -> Self:
        with ExitStack() as exits:
            exits.enter_context(self.cluster)
            # No faster than a kubelet: what the probes wait for is real.
            image = _image(self._environment, self._pace)
            self.cluster.add_agent_node("cpu-1", [image], PRODUCT, speed=1)
            claim(self.cluster, self._models)
            prometheus = self.cluster.start_prometheus(self.interval)
            exits.callback(self.cluster.stop_prometheus, kill=True)
            rights = install_chart(self.cluster)
            logs = self.cluster.log("operator").parent
            self.operator = Operator(rights, logs, "localcluster.posed", self._poses)
            exits.callback(self.operator.close)
            self.operator.start(
                f"--prometheus-url={prometheus}", f"--prometheus-interval={self.interval:g}"
            )
            self._exits = exits.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._exits.__exit__(kind, error, trace)

    def manifest(
        self, autotune: dict[str, Any], slo: dict[str, Any] | None = None, **engine: Any
    ) -> dict[str, Any]:
        """A server of the tiny Llama; ``engine`` is pinned beside what works on CPUs."""
        claimed = {"claimName": "models", "path": "/llama", "mode": "Model"}
        pins = {"maxModelLen": 2048, "blockSize": 32, "dtype": "bfloat16", "enforceEager": True}
        config = json.loads((self._models / "llama" / "config.json").read_text())
        return {
            "apiVersion": "vllm-operator.io/v1alpha1",
            "kind": "VLLMServer",
            "metadata": {"name": NAME},
            "spec": {
                "model": {
                    "id": "tiny/llama",
                    "servedName": NAME,
                    "config": config,
                    "storage": {"persistentVolumeClaim": claimed},
                },
                "engine": {
                    "image": f"vllm/vllm-openai:v{SERVING_VERSION}",
                    **pins,
                    "extraArgs": ["--disable-uvicorn-access-log"],
                    **engine,
                },
                "autotune": autotune,
                **({"workload": {"slo": slo}} if slo else {}),
                "rollout": {"drainSeconds": 1},
            },
        }

    def apply(self, manifest: dict[str, Any]) -> None:
        """Creates or edits the server."""
        text = json.dumps(manifest)
        self.cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", input=text)

    def server(self) -> dict[str, Any]:
        """The server as it is."""
        return self.cluster.api("GET", f"{SERVERS}/{NAME}")

    def tuning(self) -> dict[str, Any]:
        """``status.tuning``; empty where there is none yet."""
        found: dict[str, Any] = self.server().get("status", {}).get("tuning") or {}
        return found

    def condition(self, kind: str) -> dict[str, Any]:
        """A condition of the server; empty where it is not there."""
        conditions = self.server().get("status", {}).get("conditions", [])
        return next((one for one in conditions if one["type"] == kind), {})

    def ready_pods(self) -> dict[str, str]:
        """URLs of its ready pods, the youngest last."""
        try:
            items = self.cluster.api("GET", PODS)["items"]
        except ApiError as error:
            raise OSError(str(error)) from error
        ready = [pod for pod in items if _is_ready(pod)]
        ready.sort(key=lambda pod: (pod["metadata"]["creationTimestamp"], pod["metadata"]["name"]))
        return {one["metadata"]["name"]: f"http://{one['status']['podIP']}:8000" for one in ready}

    def command(self) -> list[str]:
        """Of the youngest ready pod's engine."""
        name = list(self.ready_pods())[-1]
        pod = self.cluster.api("GET", f"/api/v1/namespaces/default/pods/{name}")
        found: list[str] = pod["spec"]["containers"][0]["command"]
        return found

    def wait_ready(self, timeout: float = START_SECONDS) -> None:
        """Until the server is Ready, of its newest specification."""

        def ready() -> bool:
            server = self.server()
            seen = server.get("status", {}).get("observedGeneration")
            newest = seen == server["metadata"]["generation"]
            return newest and self.condition("Ready").get("status") == "True"

        wait_until(ready, f"{NAME} to be Ready", timeout)

    def wait(
        self, reached: Callable[[dict[str, Any]], bool], what: str, timeout: float
    ) -> dict[str, Any]:
        """``status.tuning`` once it is as asked. Raises TimeoutError."""

        def seen() -> dict[str, Any] | None:
            found = self.tuning()
            return found if found and reached(found) else None

        return wait_until(seen, what, timeout, interval=0.5)


def _image(environment: Environment, pace: Pace) -> Image:
    """Engines of one thread each, so that two of them share a machine of two processors.

    What vLLM once found out of its models' classes comes with the image: a pod's cache is empty at
    first, and finding it out takes as long as all the rest of a start.
    """
    found = real(environment)
    known = environment.directory / "cache" / "modelinfos"
    paced = (
        f'mkdir -p "$VLLM_CACHE_ROOT" && cp -r {known} "$VLLM_CACHE_ROOT"; '
        f'exec {environment.vllm} "$@" --worker-cls pacedworker.Worker '
        f"--distributed-executor-backend {IN_ONE_PROCESS}"
    )
    variables = {
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": "1",
        "PACED_MILLISECONDS": str(pace.step),
        "PACED_SEQUENCE_MILLISECONDS": str(pace.sequence),
    }
    return replace(
        found,
        programs={**found.programs, "vllm": ["sh", "-c", paced, "vllm"]},
        environment={**found.environment, **variables},
    )


def _is_ready(pod: dict[str, Any]) -> bool:
    conditions = pod["status"].get("conditions", [])
    return "deletionTimestamp" not in pod["metadata"] and any(
        one["type"] == "Ready" and one["status"] == "True" for one in conditions
    )
