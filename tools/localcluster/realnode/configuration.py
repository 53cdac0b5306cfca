"""The configurations of a node's components, and what is done before they start. Pure."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from localcluster.realnode.network import MOST_NODES, Addresses

PAUSE_IMAGE = "localhost/pause:1"
CONTAINERD_SOCKET = "/run/containerd/containerd.sock"
DNS_DOMAIN = "cluster.local"
_RESOLVER = 'test ! -e /etc/resolv.conf || mount --bind "$0" /etc/resolv.conf'


@dataclass(frozen=True)
class Files:
    """Where a node keeps its things on this machine. They outlive a restart of the node."""

    root: Path

    @property
    def masks(self) -> dict[str, Path]:
        """What lies over this machine's own folders inside the node.

        The kubelet has its logs' and sockets' folders hard-coded, libcni its cache; /srv is for
        what tests put on the node.
        """
        return {
            "/srv": self.root / "srv",
            "/var/lib": self.root / "var-lib",
            "/var/log": self.root / "var-log",
        }

    @property
    def folders(self) -> list[Path]:
        """All that have to be there at the start."""
        lib, log = self.masks["/var/lib"], self.masks["/var/log"]
        inside = [lib / "kubelet", lib / "cni", log / "pods", log / "containers"]
        inside.append(self.masks["/srv"])
        return [*inside, self.root / "containerd", self.root / "cni"]

    def __getitem__(self, name: str) -> Path:
        return self.root / name


def claimed(real_cpus: int, cpus: int, memory_gib: int) -> dict[str, str]:
    """Files that lie over this machine's, for the kubelet: of its processors, memory and kernel.

    Servers ask for more of both than a small machine has, and would never be scheduled on it. What
    runs in the pods sees the machine as it is. Only real processors have a topology: the kubelet
    counts all of them, and binds its control groups to those whose topology it knows.
    """
    topology = {"topology/core_id": "{}\n", "topology/physical_package_id": "0\n"}
    files = {
        f"system/cpu/cpu{cpu}/{name}": text.format(cpu)
        for cpu in range(cpus)
        for name, text in (topology if cpu < real_cpus else {"claimed": ""}).items()
    }
    files |= {f"kernel/{name}": f"{value}\n" for name, value in KERNEL.items()}
    return {**files, "meminfo": f"MemTotal: {memory_gib * 2**20} kB\nSwapTotal: 0 kB\n"}


KERNEL = {
    "kernel/keys/root_maxbytes": "25000000",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
}
"""Settings of the whole machine that a kubelet writes (pkg/kubelet/cm/container_manager_linux.go,
setupKernelTunables). It finds these values inside the node, and leaves the machine as it is."""


def preparation(name: str, number: int, files: Files, addresses: Addresses) -> list[list[str]]:
    """The commands that make a node of fresh namespaces."""
    others = [one for one in range(1, MOST_NODES + 1) if one != number]
    return [
        ["hostname", name],
        *(["mount", "--bind", str(ours), theirs] for theirs, ours in files.masks.items()),
        ["mount", "--bind", str(files["system"]), "/sys/devices/system"],
        ["mount", "--bind", str(files["meminfo"]), "/proc/meminfo"],
        *(["mount", "--bind", str(files["kernel"] / one), f"/proc/sys/{one}"] for one in KERNEL),
        # A registry's name is then refused at once, where nothing leads to one.
        ["sh", "-c", _RESOLVER, str(files["resolv.conf"])],
        ["mount", "-t", "tmpfs", "tmpfs", "/run"],
        ["ip", "link", "set", "lo", "up"],
        ["ip", "address", "add", f"{addresses.node(number)}/24", "dev", "eth0"],
        ["ip", "link", "set", "eth0", "up"],
        # Services need a route, whichever: kube-proxy rewrites their addresses after the look-up.
        ["ip", "route", "add", "default", "via", addresses.host],
        *(
            ["ip", "route", "add", addresses.node_pods(one), "via", addresses.node(one)]
            for one in others
        ),
        ["sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"],
    ]


def containerd(files: Files, runc: str, plugins: Path) -> str:
    """containerd's TOML, of configuration version 3."""
    disabled = ("blockfile", "btrfs", "devmapper", "erofs", "zfs")
    return f"""version = 3
root = "{files["containerd"]}"
state = "/run/containerd"
disabled_plugins = [{", ".join(f'"io.containerd.snapshotter.v1.{one}"' for one in disabled)},
  "io.containerd.tracing.processor.v1.otlp", "io.containerd.nri.v1.nri"]
[grpc]
address = "{CONTAINERD_SOCKET}"
[plugins."io.containerd.internal.v1.opt"]
path = "{files["containerd"] / "opt"}"
[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "{PAUSE_IMAGE}"
[plugins."io.containerd.cri.v1.runtime"]
# A root without CAP_SYS_RESOURCE may not lower a process's score.
restrict_oom_score_adj = true
# Profiles are loaded into the kernel, and would stay there.
disable_apparmor = true
[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["{plugins}"]
conf_dir = "{files["cni"]}"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
BinaryName = "{runc}"
SystemdCgroup = false
"""


def cni(pods: str) -> dict[str, Any]:
    """Each pod is a host behind a link of its own, so that all its traffic passes the node's rules.

    On a bridge, that between two pods of a node would pass only with br_netfilter loaded.
    """
    addresses = {
        "type": "host-local",
        "ranges": [[{"subnet": pods}]],
        "routes": [{"dst": "0.0.0.0/0"}],
        "dataDir": "/run/cni",
    }
    plugin = {"type": "ptp", "ipMasq": False, "ipam": addresses}
    return {"cniVersion": "1.0.0", "name": "pods", "plugins": [plugin]}


def kubelet(files: Files, group: str, version: int, addresses: Addresses) -> dict[str, Any]:
    """A KubeletConfiguration; its port is in a private network, so whoever reaches it may ask."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{group}",
        **({"failCgroupV1": False} if version == 1 else {}),
        "failSwapOn": False,
        "makeIPTablesUtilChains": False,
        "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
        "authorization": {"mode": "AlwaysAllow"},
        "enforceNodeAllocatable": ["pods"],
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%"},
        # Images are imported once and may not be collected.
        "imageGCHighThresholdPercent": 100,
        "clusterDomain": DNS_DOMAIN,
        "clusterDNS": [addresses.host],
        "resolvConf": str(files["resolv.conf"]),
        # An emptyDir above its limit is seen as soon as the volumes are measured again.
        "volumeStatsAggPeriod": "5s",
        "volumePluginDir": "/var/lib/kubelet/volume-plugins",
        "nodeStatusUpdateFrequency": "2s",
        "nodeLeaseDurationSeconds": 8,
        "maxPods": 250,
    }


def kube_proxy(kubeconfig: Path, addresses: Addresses) -> dict[str, Any]:
    """A KubeProxyConfiguration; conntrack's sysctls may not be written in a namespace."""
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clusterCIDR": addresses.pods,
        "detectLocalMode": "ClusterCIDR",
        "clientConnection": {"kubeconfig": str(kubeconfig)},
        "conntrack": {
            "maxPerCore": 0,
            "min": 0,
            "tcpEstablishedTimeout": "0s",
            "tcpCloseWaitTimeout": "0s",
        },
    }


def corefile(addresses: Addresses, kubeconfig: Path) -> str:
    """CoreDNS's configuration: the cluster's names, and no others."""
    return f"""{DNS_DOMAIN}:53 {{
  bind {addresses.host}
  errors
  kubernetes {DNS_DOMAIN} {{
    kubeconfig {kubeconfig} localcluster
  }}
}}
"""


def device_plugin(resource: str, count: int, mounts: Mapping[str, Path]) -> dict[str, Any]:
    """What tools/noderuntime/deviceplugin reads."""
    return {
        "resource": resource,
        "count": count,
        "variable": "NVIDIA_VISIBLE_DEVICES",
        "mounts": {inside: str(outside) for inside, outside in mounts.items()},
    }


def kubelet_command(
    binary: Path, name: str, files: Files, kubeconfig: Path, address: str, labels: Mapping[str, str]
) -> list[str]:
    """The kubelet's command line."""
    return [
        str(binary),
        f"--config={files['kubelet.json']}",
        f"--kubeconfig={kubeconfig}",
        "--root-dir=/var/lib/kubelet",
        "--cert-dir=/var/lib/kubelet/pki",
        f"--hostname-override={name}",
        f"--node-ip={address}",
        f"--node-labels={','.join(f'{key}={value}' for key, value in labels.items())}",
    ]


def text(content: object) -> str:
    """JSON, which is YAML."""
    return json.dumps(content, indent=1) + "\n"
