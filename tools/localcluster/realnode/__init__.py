"""Nodes with the real kubelet, beside the local control plane; Linux only, and only for root.

A node is a set of namespaces (mount, network, pid, uts, ipc) where containerd, runc, the kubelet,
kube-proxy and a device plugin run, on a bridge that lies in a network namespace of its own:

    this machine, 10.X.0.1            the API server listens here, and CoreDNS
        |
    the bridge
        |             |
    node-1            node-2          10.X.0.11, 10.X.0.12
    its pods          its pods        10.X.1.0/24, 10.X.2.0/24; Services 10.X.128.0/17

Every cluster takes an X that is free. All of it ends with the first process of each namespace, and
that ends with the process that started it, however it ended: no mount, link, route, rule or process
is left. Of control groups, empty ones are left where the owner was killed; the next start removes
them.

While it runs, whoever may use this machine may use its cluster: etcd and the kubelets ask nobody
who they are.

What it needs besides root: iproute2, nftables, runc and util-linux (`PACKAGES`), and cgroup v1
or v2. `unavailable` says what is missing.
"""

from localcluster.realnode.node import BINARIES, RealNode, Shape
from localcluster.realnode.requirements import PACKAGES, unavailable

__all__ = ["BINARIES", "PACKAGES", "RealNode", "Shape", "unavailable"]
