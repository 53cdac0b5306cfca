"""The nodes themselves: what they are for would not be believed of nodes that leave something."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.support import SCRIPTED, eventually, place, ready, serve
from localcluster import Cluster
from support.world import World

ROOT = Path(__file__).parents[2]
OWNER = """
import sys
from localcluster import Cluster
cluster = Cluster(kwok=False, real_nodes=True).start()
cluster.add_real_node()
print(cluster.directory, flush=True)
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


@pytest.fixture
def other(machine: None) -> Iterator[subprocess.Popen[str]]:
    """A process of its own with a cluster of its own; its first line is the cluster's folder."""
    with subprocess.Popen(
        [sys.executable, "-c", OWNER],
        env={**os.environ, "PYTHONPATH": str(ROOT / "tools")},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield process
        process.kill()


def test_nothing_of_a_node_outlives_its_owner_even_when_that_is_killed(
    other: subprocess.Popen[str],
) -> None:
    before = links()
    assert other.stdout is not None
    directory = other.stdout.readline().strip()
    own = links() - before
    assert len(own) == 1
    assert any("kubelet" in trace for trace in traces(directory))
    other.send_signal(signal.SIGKILL)
    eventually(lambda: not traces(directory), "the processes and mounts to go")
    eventually(lambda: not own & links(), "the link to go")
    eventually(lambda: not Path(directory).exists(), "the folder to go")


def test_two_clusters_with_real_nodes_run_side_by_side(
    other: subprocess.Popen[str], world: World
) -> None:
    assert other.stdout is not None
    assert Path(other.stdout.readline().strip()).is_dir()
    serve(world)
    ready(world)
    assert len(links()) >= 2


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
