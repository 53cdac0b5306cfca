"""The node: registered, its Lease renewed, its pods followed."""

import asyncio
import contextlib
import datetime
from pathlib import Path
from typing import Any

import aiohttp

from localcluster.agent.addresses import Addresses
from localcluster.agent.api import STRATEGIC, Api
from localcluster.agent.events import Recorder, timestamp
from localcluster.agent.pods import PodLife
from localcluster.agent.runtime import Runtime
from localcluster.agent.server import LogServer
from localcluster.agent.settings import Settings
from localcluster.client import ApiError

Object = dict[str, Any]
_LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"


class Node:
    """All that one agent does."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._api = Api(settings.server, settings.token, settings.authority)
        self._runtime = Runtime(Path(settings.logs))
        self._recorder = Recorder(self._api, settings.name)
        self._addresses = Addresses()
        self._pods: dict[str, PodLife] = {}
        self._names: dict[tuple[str, str], str] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._server = LogServer(self._find, Path(settings.logs), self._runtime.scratch)

    async def run(self) -> None:
        """Until it is cancelled; its pods' processes end with it."""
        try:
            port = await self._server.start()
            await self._register(port)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._recorder.run())
                group.create_task(self._keep_alive(port))
                group.create_task(self._follow_pods())
        finally:
            await self._server.stop()
            await self._api.close()
            self._runtime.close()

    def _find(self, namespace: str, name: str) -> PodLife | None:
        return self._pods.get(self._names.get((namespace, name), ""))

    # Node and Lease

    def _status(self, port: int) -> Object:
        now = timestamp()
        healthy = {"lastHeartbeatTime": now, "lastTransitionTime": now}
        pressures = [
            ("MemoryPressure", "KubeletHasSufficientMemory", "sufficient memory available"),
            ("DiskPressure", "KubeletHasNoDiskPressure", "no disk pressure"),
            ("PIDPressure", "KubeletHasSufficientPID", "sufficient PID available"),
        ]
        return {
            **self._settings.node["status"],
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
            "conditions": [
                *(
                    {
                        "type": kind,
                        "status": "False",
                        "reason": reason,
                        "message": f"kubelet has {words}",
                        **healthy,
                    }
                    for kind, reason, words in pressures
                ),
                {
                    "type": "Ready",
                    "status": "True",
                    "reason": "KubeletReady",
                    "message": "kubelet is posting ready status",
                    **healthy,
                },
            ],
            "nodeInfo": {
                "architecture": "amd64",
                "bootID": "",
                "containerRuntimeVersion": "process://1",
                "kernelVersion": "",
                "kubeProxyVersion": "",
                "kubeletVersion": "v1.36.3",
                "machineID": "",
                "operatingSystem": "linux",
                "osImage": "localcluster",
                "systemUUID": "",
            },
        }

    async def _register(self, port: int) -> None:
        """Also after the Node was deleted while this machine was away."""
        node = {**self._settings.node, "status": self._status(port)}
        try:
            await self._api.insist("POST", "/api/v1/nodes", node)
        except ApiError as error:
            if error.status != 409:
                raise
            await self._report(port)

    async def _report(self, port: int) -> None:
        path = f"/api/v1/nodes/{self._settings.name}/status"
        await self._api.insist("PATCH", path, {"status": self._status(port)}, STRATEGIC)

    async def _keep_alive(self, port: int) -> None:
        """The Lease says that the node lives; its status is written only where it is not Ready."""
        node = f"/api/v1/nodes/{self._settings.name}"
        while True:
            with contextlib.suppress(aiohttp.ClientError, TimeoutError, ApiError):
                found = await self._api.request("GET", node)
                conditions = found["status"].get("conditions") or []
                if not any(c["type"] == "Ready" and c["status"] == "True" for c in conditions):
                    await self._report(port)
                await self._renew(found["metadata"]["uid"])
            await asyncio.sleep(self._settings.lease_seconds)

    async def _renew(self, uid: str) -> None:
        name = self._settings.name
        now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        owner = {"apiVersion": "v1", "kind": "Node", "name": name, "uid": uid}
        lease = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": name, "ownerReferences": [owner]},
            "spec": {"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": now},
        }
        try:
            change = {"spec": lease["spec"]}
            await self._api.request("PATCH", f"{_LEASES}/{name}", change, STRATEGIC)
        except ApiError as error:
            if error.status != 404:
                raise
            await self._api.request("POST", _LEASES, lease)

    # Pods

    async def _follow_pods(self) -> None:
        selector = f"spec.nodeName={self._settings.name}"
        async for kind, found in self._api.changes("/api/v1/pods", selector):
            if kind == "LIST":
                listed = {pod["metadata"]["uid"] for pod in found["items"]}
                for uid in set(self._pods) - listed:
                    self._pods[uid].vanish()
                for pod in found["items"]:
                    self._see(pod)
            elif kind == "DELETED":
                life = self._pods.get(found["metadata"]["uid"])
                if life is not None:
                    life.vanish()
            else:
                self._see(found)

    def _see(self, pod: Object) -> None:
        metadata = pod["metadata"]
        uid = metadata["uid"]
        life = self._pods.get(uid)
        if life is None:
            life = PodLife(
                pod, self._settings, self._api, self._runtime, self._recorder, self._addresses
            )
            self._pods[uid] = life
            self._names[metadata["namespace"], metadata["name"]] = uid
            task = asyncio.ensure_future(self._live(life))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        life.update(pod)

    async def _live(self, life: PodLife) -> None:
        try:
            await life.run()
        finally:
            self._pods.pop(life.uid, None)
