"""One control plane's files and processes: what `Cluster` starts, and stops when it is done."""

import http.client
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from localcluster import certificates, components
from localcluster.agents import Agents
from localcluster.client import ApiClient, ApiError
from localcluster.components import Identity, Layout
from localcluster.errors import LocalClusterError, StartError
from localcluster.processes import LOOPBACK, Processes, ReservedPort
from localcluster.realnode import RealNode, Shape, configuration
from localcluster.realnode.network import MOST_NODES, Network
from localcluster.waiting import wait_until

_DATA = Path(__file__).with_name("data")
_SERVER_NAMES = ("localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc")
_GROUPS = {
    "admin": ("system:masters",),
    "kwok": ("system:masters",),
    "agent": ("system:masters",),
    # The next two have the rights that Kubernetes' own role bindings give to these user names.
    "system:kube-controller-manager": (),
    "system:kube-scheduler": (),
}
# Tokens are read when the API server starts, so those of nodes are there before the nodes.
_NODE_GROUPS = {
    "dns": ("system:masters",),
    "system:kube-proxy": (),
    **{f"system:node:node-{one}": ("system:nodes",) for one in range(1, MOST_NODES + 1)},
}
_START_TIMEOUT = 180.0
"""Seconds that a component may take to start where the machine has other work; without any the API
server takes three."""


class ControlPlane:
    """Files are made and ports taken at once; components start when they are told to."""

    def __init__(
        self,
        binaries: Mapping[str, Path],
        audit: bool,
        log_directory: Path | None,
        node_loss_seconds: int | None = None,
        networked: bool = False,
        feature_gates: Sequence[str] = (),
    ) -> None:
        directory = Path(tempfile.mkdtemp(prefix="localcluster-"))
        self._binaries = binaries
        self._kept_logs = log_directory
        logs = log_directory or directory / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        self._logs = logs
        # The network first: the API server listens on it.
        self.network = _network(directory, logs) if networked else None
        self.environment: dict[str, str] = dict(os.environ)
        address, services = LOOPBACK, components.SERVICE_RANGE
        if self.network is not None:
            addresses = self.network.addresses
            address, services = addresses.host, addresses.services
            self.environment = addresses.unproxied(os.environ)
        self.processes = Processes(directory, logs, environment=self.environment)
        self._ports = [ReservedPort(), ReservedPort(), ReservedPort(address)]
        self.layout = Layout(
            directory=directory,
            etcd_port=self._ports[0].number,
            etcd_peer_port=self._ports[1].number,
            server_port=self._ports[2].number,
            certificates=certificates.create(
                directory / "certificates",
                _SERVER_NAMES,
                [address, components.first_address(services)],
            ),
            token_file=directory / "tokens.csv",
            audit_log=directory / "audit.log" if audit else None,
            node_loss_seconds=node_loss_seconds,
            address=address,
            services=services,
            feature_gates=tuple(feature_gates),
        )
        groups = _GROUPS | (_NODE_GROUPS if networked else {})
        identities = [Identity(user, secrets.token_hex(16), its) for user, its in groups.items()]
        tokens = {one.user: one.token for one in identities}
        self.layout.token_file.touch(mode=0o600)
        self.layout.token_file.write_text("".join(f"{one.line()}\n" for one in identities))
        for identity in identities:
            self.write_kubeconfig(self.kubeconfig(identity.user), identity.user, identity.token)
        authority = self.layout.certificates.authority
        self.agents = Agents(
            self.processes,
            directory,
            logs,
            server=self.layout.server,
            token=tokens["agent"],
            authority=self.layout.certificates.authority,
            lease_seconds=10.0 if node_loss_seconds is None else node_loss_seconds / 4,
        )
        self.real_nodes: dict[str, RealNode] = {}
        self._prometheus_port: ReservedPort | None = None
        self.client = ApiClient(address, self.layout.server_port, authority, identities[0].token)

    def close(self) -> None:
        """Kills everything, removes the directory, lets go of the ports."""
        self.client.close()
        for node in self.real_nodes.values():
            node.stop()
        self.processes.close()
        if self.network is not None:
            self.network.close()
        # The supervisor has done it, unless it was killed itself.
        shutil.rmtree(self.layout.directory, ignore_errors=True)
        for port in self._ports:
            port.close()

    def kubeconfig(self, user: str) -> Path:
        """The kubeconfig of one of the built-in users."""
        name = user.removeprefix("system:").replace(":", "-")
        return self.layout.directory / f"{name}.kubeconfig"

    def write_kubeconfig(
        self, path: Path, user: str, token: str, namespace: str = "default"
    ) -> None:
        """A kubeconfig for this API server, readable only by this machine's user."""
        authority = self.layout.certificates.authority.read_bytes()
        path.touch(mode=0o600)
        path.write_text(
            components.kubeconfig(self.layout.server, authority, user, token, namespace)
        )

    def start_etcd(self) -> None:
        """Starts etcd and waits until it serves. Raises StartError, as all starts here."""
        self.processes.start("etcd", components.etcd(self._binaries["etcd"], self.layout))
        self._wait("etcd", lambda: _is_ready(self.layout.etcd_port, "/readyz"))

    def start_api_server(self) -> None:
        """Starts the API server and waits until it is ready; a second time on the same data."""
        policy = _DATA / "audit-policy.yaml"
        binary = self._binaries["kube-apiserver"]
        self.processes.start("kube-apiserver", components.api_server(binary, self.layout, policy))
        self._wait("kube-apiserver", lambda: self._answers("/readyz"))

    def stop_api_server(self, kill: bool) -> None:
        """Ends the API server, at once with `kill`."""
        self.client.close()
        self.processes.stop("kube-apiserver", timeout=0 if kill else 10)

    def start_controllers(self, kwok: bool) -> None:
        """Starts the rest; returns when the controllers have made the first service account."""
        self.processes.start(
            "kube-controller-manager",
            components.controller_manager(
                self._binaries["kube-controller-manager"],
                self.layout,
                self.kubeconfig("system:kube-controller-manager"),
            ),
        )
        configuration = self.layout.directory / "scheduler.json"
        content = components.scheduler_configuration(self.kubeconfig("system:kube-scheduler"))
        configuration.write_text(json.dumps(content))
        self.processes.start(
            "kube-scheduler",
            components.scheduler(self._binaries["kube-scheduler"], self.layout, configuration),
        )
        if kwok:
            command = components.kwok(
                self._binaries["kwok"], self.kubeconfig("kwok"), _DATA / "kwok.yaml"
            )
            self.processes.start("kwok", command)
        self._wait(
            "kube-controller-manager",
            lambda: self._answers("/api/v1/namespaces/default/serviceaccounts/default"),
        )

    def start_dns(self) -> None:
        """Starts the cluster's DNS server, on the nodes' network. Raises StartError."""
        assert self.network is not None
        corefile = self.layout.directory / "Corefile"
        corefile.write_text(configuration.corefile(self.network.addresses, self.kubeconfig("dns")))
        self.processes.start("dns", components.dns(self._binaries["dns"], corefile))

    def start_prometheus(
        self, binary: Path, scrape_seconds: float, target: str | None = None
    ) -> str:
        """Starts Prometheus, a second time on its former port and data; its URL. StartError."""
        if self._prometheus_port is None:
            self._prometheus_port = ReservedPort()
            self._ports.append(self._prometheus_port)
        port, directory = self._prometheus_port.number, self.layout.directory
        configuration = directory / "prometheus.json"
        admin = self.kubeconfig("admin")
        content = components.prometheus_configuration(admin, scrape_seconds, target)
        configuration.write_text(json.dumps(content))
        command = components.prometheus(binary, configuration, directory / "prometheus", port)
        self.processes.start("prometheus", command)
        self._wait("prometheus", lambda: _is_ready(port, "/-/ready"))
        return f"http://{LOOPBACK}:{port}"

    def add_real_node(self, shape: Shape) -> RealNode:
        """Starts one more node with the real kubelet. Raises StartError."""
        if self.network is None:
            raise LocalClusterError("the cluster was started without real_nodes=True")
        number = len(self.real_nodes) + 1
        if number > MOST_NODES:
            raise LocalClusterError(f"a cluster has at most {MOST_NODES} real nodes")
        node = RealNode(
            number,
            shape,
            self.network,
            self._binaries,
            self.layout.directory / "nodes" / str(number),
            self._logs,
            self.kubeconfig(f"system:node:node-{number}"),
            self.kubeconfig("system:kube-proxy"),
        )
        self.real_nodes[node.name] = node
        node.start()
        return node

    def keep_logs(self) -> Path:
        """Copies the logs to where they outlive the cluster; returns that directory."""
        if self._kept_logs is not None:
            return self._kept_logs
        kept = Path(tempfile.mkdtemp(prefix="localcluster-logs-"))
        shutil.copytree(self.layout.directory / "logs", kept, dirs_exist_ok=True)
        return kept

    def deaths(self) -> str:
        """A line on each component that has ended by itself: often why a call failed."""
        return "".join(
            f"\n{name} has ended with status {code}; logs: {self.keep_logs()}"
            for name, code in self.processes.dead().items()
        )

    def _wait(self, component: str, condition: Callable[[], bool]) -> None:
        def ready() -> bool:
            code = self.processes.poll(component)
            if code is not None:
                raise StartError(self._failure(component, f"ended with status {code}"))
            return condition()

        try:
            wait_until(ready, f"{component} to be ready", _START_TIMEOUT, interval=0.03)
        except TimeoutError as error:
            raise StartError(self._failure(component, str(error))) from error

    def _failure(self, component: str, what: str) -> str:
        return f"{component} {what}; logs: {self.keep_logs()}\n{self.processes.tail(component)}"

    def _answers(self, path: str) -> bool:
        try:
            self.client.request("GET", path, timeout=5)
        except (ApiError, OSError):
            return False
        return True


def _is_ready(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def _network(directory: Path, logs: Path) -> Network:
    try:
        return Network(directory / "network", logs)
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise
