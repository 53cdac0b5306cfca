"""A real Kubernetes control plane on this machine, for tests and the demo.

etcd, kube-apiserver, kube-controller-manager and kube-scheduler are the real ones, built from their
Go modules; kwok plays the kubelets of GPU nodes that do not exist. See `Cluster`.
"""

from localcluster.client import ApiError
from localcluster.cluster import Cluster
from localcluster.errors import BuildError, KubectlError, LocalClusterError, StartError

__all__ = [
    "ApiError",
    "BuildError",
    "Cluster",
    "KubectlError",
    "LocalClusterError",
    "StartError",
]
