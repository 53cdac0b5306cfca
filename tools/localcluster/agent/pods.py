"""One pod's life on this node, from bound to gone."""

import asyncio
import contextlib
import shutil
import traceback
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from localcluster.agent import statuses
from localcluster.agent.addresses import Addresses
from localcluster.agent.api import STRATEGIC, Api
from localcluster.agent.containers import ContainerLife
from localcluster.agent.events import Recorder, timestamp
from localcluster.agent.inputs import Inputs, Missing
from localcluster.agent.places import Place
from localcluster.agent.runtime import Runtime
from localcluster.agent.settings import Settings
from localcluster.client import ApiError

Object = dict[str, Any]


class PodLife:
    """`run` is its whole life; `update` tells it of a newer object, `vanish` that it has none."""

    def __init__(
        self,
        pod: Object,
        settings: Settings,
        api: Api,
        runtime: Runtime,
        recorder: Recorder,
        addresses: Addresses,
    ) -> None:
        self._pod = pod
        self._settings = settings
        self._api = api
        self._runtime = runtime
        self._recorder = recorder
        self._addresses = addresses
        metadata, spec = pod["metadata"], pod["spec"]
        self.uid: str = metadata["uid"]
        self._path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"
        self._policy = spec.get("restartPolicy", "Always")
        self._address = addresses.take()
        self._started = (pod.get("status") or {}).get("startTime") or timestamp()
        self._prepared = any(
            one["type"] == "PodReadyToStartContainers" and one["status"] == "True"
            for one in (pod.get("status") or {}).get("conditions") or []
        )
        self._directory = runtime.scratch / self.uid[:8]
        self._init_specs: list[Object] = spec.get("initContainers") or []
        self._init = [_found(pod, "initContainerStatuses", one) for one in self._init_specs]
        self._containers = [_found(pod, "containerStatuses", one) for one in spec["containers"]]
        self._lives: list[ContainerLife] = []
        self._changed = asyncio.Event()
        self._deleted = asyncio.Event()
        self._over = asyncio.Event()
        """Deleted, or failed by somebody else's word."""
        self._evicted = False
        self._vanished = False
        self._written: Object = {}

    def update(self, pod: Object) -> None:
        """A newer object: what counts is whether it is to be deleted, and readiness gates.

        A pod that somebody else calls failed runs no longer, as on a kubelet: an eviction manager
        writes that first, and ends the containers then.
        """
        self._pod = pod
        if (pod.get("status") or {}).get("phase") == "Failed" != self._written.get("phase"):
            self._evicted = True
            self._over.set()
        if "deletionTimestamp" in pod["metadata"]:
            self._delete_now()
        self._changed.set()

    def vanish(self) -> None:
        """The object is gone, as after a forced deletion."""
        self._vanished = True
        self._delete_now()

    def _delete_now(self) -> None:
        self._deleted.set()
        self._over.set()

    def log_path(self, container: str, previous: bool) -> str | None:
        """The name of a container's log, or None where there is none (yet)."""
        for status in [*self._init, *self._containers]:
            if status.name == container:
                number = status.restarts - (1 if previous else 0)
                waits = not previous and "waiting" in status.state
                if waits and not status.last:
                    return None
                place = self._place({})
                return place.log_name(container, number) if number >= 0 else None
        return None

    def runs(self, container: str) -> bool:
        """Whether that container's process runs."""
        found = [one for one in [*self._init, *self._containers] if one.name == container]
        return any(one.is_running for one in found)

    async def run(self) -> None:
        """Returns when the pod and everything of it is gone."""
        writer = _loud(self._write_statuses())
        work = _loud(self._work())
        try:
            if statuses.phase(self._policy, self._init, self._containers) in (
                "Failed",
                "Succeeded",
            ):
                work.cancel()
            await self._over.wait()
            if self._evicted:
                writer.cancel()
                await asyncio.gather(*(life.stop(0) for life in self._lives))
                work.cancel()
                await self._deleted.wait()
            grace = self._pod["metadata"].get("deletionGracePeriodSeconds", 0)
            await asyncio.gather(
                *(life.stop(0 if self._vanished else grace) for life in self._lives)
            )
            if not self._lives:
                work.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                # What waits (back-off, an image, a volume) waits no longer.
                _, waiting = await asyncio.wait([work], timeout=0.1)
                for task in waiting:
                    task.cancel()
                await asyncio.wait([work])
            writer.cancel()
            if not self._vanished:
                if not self._evicted:
                    await self._write()
                await self._delete()
        finally:
            writer.cancel()
            work.cancel()
            self._addresses.give_back(self._address)
            shutil.rmtree(self._directory, ignore_errors=True)

    async def _work(self) -> None:
        self._changed.set()
        place = await self._prepare()
        self._prepared = True
        self._changed.set()
        for spec, status in zip(self._init_specs, self._init, strict=True):
            if status.state.get("terminated", {}).get("exitCode") == 0:
                continue
            life = ContainerLife(place, spec, status)
            self._lives.append(life)
            # An init container is done when it succeeds, also where others are always restarted.
            await life.run("OnFailure" if self._policy == "Always" else self._policy)
            if self._deleted.is_set() or status.state["terminated"]["exitCode"] != 0:
                return
        for spec, status in zip(self._pod["spec"]["containers"], self._containers, strict=True):
            self._lives.append(ContainerLife(place, spec, status))
        first = len(self._lives) - len(self._containers)
        await asyncio.gather(*(life.run(self._policy) for life in self._lives[first:]))

    def _place(self, volumes: dict[str, Any]) -> Place:
        inputs = Inputs(self._api, self._pod, self._settings.name, self._address)
        return Place(
            settings=self._settings,
            runtime=self._runtime,
            recorder=self._recorder,
            inputs=inputs,
            pod=self._pod,
            address=self._address,
            directory=self._directory,
            volumes=volumes,
            changed=self._changed.set,
        )

    async def _prepare(self) -> Place:
        """The pod's directories; waits for what it refers to, as a kubelet does."""
        self._directory.mkdir(parents=True, exist_ok=True)
        place = self._place({})
        wait = 0.5
        for volume in self._pod["spec"].get("volumes") or []:
            name = volume["name"]
            while name not in place.volumes:
                try:
                    place.volumes[name] = await place.inputs.volume(
                        volume, self._directory / name, Path(self._settings.volumes)
                    )
                except Missing as missing:
                    message = f'MountVolume.SetUp failed for volume "{name}" : {missing}'
                    self._recorder.pod(self._pod, "Warning", "FailedMount", message)
                    await place.wait(wait)
                    wait = min(wait * 2, 122)
        return place

    # Status

    async def _write_statuses(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            await self._write()
            # What changes at once is written at once.
            await asyncio.sleep(0.02)

    async def _write(self) -> None:
        status = statuses.pod_status(
            self._pod,
            self._init,
            self._containers,
            self._address,
            self._started,
            timestamp(),
            self._prepared,
        )
        if status == self._written:
            return
        body = {"metadata": {"uid": self.uid}, "status": status}
        try:
            written = await self._api.insist("PATCH", f"{self._path}/status", body, STRATEGIC)
        except ApiError as error:
            if error.status not in (404, 409):  # the pod is gone, or another has its name
                raise
            return
        self._pod["status"] = written["status"]
        self._written = status

    async def _delete(self) -> None:
        body = {"gracePeriodSeconds": 0, "preconditions": {"uid": self.uid}}
        try:
            await self._api.insist("DELETE", self._path, body)
        except ApiError as error:
            if error.status not in (404, 409):
                raise


def _loud(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """A task whose failure is printed when it happens, not when the task is forgotten."""

    async def run() -> None:
        try:
            await work
        except Exception:
            traceback.print_exc()
            raise

    return asyncio.ensure_future(run())


def _found(pod: Object, field: str, spec: Object) -> statuses.Container:
    """A container as the pod's status has it: what ran there has ended with the former agent."""
    container = statuses.Container(spec["name"], spec["image"])
    for known in (pod.get("status") or {}).get(field) or []:
        if known["name"] != spec["name"]:
            continue
        container.restarts = known["restartCount"]
        container.last = known.get("lastState") or {}
        container.identifier = known.get("containerID", "")
        if "running" in known["state"]:
            # containerd's words for a container that it finds dead without knowing how.
            container.state = known["state"]
            container.end(255, "Unknown", "", timestamp())
            container.restarts += 1
        elif "terminated" in known["state"]:
            container.state = known["state"]
        elif container.last:
            container.restarts += 1
    return container
