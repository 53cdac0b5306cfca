"""The yardstick: the least that an operator for VLLMServers can do and still call itself one.

For each new generation of a server it reads the server once and applies a Deployment, a Service and
the status: one GET and three server-side applies, with nothing planned, compared, pinned or
repaired, and no look at what became of it. It uses the same libraries as the real operator (Kopf,
the transport of ``kubernetes.aio``), the same number of workers and untyped JSON, so that the
difference between the two is what the real one does with its time.

Started by ``scale.py`` with KUBECONFIG set; prints ``watching`` when it acts; ends with SIGTERM.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from datetime import UTC, datetime
from typing import Any, Final

import kopf
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.config import load_kube_config

GROUP: Final = "vllm-operator.io"
VERSION: Final = "v1alpha1"
PLURAL: Final = "vllmservers"
MANAGER: Final = "naive-operator"
LABEL: Final = "naive-operator/server"
WORKERS: Final = 24
DEFAULT_IMAGE: Final = "vllm/vllm-openai:v0.32.0"

Key = tuple[str, str]
Object = dict[str, Any]


def owned(server: Object, api_version: str, kind: str, spec: Object) -> Object:
    """An object of the server's name that goes when the server goes."""
    metadata = server["metadata"]
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "labels": {LABEL: metadata["name"]},
            "ownerReferences": [
                {
                    "apiVersion": server["apiVersion"],
                    "kind": server["kind"],
                    "name": metadata["name"],
                    "uid": metadata["uid"],
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
        },
        "spec": spec,
    }


def deployment(server: Object) -> Object:
    """As large as the one that the real operator applies: its size is work for the API server."""
    labels = {LABEL: server["metadata"]["name"]}
    spec = server["spec"]
    model = spec["model"]["id"]
    health = {"httpGet": {"path": "/health", "port": "http"}, "timeoutSeconds": 5}
    variables = {"HOME": "/tmp", "HF_HOME": "/cache/huggingface", "VLLM_CACHE_ROOT": "/cache/vllm"}
    container = {
        "name": "engine",
        "image": (spec.get("engine") or {}).get("image") or DEFAULT_IMAGE,
        "command": [
            *("vllm", "serve", model, "--served-model-name", model),
            *("--tensor-parallel-size", "1", "--max-model-len", "32768"),
            *("--max-num-seqs", "256", "--max-num-batched-tokens", "8192"),
            *("--gpu-memory-utilization", "0.92", "--port", "8000"),
        ],
        "env": [{"name": name, "value": value} for name, value in variables.items()],
        "ports": [{"name": "http", "containerPort": 8000, "protocol": "TCP"}],
        "resources": {
            "limits": {"nvidia.com/gpu": "1"},
            "requests": {"cpu": "4", "memory": "16Gi", "nvidia.com/gpu": "1"},
        },
        "startupProbe": {**health, "periodSeconds": 5, "failureThreshold": 240},
        "readinessProbe": {**health, "periodSeconds": 5, "failureThreshold": 3},
        "livenessProbe": {**health, "periodSeconds": 10, "failureThreshold": 6},
        "volumeMounts": [
            {"name": "cache", "mountPath": "/cache"},
            {"name": "shm", "mountPath": "/dev/shm"},
            {"name": "tmp", "mountPath": "/tmp"},
        ],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    pod = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 80,
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [
            {"name": "cache", "emptyDir": {}},
            {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "2Gi"}},
            {"name": "tmp", "emptyDir": {}},
        ],
    }
    return owned(
        server,
        "apps/v1",
        "Deployment",
        {
            "replicas": spec.get("replicas", 1),
            "revisionHistoryLimit": 2,
            "selector": {"matchLabels": labels},
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0},
            },
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    )


def service(server: Object) -> Object:
    """The Service before the pods."""
    port = {"name": "http", "port": 8000, "targetPort": "http", "protocol": "TCP"}
    spec = {"selector": {LABEL: server["metadata"]["name"]}, "ports": [port]}
    return owned(server, "v1", "Service", spec)


def status(server: Object) -> Object:
    """A status that says no more than that the objects were applied."""
    generation = server["metadata"]["generation"]
    condition = {
        "type": "Applied",
        "status": "True",
        "reason": "Applied",
        "message": "the objects are applied",
        "observedGeneration": generation,
        "lastTransitionTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    metadata = {key: server["metadata"][key] for key in ("name", "namespace")}
    return {
        "apiVersion": server["apiVersion"],
        "kind": server["kind"],
        "metadata": metadata,
        "status": {"observedGeneration": generation, "conditions": [condition]},
    }


class Naive:
    """A queue of servers and the workers that apply them."""

    def __init__(self, api: ApiClient) -> None:
        self._api = api
        self._queue: asyncio.Queue[Key] = asyncio.Queue()
        self._seen: dict[str, int] = {}

    def take(self, event: Any) -> None:
        """Queue a server whose generation is new; its own status writes come back unqueued."""
        metadata = event["object"]["metadata"]
        if event["type"] == "DELETED":
            self._seen.pop(metadata["uid"], None)
        elif self._seen.get(metadata["uid"]) != metadata["generation"]:
            self._seen[metadata["uid"]] = metadata["generation"]
            self._queue.put_nowait((metadata["namespace"], metadata["name"]))

    async def work(self) -> None:
        """Apply one server after another, for ever; one that fails is queued again."""
        while True:
            key = await self._queue.get()
            try:
                await self._reconcile(*key)
            except Exception as error:
                print(f"{key}: {error}", file=sys.stderr, flush=True)
                await asyncio.sleep(0.2)
                self._queue.put_nowait(key)

    async def _reconcile(self, namespace: str, name: str) -> None:
        where = f"/apis/{GROUP}/{VERSION}/namespaces/{namespace}/{PLURAL}/{name}"
        server = await self._send("GET", where)
        if server is None or "deletionTimestamp" in server["metadata"]:
            return
        apps = f"/apis/apps/v1/namespaces/{namespace}/deployments/{name}"
        await self._send("PATCH", apps, deployment(server))
        await self._send(
            "PATCH", f"/api/v1/namespaces/{namespace}/services/{name}", service(server)
        )
        await self._send("PATCH", f"{where}/status", status(server))

    async def _send(self, method: str, path: str, body: Object | None = None) -> Object | None:
        headers = {"Accept": "application/json", "Content-Type": "application/apply-patch+yaml"}
        await self._api.update_params_for_auth(headers, {}, ["BearerToken"], path, method, body)
        query = f"?fieldManager={MANAGER}&force=true" if method == "PATCH" else ""
        response = await self._api.rest_client.request(
            method, self._api.configuration.host + path + query, headers=headers, body=body
        )
        data = await response.read()
        if response.status == 404:
            return None
        if response.status >= 400:
            raise RuntimeError(f"{method} {path}: {response.status} {data[:300]!r}")
        answer: Object = json.loads(data)
        return answer


def operator_settings() -> kopf.OperatorSettings:
    """Kopf as an informer: it writes nothing by itself."""
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.scanning.disabled = True
    return settings


async def run() -> None:
    """Act on the servers of all namespaces until SIGTERM."""
    stop, watching = asyncio.Event(), asyncio.Event()
    configuration = Configuration()
    await load_kube_config(client_configuration=configuration)
    api = ApiClient(configuration=configuration)
    naive = Naive(api)
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry)
    async def login(**_: Any) -> kopf.ConnectionInfo:
        header = await configuration.get_api_key_with_prefix("BearerToken")
        return kopf.ConnectionInfo(
            server=configuration.host,
            ca_path=configuration.ssl_ca_cert,
            token=header.split(" ", 1)[-1],
        )

    @kopf.on.event(GROUP, VERSION, PLURAL, registry=registry)
    async def changed(event: Any, **_: Any) -> None:
        naive.take(event)

    workers = [asyncio.create_task(naive.work()) for _ in range(WORKERS)]
    watches = asyncio.create_task(
        kopf.operator(
            registry=registry,
            settings=operator_settings(),
            standalone=True,
            clusterwide=True,
            stop_flag=stop,
            ready_flag=watching,
        )
    )
    await watching.wait()
    # Kopf has put its own handler in place by now, and would wait 5 s for the unset stop flag.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    print("watching", flush=True)
    await watches
    for worker in workers:
        worker.cancel()
    await api.rest_client.close()


if __name__ == "__main__":
    asyncio.run(run())
