"""The nodes themselves: what they are for would not be believed of nodes that leave something."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from e2e.support import SCRIPTED, eventually, place, ready, serve
from localcluster import Cluster
from localcluster.realnode import cgroups
from localcluster.realnode.configuration import KERNEL
from support.world import World

ROOT = Path(__file__).parents[2]
STARTED = time.time()
OWNER = """
import sys
from localcluster import Cluster
cluster = Cluster(kwok=False, real_nodes=True).start()
cluster.add_real_node()
print(cluster.directory, cluster.server.split(".")[1], flush=True)
sys.stdin.read()
"""


def traces(directory: str) -> list[str]:
    """What this machine still has of a cluster: processes, mounts and links."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            mounts = (process / "mounts").read_text()
        except OSError:
            continue
        if directory in command or directory in mounts:
            found.append(f"{process.name}: {command}")
    return found


def links() -> set[str]:
    """This machine's ends of clusters' networks."""
    answer = subprocess.run(["ip", "-json", "link"], capture_output=True, text=True, check=True)
    return {
        link["ifname"] for link in json.loads(answer.stdout) if "localcluster" in link["ifname"]
    }


@dataclass(frozen=True)
class Other:
    """A process with a cluster of its own, the cluster's folder and its network's number."""

    process: subprocess.Popen[str]
    directory: str
    network: str

    @property
    def link(self) -> str:
        """This machine's end of its network."""
        return f"localcluster{self.network}"


@pytest.fixture
def other(machine: None) -> Iterator[Other]:
    """One that is up, with a node."""
    with subprocess.Popen(
        [sys.executable, "-c", OWNER],
        env={**os.environ, "PYTHONPATH": str(ROOT / "tools")},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        yield Other(process, *process.stdout.readline().split())
        process.kill()


def test_nothing_of_a_node_outlives_its_owner_even_when_that_is_killed(other: Other) -> None:
    assert other.link in links()
    assert any("kubelet" in trace for trace in traces(other.directory))
    other.process.send_signal(signal.SIGKILL)
    eventually(lambda: not traces(other.directory), "the processes and mounts to go")
    eventually(lambda: other.link not in links(), "the link to go")
    eventually(lambda: not Path(other.directory).exists(), "the folder to go")
    other.process.wait()
    group = cgroups.name(int(other.network), "node-1").replace(
        f"-{os.getpid()}-", f"-{other.process.pid}-"
    )
    cgroups.create(cgroups.name(0, "next"))  # the next start removes what is left
    cgroups.remove(cgroups.name(0, "next"))
    assert not list(Path("/sys/fs/cgroup").glob(f"**/{group}"))


def test_a_node_leaves_the_settings_and_files_of_the_machine_as_they_are(
    cluster: Cluster, other: Other
) -> None:
    assert other.link in links()  # its kubelet runs, as those of this test's cluster do
    values = {name: Path("/proc/sys", name).read_text().strip() for name in KERNEL}
    inside = cluster.real_nodes[0].check("cat", *(f"/proc/sys/{name}" for name in KERNEL))
    assert inside.split() == list(KERNEL.values())
    assert values != KERNEL, "this machine cannot tell: it has a kubelet's settings itself"
    plugins = Path("/usr/libexec/kubernetes")
    assert not plugins.exists() or plugins.stat().st_ctime < STARTED, "a node made it"


def test_two_clusters_with_real_nodes_run_side_by_side(other: Other, world: World) -> None:
    serve(world)
    ready(world)
    ours = f"localcluster{world.cluster.server.split('.')[1]}"
    assert other.link != ours
    assert {other.link, ours} <= links()


def test_a_device_plugin_that_is_gone_takes_its_devices_with_it_until_it_is_back(
    cluster: Cluster,
) -> None:
    node = cluster.real_nodes[1]
    node.stop_device_plugin()
    try:
        cluster.wait_for_devices(node.name, "nvidia.com/gpu", 0)
    finally:
        node.start_device_plugin()
    cluster.wait_for_devices(node.name, "nvidia.com/gpu", 8)
    with place(cluster, "plugin") as there:
        container = {
            "name": "look",
            "image": SCRIPTED,
            "command": ["python3", "-c", "import os; print(os.environ['NVIDIA_VISIBLE_DEVICES'])"],
            "resources": {"limits": {"nvidia.com/gpu": "8"}},
            "securityContext": {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
            },
        }
        spec = {
            "restartPolicy": "Never",
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [container],
        }
        there.create("Pod", {"metadata": {"name": "look"}, "spec": spec})
        eventually(lambda: there.get("Pod", "look")["status"]["phase"] == "Succeeded", "its end")
        log = cluster.kubectl("logs", "look", "--namespace", "plugin").stdout
        assert sorted(log.strip().split(",")) == [str(one) for one in range(8)]
