"""What an agent is told when it starts: a JSON file, written by `Cluster.add_agent_node`."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from localcluster.agent.images import Image


@dataclass(frozen=True)
class Settings:
    """Of one node.

    A kubelet's waits are divided by `speed`: back-off, periods and initial delays of probes, grace,
    a preStop hook's sleep. Timeouts of probes are not, since what they wait for is real. Texts
    (`back-off 40s restarting …`) and times in statuses are as they would be.
    """

    node: dict[str, Any]  # the Node to register
    server: str  # the API server's URL
    token: str
    authority: str  # PEM file that vouches for the API server
    logs: str  # directory, outlives the agent
    volumes: str  # directory of the PersistentVolumes, shared by the cluster's agents
    images: tuple[Image, ...]
    speed: float = 1.0
    lease_seconds: float = 10.0  # between two renewals; real seconds

    @property
    def name(self) -> str:
        """The node's name."""
        name: str = self.node["metadata"]["name"]
        return name

    def write(self, path: Path) -> None:
        """To a file that only this user may read: it holds the token."""
        path.touch(mode=0o600)
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls, path: Path) -> Self:
        """What `write` wrote."""
        content = json.loads(path.read_text())
        images = tuple(Image(**image) for image in content.pop("images"))
        return cls(images=images, **content)
