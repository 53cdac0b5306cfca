"""One container's life: its image, its process, its probes, its restarts, its end."""

import asyncio
import contextlib
import uuid
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from localcluster.agent import images, probes, statuses
from localcluster.agent.backoff import BackOff, duration
from localcluster.agent.events import timestamp
from localcluster.agent.images import Image
from localcluster.agent.inputs import Missing
from localcluster.agent.places import Place, environment, quantity, resolved
from localcluster.agent.probes import Surroundings
from localcluster.agent.runtime import Running
from localcluster.agent.substitution import Substitution, expand

Object = dict[str, Any]
_MESSAGE_BYTES = 4096  # of a termination message, pkg/kubelet/container/runtime.go
_LOG_LINES, _LOG_BYTES = 80, 2048  # of a log that stands in for one, the same file
_START_ERROR = 128  # containerd's exit status of a container that it cannot start
_LOOK_SECONDS = 0.25  # between two looks at how much memory a container uses


class ContainerLife:
    """`run` starts it and starts it again as the pod's policy says, until `stop`."""

    def __init__(self, place: Place, spec: Object, status: statuses.Container) -> None:
        self._place = place
        self._spec = spec
        self.status = status
        self._crashes = BackOff()
        self._pulls = BackOff()
        self._running: Running | None = None
        self._surroundings: Surroundings | None = None
        self._out_of_memory = False
        self._stopping = False
        self._killed: asyncio.Task[None] | None = None

    def _event(self, kind: str, reason: str, message: str) -> None:
        self._place.recorder.pod(self._place.pod, kind, reason, message, self._spec["name"])

    async def run(self, policy: str) -> None:
        """Returns when it has ended and is not to be started again."""
        ended = self.status.state.get("terminated")  # before a restart of the agent
        if ended is not None and not statuses.restarts(policy, ended["exitCode"]):
            return
        try:
            await self._run(policy)
        finally:
            if self._running is not None:
                self._running.kill()

    async def _run(self, policy: str) -> None:
        while not self._stopping:
            image = await self._pull()
            started = await self._start(image)
            code = await self._live() if started else _START_ERROR
            self._place.changed()
            if self._stopping or not statuses.restarts(policy, code):
                return
            if not started:
                # A kubelet says this at its next look at its containers, a second later.
                self.status.wait("RunContainerError", self.status.state["terminated"]["message"])
                self._place.changed()
                await self._place.wait(1)
            await self._back_off()
            self.status.restarts += 1

    async def _back_off(self) -> None:
        wait = self._crashes.after_failure(self._place.clock)
        if not wait:
            return
        metadata = self._place.pod["metadata"]
        pod = f"{metadata['name']}_{metadata['namespace']}({metadata['uid']})"
        name = self._spec["name"]
        self.status.wait(
            "CrashLoopBackOff",
            f"back-off {duration(wait)} restarting failed container={name} pod={pod}",
        )
        self._event(
            "Warning", "BackOff", f"Back-off restarting failed container {name} in pod {pod}"
        )
        self._place.changed()
        await self._place.wait(wait)

    # Image

    async def _pull(self) -> Image:
        reference = self._spec["image"]
        while True:
            found = images.find(self._place.settings.images, reference)
            if found is not None and self.status.restarts:
                return found
            self._event("Normal", "Pulling", f'Pulling image "{reference}"')
            if found is not None:
                await self._place.wait(found.pull_seconds)
                self._event("Normal", "Pulled", f'Successfully pulled image "{reference}"')
                return found
            error = images.not_found(reference)
            self._event("Warning", "Failed", f'Failed to pull image "{reference}": {error}')
            self._event("Warning", "Failed", "Error: ErrImagePull")
            self.status.wait("ErrImagePull", error)
            self._place.changed()
            # The second try finds the back-off of the first: a kubelet's pulls never go unpunished.
            wait = self._pulls.after_failure(self._place.clock)
            wait = wait or self._pulls.after_failure(self._place.clock)
            await self._place.wait(min(2.0, wait))
            self._event("Normal", "BackOff", f'Back-off pulling image "{reference}"')
            self._event("Warning", "Failed", "Error: ImagePullBackOff")
            self.status.wait(
                "ImagePullBackOff", f'Back-off pulling image "{reference}": ErrImagePull: {error}'
            )
            self._place.changed()
            await self._place.wait(wait - min(2.0, wait))

    # Start

    async def _start(self, image: Image) -> bool:
        """Whether its process runs; where it does not, its state says why."""
        variables, substitute = await self._prepared(image)
        given = self._spec.get("command") or list(image.entrypoint)
        argv = [
            substitute(expand(part, variables))
            for part in [*given, *(self._spec.get("args") or [])]
        ]

        def resolve(command: list[str]) -> list[str]:
            return resolved(command, image, variables["PATH"], self._place.address)

        directory = self._place.directory
        if "workingDir" in self._spec:
            directory = Path(substitute(self._spec["workingDir"]))
        identifier = f"process://{uuid.uuid4().hex}"
        self._message_file.unlink(missing_ok=True)
        try:
            argv = resolve(argv)
        except FileNotFoundError as missing:
            message = (
                "failed to create containerd task: failed to create shim task: OCI runtime create "
                "failed: runc create failed: unable to start container process: error during "
                f'container init: exec: "{missing}": executable file not found in $PATH: unknown'
            )
            self._event("Normal", "Created", "Container created")
            self._event("Warning", "Failed", f"Error: {message}")
            self.status.identifier = identifier
            self.status.end(_START_ERROR, "StartError", message, timestamp())
            return False
        self._event("Normal", "Created", "Container created")
        log = self._place.log_name(self._spec["name"], self.status.restarts)
        self._out_of_memory = False
        self._running = self._place.runtime.start(log, argv, variables, directory)
        self._surroundings = Surroundings(
            self._spec,
            self._place.address,
            substitute,
            self._place.runtime,
            variables,
            directory,
            resolve,
        )
        self.status.run(identifier, timestamp())
        self.status.started = "startupProbe" not in self._spec
        self.status.ready = self.status.started and "readinessProbe" not in self._spec
        self._event("Normal", "Started", "Container started")
        self._place.changed()
        return True

    async def _prepared(self, image: Image) -> tuple[dict[str, str], Substitution]:
        while True:
            try:
                return await environment(self._place, self._spec, image, self._message_file)
            except Missing as missing:
                # As a kubelet: it tries again with each synchronisation of the pod.
                self.status.wait("CreateContainerConfigError", str(missing))
                self._event("Warning", "Failed", f"Error: {missing}")
                self._place.changed()
                await self._place.wait(10)

    @property
    def _message_file(self) -> Path:
        return self._place.directory / f"termination-{self._spec['name']}"

    # Life

    async def _live(self) -> int:
        running = self._running
        assert running is not None
        tasks = [asyncio.ensure_future(self._probe())]
        limit = (self._spec.get("resources") or {}).get("limits", {}).get("memory")
        if limit is not None:
            tasks.append(asyncio.ensure_future(self._watch_memory(running, quantity(limit))))
        try:
            await running.ended.wait()
        finally:
            for task in tasks:
                task.cancel()
        if self._killed is not None:
            self._killed.cancel()
            self._killed = None
        code = running.returncode
        assert code is not None
        reason = "Completed" if code == 0 else "OOMKilled" if self._out_of_memory else "Error"
        self.status.end(code, reason, self._message(code, running.log), timestamp())
        return code

    def _message(self, code: int, log: Path) -> str:
        text = ""
        with contextlib.suppress(OSError):
            text = self._message_file.read_bytes()[-_MESSAGE_BYTES:].decode(errors="replace")
        policy = self._spec.get("terminationMessagePolicy", "File")
        if not text and code and policy == "FallbackToLogsOnError":
            with contextlib.suppress(OSError):
                lines = log.read_text(errors="replace").splitlines(keepends=True)[-_LOG_LINES:]
                text = "".join(lines).encode()[-_LOG_BYTES:].decode(errors="ignore")
        return text

    async def _watch_memory(self, running: Running, limit: int) -> None:
        while True:
            if running.memory_bytes() > limit:
                self._out_of_memory = True
                running.kill()
                return
            await asyncio.sleep(_LOOK_SECONDS)

    async def _probe(self) -> None:
        if "startupProbe" in self._spec:
            async for success in self._results("startup"):
                if success:
                    break
                self._fail("startup")
        self.status.started = True
        self.status.ready = "readinessProbe" not in self._spec
        self._place.changed()
        await asyncio.gather(self._probe_readiness(), self._probe_liveness())

    async def _probe_readiness(self) -> None:
        if "readinessProbe" in self._spec:
            async for success in self._results("readiness"):
                if self.status.ready != success:
                    self.status.ready = success
                    self._place.changed()

    async def _probe_liveness(self) -> None:
        if "livenessProbe" in self._spec:
            async for success in self._results("liveness"):
                if not success:
                    self._fail("liveness")

    def _results(self, kind: str) -> Any:
        surroundings = self._surroundings
        assert surroundings is not None
        return probes.results(
            self._spec[f"{kind}Probe"],
            surroundings,
            self._place.settings.speed,
            lambda message: self._event(
                "Warning", "Unhealthy", f"{kind.capitalize()} probe failed: {message}"
            ),
        )

    def _fail(self, kind: str) -> None:
        """A probe has failed for good: the container is killed, and `run` starts it again."""
        if self._killed is None and not self._stopping:
            name = self._spec["name"]
            self._event(
                "Normal", "Killing", f"Container {name} failed {kind} probe, will be restarted"
            )
            grace = self._spec[f"{kind}Probe"].get("terminationGracePeriodSeconds")
            if grace is None:
                grace = self._place.pod["spec"].get("terminationGracePeriodSeconds", 30)
            self._killed = asyncio.ensure_future(self._kill(grace))

    # End

    async def _kill(self, grace: float) -> None:
        """The preStop hook, SIGTERM, and SIGKILL when the grace period is over."""
        running = self._running
        if running is None or running.ended.is_set():
            return
        started = self._place.clock
        hook = (self._spec.get("lifecycle") or {}).get("preStop")
        if hook and grace > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(grace / self._place.settings.speed):
                    await _or_ended(self._hook(hook), running)
        if grace > 0:
            running.terminate()
            # At least the two seconds that a kubelet leaves after a long hook.
            left = max(grace - (self._place.clock - started), 2.0)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left / self._place.settings.speed):
                    await running.ended.wait()
        running.kill()
        await running.ended.wait()

    async def _hook(self, hook: Object) -> None:
        if "sleep" in hook:
            await self._place.wait(hook["sleep"]["seconds"])
            return
        assert self._surroundings is not None
        message = await self._surroundings.act(hook, 24 * 3600)
        if message is not None:
            self._event("Warning", "FailedPreStopHook", "PreStopHook failed")

    async def stop(self, grace: float) -> None:
        """Ends it for good; returns when its process is gone."""
        self._stopping = True
        if self.status.is_running:
            self._event("Normal", "Killing", f"Stopping container {self._spec['name']}")
        self.status.ready = False
        await self._kill(grace)


async def _or_ended(hook: Coroutine[Any, Any, None], running: Running) -> None:
    """A hook, for as long as the container runs."""
    tasks = [asyncio.ensure_future(hook), asyncio.ensure_future(running.ended.wait())]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
