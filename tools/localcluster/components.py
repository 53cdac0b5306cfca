"""The components' command lines and files. Pure: paths and numbers in, text out."""

import base64
import ipaddress
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from localcluster.certificates import Certificates
from localcluster.processes import LOOPBACK

SERVICE_RANGE = "10.96.0.0/16"  # where nothing routes it
POD_RANGE = "10.128.0.0/9"
ISSUER = "https://kubernetes.default.svc.cluster.local"


@dataclass(frozen=True)
class Identity:
    """A line of the API server's token file."""

    user: str
    token: str
    groups: tuple[str, ...] = ()

    def line(self) -> str:
        """token,user,uid,"group,…" as --token-auth-file wants it."""
        groups = f',"{",".join(self.groups)}"' if self.groups else ""
        return f"{self.token},{self.user},{self.user}{groups}"


@dataclass(frozen=True)
class Layout:
    """Where everything of one cluster lies."""

    directory: Path
    etcd_port: int
    etcd_peer_port: int
    server_port: int
    certificates: Certificates
    token_file: Path
    audit_log: Path | None
    node_loss_seconds: int | None = None
    address: str = LOOPBACK  # where the API server listens
    services: str = SERVICE_RANGE
    feature_gates: tuple[str, ...] = ()  # of the API server and the scheduler

    @property
    def server(self) -> str:
        """The API server's URL."""
        return f"https://{self.address}:{self.server_port}"

    @property
    def service_address(self) -> str:
        """Of the Service `kubernetes`: the first of the range."""
        return first_address(self.services)


def first_address(network: str) -> str:
    """The first address of a range for a host."""
    return str(ipaddress.ip_network(network)[1])


def etcd(binary: Path, layout: Layout) -> list[str]:
    """One member; without fsync, since nothing here outlives a power cut anyway."""
    client = f"http://127.0.0.1:{layout.etcd_port}"
    peer = f"http://127.0.0.1:{layout.etcd_peer_port}"
    return [
        str(binary),
        "--name=local",
        f"--data-dir={layout.directory / 'etcd'}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=local={peer}",
        "--unsafe-no-fsync",
        "--log-level=warn",
    ]


def api_server(binary: Path, layout: Layout, audit_policy: Path) -> list[str]:
    """RBAC as on a real cluster; who may do what comes from the token file and from accounts."""
    certificates = layout.certificates
    command = [
        str(binary),
        f"--etcd-servers=http://127.0.0.1:{layout.etcd_port}",
        f"--bind-address={layout.address}",
        # Unset, it is that of the default route, and a machine without one cannot start.
        f"--advertise-address={layout.address}",
        f"--secure-port={layout.server_port}",
        f"--tls-cert-file={certificates.server_certificate}",
        f"--tls-private-key-file={certificates.server_key}",
        f"--token-auth-file={layout.token_file}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        f"--service-account-issuer={ISSUER}",
        f"--service-account-key-file={certificates.service_account_key}",
        f"--service-account-signing-key-file={certificates.service_account_key}",
        f"--service-cluster-ip-range={layout.services}",
        "--allow-privileged=true",
        # Without the two, a graceful stop waits for clients to end their watches by themselves.
        "--shutdown-send-retry-after=true",
        "--shutdown-watch-termination-grace-period=1s",
        "--profiling=false",
    ]
    if layout.address == LOOPBACK:
        # The Service `kubernetes` would want a non-loopback address of the API server.
        command.append("--endpoint-reconciler-type=none")
    else:
        # Webhooks' and aggregated servers' Services have no addresses on this machine, pods have.
        command.append("--enable-aggregator-routing=true")
        # Nor does this machine know the nodes' names.
        command.append("--kubelet-preferred-address-types=InternalIP")
    if layout.node_loss_seconds is not None:
        command += [
            f"--default-not-ready-toleration-seconds={layout.node_loss_seconds}",
            f"--default-unreachable-toleration-seconds={layout.node_loss_seconds}",
        ]
    command += gates(layout)
    if layout.audit_log is not None:
        command += [
            f"--audit-policy-file={audit_policy}",
            f"--audit-log-path={layout.audit_log}",
            "--audit-log-maxsize=100000",  # MB: never rotate, a reader reads one file
        ]
    return command


def gates(layout: Layout) -> list[str]:
    """The feature gates that are switched on, as an argument."""
    named = ",".join(f"{gate}=true" for gate in layout.feature_gates)
    return [f"--feature-gates={named}"] if named else []


def controller_manager(binary: Path, layout: Layout, kubeconfig: Path) -> list[str]:
    """All controllers, with room for a thousand objects at once."""
    loss = layout.node_loss_seconds
    return [
        str(binary),
        f"--kubeconfig={kubeconfig}",
        "--leader-elect=false",
        "--secure-port=0",
        # Each controller under its own account, as clusters run it: the audit log names it.
        "--use-service-account-credentials=true",
        f"--service-account-private-key-file={layout.certificates.service_account_key}",
        f"--root-ca-file={layout.certificates.authority}",
        # Its own is made in /usr, and stays there.
        f"--flex-volume-plugin-dir={layout.directory / 'volume-plugins'}",
        "--horizontal-pod-autoscaler-sync-period=2s",
        "--kube-api-qps=500",
        "--kube-api-burst=1000",
        # Deployments of a thousand servers settle in seconds, not minutes.
        "--concurrent-deployment-syncs=20",
        "--concurrent-replicaset-syncs=20",
        "--concurrent-gc-syncs=20",
        "--profiling=false",
        *([] if loss is None else [f"--node-monitor-grace-period={loss}s"]),
        *([] if loss is None else ["--node-monitor-period=1s"]),
    ]


def scheduler(binary: Path, layout: Layout, configuration: Path) -> list[str]:
    """The default scheduler."""
    return [str(binary), f"--config={configuration}", "--secure-port=0", *gates(layout)]


def scheduler_configuration(kubeconfig: Path) -> dict[str, Any]:
    """A file, since the client's rate has no flag; unschedulable pods are retried within 2 s."""
    return {
        "apiVersion": "kubescheduler.config.k8s.io/v1",
        "kind": "KubeSchedulerConfiguration",
        "leaderElection": {"leaderElect": False},
        "clientConnection": {"kubeconfig": str(kubeconfig), "qps": 500, "burst": 1000},
        "podInitialBackoffSeconds": 1,
        "podMaxBackoffSeconds": 2,
    }


def kwok(binary: Path, kubeconfig: Path, configuration: Path) -> list[str]:
    """The kubelets' stand-in; `configuration` holds the Stage documents."""
    return [
        str(binary),
        f"--kubeconfig={kubeconfig}",
        f"--config={configuration}",
        f"--cidr={POD_RANGE}",
        "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake",
    ]


def dns(binary: Path, corefile: Path) -> list[str]:
    """CoreDNS."""
    return [str(binary), "-conf", str(corefile)]


def prometheus(binary: Path, configuration: Path, data: Path, port: int) -> list[str]:
    """Prometheus, on loopback; it scrapes new pods after a second, not after five."""
    return [
        str(binary),
        f"--config.file={configuration}",
        f"--storage.tsdb.path={data}",
        f"--web.listen-address={LOOPBACK}:{port}",
        "--log.level=warn",
        "--scrape.discovery-reload-interval=1s",
    ]


def prometheus_configuration(
    kubeconfig: Path, scrape_seconds: float, target: str | None = None
) -> dict[str, Any]:
    """Scrapes the operator's engines, found as pods; JSON is YAML.

    Of a ``target`` in their place, ``host:port``, each series says itself of which pod it is.
    """
    milliseconds = f"{round(scrape_seconds * 1000)}ms"
    engines = _engine_pods(kubeconfig)
    if target is not None:
        engines = {"honor_labels": True, "static_configs": [{"targets": [target]}]}
    return {
        "global": {"scrape_interval": milliseconds, "scrape_timeout": milliseconds},
        "scrape_configs": [{"job_name": "engines", **engines}],
    }


def _engine_pods(kubeconfig: Path) -> dict[str, Any]:
    pod = "__meta_kubernetes_pod"
    kept = {
        f"{pod}_label_app_kubernetes_io_component": "engine",
        f"{pod}_label_app_kubernetes_io_managed_by": "vllm-operator",
        f"{pod}_container_port_name": "http",
        f"{pod}_phase": "Running",
    }
    # As the chart's PodMonitor has them.
    renamed = {
        "__meta_kubernetes_namespace": "namespace",
        f"{pod}_name": "pod",
        f"{pod}_label_vllm_operator_io_server": "server",
    }
    return {
        "kubernetes_sd_configs": [{"role": "pod", "kubeconfig_file": str(kubeconfig)}],
        "relabel_configs": [
            *(
                {"source_labels": [label], "regex": value, "action": "keep"}
                for label, value in kept.items()
            ),
            *(
                {"source_labels": [label], "target_label": target}
                for label, target in renamed.items()
            ),
        ],
    }


def kubeconfig(server: str, authority_pem: bytes, user: str, token: str, namespace: str) -> str:
    """A kubeconfig file's text, JSON being YAML; the CA goes in, so that the file may travel."""
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "localcluster",
        "clusters": [
            {
                "name": "localcluster",
                "cluster": {
                    "server": server,
                    "certificate-authority-data": base64.b64encode(authority_pem).decode(),
                },
            }
        ],
        "users": [{"name": user, "user": {"token": token}}],
        "contexts": [
            {
                "name": "localcluster",
                "context": {"cluster": "localcluster", "user": user, "namespace": namespace},
            }
        ],
    }
    return json.dumps(content, indent=2) + "\n"
