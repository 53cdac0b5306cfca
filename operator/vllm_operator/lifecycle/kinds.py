"""The kinds that the operator reads or writes, and where they are served: the one table of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from vllm_operator.api.base import API_VERSION, KIND, PLURAL
from vllm_operator.manifests.labels import SERVER_LABEL
from vllm_operator.manifests.render import DEPLOYMENT, LEADER_WORKER_SET


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind, where it is served, and by which label it is selected where it is watched."""

    kind: str
    api_version: str
    plural: str
    selector: str | None = None

    @property
    def root(self) -> str:
        """The path of its group and version."""
        return f"{'/apis' if '/' in self.api_version else '/api'}/{self.api_version}"

    @property
    def where(self) -> tuple[str, str, str]:
        """Group, version and plural."""
        group, _, version = self.api_version.rpartition("/")
        return group, version, self.plural

    def path(self, namespace: str | None = None, name: str | None = None, sub: str = "") -> str:
        """The path of a collection or of one object (``sub``: a subresource)."""
        inside = f"namespaces/{namespace}" if namespace else ""
        return "/".join(filter(None, (self.root, inside, self.plural, name, sub)))


SERVERS: Final = Resource(KIND, API_VERSION, PLURAL)
DEPLOYMENTS: Final = Resource(DEPLOYMENT, "apps/v1", "deployments", SERVER_LABEL)
LEADER_WORKER_SETS: Final = Resource(
    LEADER_WORKER_SET, "leaderworkerset.x-k8s.io/v1", "leaderworkersets", SERVER_LABEL
)
SERVICES: Final = Resource("Service", "v1", "services", SERVER_LABEL)
BUDGETS: Final = Resource("PodDisruptionBudget", "policy/v1", "poddisruptionbudgets", SERVER_LABEL)
REVISIONS: Final = Resource("ControllerRevision", "apps/v1", "controllerrevisions", SERVER_LABEL)
INFERENCE_POOLS: Final = Resource(
    "InferencePool", "inference.networking.k8s.io/v1", "inferencepools"
)
"""Applied where a server asks for one, and never watched: not every cluster has them, and the
operator need not be let near them."""
PODS: Final = Resource("Pod", "v1", "pods", SERVER_LABEL)
NODES: Final = Resource("Node", "v1", "nodes")
CONFIG_MAPS: Final = Resource("ConfigMap", "v1", "configmaps")
CLAIMS: Final = Resource("PersistentVolumeClaim", "v1", "persistentvolumeclaims")
EVENTS: Final = Resource("Event", "events.k8s.io/v1", "events")
JOBS: Final = Resource("Job", "batch/v1", "jobs")
"""Made by ``vllm-operator benchmark``, with the rights of its caller; never by the operator."""
CALIBRATION: Final = "vllm-operator-calibration"
"""The ConfigMap in the operator's namespace that keeps what was measured and learned."""
LEASES: Final = Resource("Lease", "coordination.k8s.io/v1", "leases")

CHILDREN: Final = (DEPLOYMENTS, LEADER_WORKER_SETS, SERVICES, BUDGETS)
"""What is applied for a server."""

STORED: Final = (SERVERS, *CHILDREN, REVISIONS, PODS)
"""What is watched and kept, in the order in which it is listed."""

BY_KIND: Final[Mapping[str, Resource]] = {one.kind: one for one in (*CHILDREN, INFERENCE_POOLS)}
