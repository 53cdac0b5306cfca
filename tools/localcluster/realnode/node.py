"""One node: its namespaces, its components and what can happen to it."""

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from localcluster.errors import LocalClusterError, StartError
from localcluster.image_archive import Image, archive, layer
from localcluster.processes import Processes
from localcluster.realnode import cgroups, configuration
from localcluster.realnode.configuration import Files
from localcluster.realnode.network import Network
from localcluster.realnode.requirements import NAMESPACES
from localcluster.waiting import wait_until

BINARIES = (
    *("kubelet", "kube-proxy", "containerd", "containerd-shim-runc-v2", "ctr"),
    *("ptp", "host-local", "loopback", "deviceplugin", "pause"),
)
"""What a node runs, by the names of `binaries.ensure`."""

_PAUSE = "pause.tar"


@dataclass(frozen=True)
class Shape:
    """What a node has: labels, devices of an extended resource, and images (tar archives).

    Of processors and memory it claims more than this machine has, see `configuration.claimed`.

    Each container that is given a device is also given `mounts`, read-only: paths in the container
    by this machine's folders. A device plugin does that for a driver's files.
    """

    labels: Mapping[str, str] = field(default_factory=dict)
    resource: str = "nvidia.com/gpu"
    count: int = 8
    cpus: int = 64
    memory_gib: int = 1024
    mounts: Mapping[str, Path] = field(default_factory=dict)
    images: Sequence[Path] = ()


class RealNode:
    """A machine with a kubelet. `start` and `stop` are its power switch; its disk stays."""

    def __init__(
        self,
        number: int,
        shape: Shape,
        network: Network,
        binaries: Mapping[str, Path],
        directory: Path,
        logs: Path,
        kubelet_kubeconfig: Path,
        proxy_kubeconfig: Path,
    ) -> None:
        self.name = f"node-{number}"
        self.address = network.addresses.node(number)
        self._number = number
        self._shape = shape
        self._network = network
        self._binaries = binaries
        self._files = Files(directory)
        self._logs = logs
        self._kubeconfigs = kubelet_kubeconfig, proxy_kubeconfig
        self._group = cgroups.name(network.addresses.x, self.name)
        self._machine: Processes | None = None
        self._has_images = False  # they stay on its disk
        seen = [directory, logs, *binaries.values(), *shape.images, *shape.mounts.values()]
        _refuse_masked(self._files, seen)
        self._write_files()

    def start(self) -> None:
        """Starts everything but waits only for containerd. Raises StartError."""
        if self._machine is not None:
            raise LocalClusterError(f"{self.name} is started already")
        cgroups.create(self._group)
        scratch = self._files["scratch"]
        scratch.mkdir(exist_ok=True)
        self._machine = Processes(
            scratch,
            self._logs,
            within=("unshare", *NAMESPACES),
            environment=self._network.addresses.unproxied(os.environ),
        )
        try:
            self._start(self._machine)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """The power goes: every process of the node is killed. Does nothing where it is off."""
        machine, self._machine = self._machine, None
        if machine is not None:
            machine.close()
            cgroups.remove(self._group)

    def restart(self) -> None:
        """The power goes and comes back: containers are gone, images and volumes are there."""
        self.stop()
        self.start()

    def start_kubelet(self) -> None:
        """Starts the kubelet, on what it knew."""
        command = configuration.kubelet_command(
            self._binaries["kubelet"],
            self.name,
            self._files,
            self._kubeconfigs[0],
            self.address,
            self._shape.labels,
        )
        self._running.start(self._log("kubelet"), command)

    def stop_kubelet(self) -> None:
        """Kills the kubelet; containers run on, and nobody looks after them."""
        self._running.stop(self._log("kubelet"), timeout=0)

    def start_device_plugin(self) -> None:
        """Starts the device plugin, which registers itself again with every new kubelet."""
        command = [str(self._binaries["deviceplugin"]), str(self._files["devices.json"])]
        self._running.start(self._log("deviceplugin"), command)

    def stop_device_plugin(self) -> None:
        """Kills the device plugin: the node's devices are then not healthy."""
        self._running.stop(self._log("deviceplugin"), timeout=0)

    def add_image(self, image: Path) -> None:
        """Imports an image from a tar archive, Docker's or OCI's."""
        command = [*self._ctr, "--namespace", "k8s.io", "images", "import", "--local", str(image)]
        self._running.check(command, timeout=300)

    def check(self, *command: str, timeout: float = 60) -> str:
        """Runs a command inside the node, as root; its output. Raises LocalClusterError."""
        return self._running.check(list(command), timeout=timeout)

    @property
    def _ctr(self) -> list[str]:
        return [str(self._binaries["ctr"]), "--address", configuration.CONTAINERD_SOCKET]

    @property
    def _running(self) -> Processes:
        if self._machine is None:
            raise LocalClusterError(f"{self.name} is stopped")
        return self._machine

    def _log(self, component: str) -> str:
        return f"{self.name}-{component}"

    def _start(self, machine: Processes) -> None:
        first = _only_child(machine.supervisor_pid)
        self._network.connect(self._number, first)
        for command in configuration.preparation(
            self.name, self._number, self._files, self._network.addresses
        ):
            machine.check(command)
        self._start_containerd(machine)
        if not self._has_images:
            for image in (self._files[_PAUSE], *self._shape.images):
                self.add_image(image)
            self._has_images = True
        self.start_kubelet()
        self.start_device_plugin()
        proxy = [str(self._binaries["kube-proxy"]), f"--config={self._files['kube-proxy.json']}"]
        machine.start(self._log("kube-proxy"), [*proxy, f"--hostname-override={self.name}"])

    def _start_containerd(self, machine: Processes) -> None:
        shim = self._binaries["containerd-shim-runc-v2"]
        command = [
            str(self._binaries["containerd"]),
            "--config",
            str(self._files["containerd.toml"]),
        ]
        path = f"PATH={shim.parent}:{os.environ['PATH']}"
        name = self._log("containerd")
        machine.start(name, ["env", path, *command])

        def answers() -> bool:
            code = machine.poll(name)
            if code is not None:
                raise StartError(f"{name} ended with status {code}\n{machine.tail(name)}")
            return machine.run([*self._ctr, "version"])[0] == 0

        wait_until(answers, f"{name} to answer", timeout=60)

    def _write_files(self) -> None:
        files, addresses = self._files, self._network.addresses
        for folder in files.folders:
            folder.mkdir(parents=True, exist_ok=True)
        runc = shutil.which("runc")
        if runc is None:
            raise StartError("runc is not installed")
        text, plugins = configuration.text, self._binaries["ptp"].parent
        content = {
            "containerd.toml": configuration.containerd(files, runc, plugins),
            "cni/pods.conflist": text(configuration.cni(addresses.node_pods(self._number))),
            "kubelet.json": text(
                configuration.kubelet(files, self._group, cgroups.here()[0], addresses)
            ),
            "kube-proxy.json": text(configuration.kube_proxy(self._kubeconfigs[1], addresses)),
            "devices.json": text(
                configuration.device_plugin(
                    self._shape.resource, self._shape.count, self._shape.mounts
                )
            ),
            "resolv.conf": f"nameserver {addresses.host}\n",
            **configuration.claimed(os.cpu_count() or 1, self._shape.cpus, self._shape.memory_gib),
        }
        for name, written in content.items():
            files[name].parent.mkdir(parents=True, exist_ok=True)
            files[name].write_text(written)
        pause = layer({"/pause": self._binaries["pause"]})
        archive(files[_PAUSE], Image(configuration.PAUSE_IMAGE, [pause], ["/pause"]))


def _refuse_masked(files: Files, paths: Sequence[Path]) -> None:
    for mask in (*files.masks, "/run"):
        for path in paths:
            if path.resolve().is_relative_to(mask):
                raise StartError(
                    f"{path} cannot be seen in a real node, which has a {mask} of its own: keep "
                    "the checkout, XDG_CACHE_HOME and TMPDIR elsewhere"
                )


def _only_child(pid: int) -> int:
    """The first process of the namespaces that `unshare` has made, as this machine counts it."""

    def child() -> int:
        found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return int(found[0]) if found else 0

    return wait_until(child, "the node's first process", timeout=10)
