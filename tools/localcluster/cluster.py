"""The local cluster, as tests, benchmarks and the demo use it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

from localcluster import binaries, nodes, packages, realnode
from localcluster.access import Access
from localcluster.agent.images import Image
from localcluster.agents import Agents
from localcluster.client import ApiError
from localcluster.controlplane import ControlPlane
from localcluster.errors import LocalClusterError, StartError
from localcluster.realnode import RealNode
from localcluster.waiting import wait_until

_COMPONENTS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kwok")
_ATTEMPTS = 3
_ADDRESS_IN_USE = "address already in use"


class Cluster(Access):
    """A control plane of its own, in a temporary directory and on free ports of 127.0.0.1.

    Used as a context manager or with `start` and `stop`. It is ready when `start` returns: the API
    server is, and the account `default` exists in the namespace `default`. Nothing that it starts
    outlives the process that started it, even when that is killed with SIGKILL.

    `manifests` (files or folders) are applied before the controller manager starts, which matters
    for CustomResourceDefinitions: its garbage collector looks for new kinds only every 30 s, and
    does not follow their owner references until then.

    `log_directory` keeps the components' logs; otherwise they are kept only when something fails.

    `node_loss_seconds` is how long a node may be silent before it is NotReady, and how long its
    pods then stay before they are evicted; Kubernetes' defaults are 50 s and 300 s.

    `real_nodes` prepares the network for `add_real_node`; see `localcluster.realnode` for what that
    needs. The API server then listens on that network instead of 127.0.0.1.

    `feature_gates` are switched on in the API server and the scheduler: what a later Kubernetes
    does by itself.
    """

    def __init__(
        self,
        audit: bool = False,
        log_directory: Path | None = None,
        kwok: bool = True,
        manifests: Sequence[Path] = (),
        node_loss_seconds: int | None = None,
        real_nodes: bool = False,
        feature_gates: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self._audit = audit
        self._log_directory = log_directory
        self._kwok = kwok
        self._manifests = tuple(manifests)
        self._node_loss_seconds = node_loss_seconds
        self._real_nodes = real_nodes
        self._feature_gates = tuple(feature_gates)

    # Life

    def start(self) -> Self:
        """Starts everything and waits until it is ready. Raises BuildError or StartError."""
        if self._running is not None:
            raise LocalClusterError("the cluster is started already")
        names = [name for name in _COMPONENTS if name != "kwok" or self._kwok]
        if self._real_nodes:
            if reason := realnode.unavailable():
                raise StartError(reason)
            packages.ensure(realnode.PACKAGES, "real nodes")
            names += ["dns", *realnode.BINARIES]
        self._binaries = binaries.ensure(*names, "kubectl")
        for _ in range(_ATTEMPTS - 1):
            try:
                return self._start()
            except StartError as error:
                # Only where a port cannot be kept while it is free, see ReservedPort.
                if _ADDRESS_IN_USE not in str(error):
                    raise
        return self._start()

    def stop(self) -> None:
        """Kills everything and removes the directory; does nothing where nothing runs."""
        running, self._running = self._running, None
        if running is not None:
            running.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if isinstance(error, Exception) and self._running is not None:
            error.add_note(f"logs of the local cluster: {self.keep_logs()}")
        self.stop()

    def _start(self) -> Self:
        self._running = ControlPlane(
            self._binaries,
            self._audit,
            self._log_directory,
            self._node_loss_seconds,
            self._real_nodes,
            self._feature_gates,
        )
        try:
            self._running.start_etcd()
            self._running.start_api_server()
            for manifest in self._manifests:
                self.kubectl("apply", "--server-side", "-f", str(manifest))
            if self._manifests:
                self.wait_for_definitions()
            self._running.start_controllers(self._kwok)
            if self._real_nodes:
                self._running.start_dns()
        except BaseException:
            self.stop()
            raise
        return self

    # Nodes

    def add_gpu_node(
        self,
        name: str,
        product: str = "NVIDIA-H100-80GB-HBM3",
        count: int = 8,
        memory_mebibytes: int | None = None,
        labels: Mapping[str, str] | None = None,
        taints: Sequence[Mapping[str, str]] = (),
        resource: str = nodes.NVIDIA_RESOURCE,
        cpu: str = "96",
        memory: str = "1Ti",
        wait: bool = True,
    ) -> None:
        """Adds a node with `count` GPUs, labelled as GPU feature discovery does; waits for Ready.

        `labels` are added and win. For a resource other than NVIDIA's whole GPUs (`amd.com/gpu`,
        `nvidia.com/mig-3g.40gb`) they are the only GPU labels. Memory in MiB is the product's where
        it is known.
        """
        gpu_labels: dict[str, str] = {}
        if resource == nodes.NVIDIA_RESOURCE:
            gpu_labels = nodes.gpu_labels(product, count, memory_mebibytes)
        all_labels = gpu_labels | dict(labels or {})
        node = nodes.node(name, all_labels, {resource: count}, cpu, memory, taints)
        self.api("POST", "/api/v1/nodes", node)
        if wait:
            self.wait_for_node(name)

    def remove_node(self, name: str, delete_pods: bool = False) -> None:
        """Deletes a node, as when its machine is gone; its pods stay behind for a while.

        The pod garbage collector takes them 40 s to a minute later; `delete_pods` takes them now.
        """
        self.api("DELETE", f"/api/v1/nodes/{name}")
        if delete_pods:
            on_node = self.api("GET", f"/api/v1/pods?fieldSelector=spec.nodeName%3D{quote(name)}")
            for pod in on_node["items"]:
                metadata = pod["metadata"]
                path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"
                self.api("DELETE", path, {"gracePeriodSeconds": 0})

    def add_agent_node(
        self,
        name: str,
        images: Sequence[Image],
        product: str = "NVIDIA-H100-80GB-HBM3",
        count: int = 8,
        speed: float = 10,
        labels: Mapping[str, str] | None = None,
    ) -> None:
        """Adds a node with GPU labels whose pods are real processes, and waits until it is Ready.

        See `localcluster.agent` for what it does and cannot do. `images` are those that can be
        pulled; `speed` divides a kubelet's waits (`agent.settings.Settings`).
        """
        all_labels = nodes.gpu_labels(product, count) | dict(labels or {})
        node = nodes.node(name, all_labels, {nodes.NVIDIA_RESOURCE: count}, "96", "1Ti")
        self.agents.add(node, images, speed)
        self.wait_for_node(name)

    def add_real_node(
        self,
        images: Sequence[Path] = (),
        product: str = "NVIDIA-H100-80GB-HBM3",
        count: int = 8,
        labels: Mapping[str, str] | None = None,
        mounts: Mapping[str, Path] | None = None,
    ) -> RealNode:
        """Adds a node with the real kubelet and waits until it is Ready; it is called node-1, -2, …

        Its GPUs are a device plugin's that are not there; `mounts` are what a container with one of
        them is given, see `localcluster.realnode.Shape`. Raises StartError.
        """
        all_labels = nodes.gpu_labels(product, count) | dict(labels or {})
        shape = realnode.Shape(
            labels=all_labels, count=count, mounts=dict(mounts or {}), images=tuple(images)
        )
        node = self._plane.add_real_node(shape)
        self.wait_for_node(node.name)
        self.wait_for_devices(node.name, nodes.NVIDIA_RESOURCE, count)
        return node

    def wait_for_devices(self, name: str, resource: str, count: int, timeout: float = 60) -> None:
        """Waits until a node has so many healthy devices."""

        def there() -> bool:
            allocatable = self.api("GET", f"/api/v1/nodes/{name}")["status"]["allocatable"]
            return bool(allocatable.get(resource) == str(count))

        wait_until(there, f"{count} {resource} on {name}", timeout)

    @property
    def real_nodes(self) -> list[RealNode]:
        """Those that `add_real_node` added."""
        return list(self._plane.real_nodes.values())

    @property
    def agents(self) -> Agents:
        """The agents of nodes that `add_agent_node` added: to pause, stop and start."""
        return self._plane.agents

    def wait_for_node(self, name: str, timeout: float = 120) -> None:
        """Waits until a node is Ready and may be scheduled to."""

        def usable() -> bool:
            try:
                return nodes.is_usable(self.api("GET", f"/api/v1/nodes/{name}"))
            except ApiError as error:
                if error.status != 404:
                    raise
                return False

        wait_until(usable, f"node {name} to be Ready", timeout)

    # Prometheus

    def start_prometheus(self, scrape_seconds: float = 1.0, target: str | None = None) -> str:
        """Starts a Prometheus that scrapes the engines of the operator's servers; its URL.

        A ``target``, ``host:port``, is scraped in their place, and says itself which pods it is.
        Its binary is built when it is first asked for. Data and port stay when it is stopped and
        started again. Raises BuildError or StartError.
        """
        binary = binaries.ensure("prometheus")["prometheus"]
        return self._plane.start_prometheus(binary, scrape_seconds, target)

    def stop_prometheus(self, kill: bool = False) -> None:
        """Ends Prometheus, at once with `kill`."""
        self._plane.processes.stop("prometheus", timeout=0 if kill else 10)

    # Faults

    def stop_controllers(self) -> None:
        """Ends the controllers for good: what a person does is stored, and nothing follows."""
        self._plane.processes.stop("kube-controller-manager")

    def start_api_server(self) -> None:
        """Starts the API server, on its former port and data, and waits until it is ready."""
        self._plane.start_api_server()

    def stop_api_server(self, kill: bool = False) -> None:
        """Ends the API server: as an upgrade does, or with `kill` as a lost machine does."""
        self._plane.stop_api_server(kill)

    def restart_api_server(self, kill: bool = False) -> None:
        """Stops the API server and starts it again; watches break, data and port stay."""
        self.stop_api_server(kill)
        self.start_api_server()
