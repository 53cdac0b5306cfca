"""The operator as it ships: its image's size, its time to Ready, its memory under a fleet.

On one node with the real kubelet: `helm install` of the image that this checkout makes, then many
servers, some of which run the scripted engine in real pods. Needs what `make e2e` needs.
docs/benchmarks.md says what each figure means.
"""

from __future__ import annotations

import json
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from e2e.support import OPERATOR, RESTRICTED, SCRIPTED, Installation, name_of
from images.operator import ARCHIVE, operator_archive
from images.testing import scripted_engine
from localcluster import Cluster, realnode
from localcluster.image_archive import archive
from localcluster.waiting import wait_until
from support.pods import create_namespace
from support.world import World

MODEL = {"id": "Qwen/Qwen3-0.6B"}
"""Each pod asks for a node's disk as its weights take: twenty of these fit on a small machine."""
SMALL = {"resources": {"requests": {"cpu": "10m", "memory": "32Mi"}}}
START = 1800.0


@click.command(help=__doc__)
@click.option("--servers", default=100, show_default=True, help="Servers in all.")
@click.option(
    "--running", default=20, show_default=True, help="Those that run; the others have 0 replicas."
)
def main(servers: int, running: int) -> None:
    """Measures and prints."""
    if reason := realnode.unavailable():
        sys.exit(reason)
    image = operator_archive(f"{OPERATOR}:this", ARCHIVE.with_name("e2e.tar"))
    figures: dict[str, Any] = {"image archive, MB": round(image.stat().st_size / 1e6)}
    with (
        tempfile.TemporaryDirectory() as folder,
        Cluster(kwok=False, real_nodes=True) as cluster,
    ):
        engine = archive(Path(folder, "engine.tar"), *scripted_engine(f"docker.io/{SCRIPTED}"))
        started = time.monotonic()
        node = cluster.add_real_node([image, engine], count=running)
        figures["node from nothing to Ready, s"] = round(time.monotonic() - started, 1)
        figures["image unpacked, MB"] = round(unpacked(image) / 1e6)
        installation = Installation(cluster)
        create_namespace(cluster, installation.namespace, RESTRICTED)
        started = time.monotonic()
        installation.put("this")
        figures["helm install to Ready, s"] = round(time.monotonic() - started, 1)
        figures["operator's memory with no server, MB"] = memory(cluster, node.name, installation)
        create_namespace(cluster, "fleet", RESTRICTED)
        world = World(cluster, "fleet")
        started = time.monotonic()
        for number in range(servers):
            replicas = int(number < running)
            world.apply(
                f"s{number}",
                model=MODEL,
                engine={"image": SCRIPTED},
                pod=SMALL,
                replicas=replicas,
            )
        wait_until(lambda: are_settled(world, running), "all servers to settle", START, 1.0)
        figures[f"{servers} servers, {running} of them running, to Ready, s"] = round(
            time.monotonic() - started
        )
        time.sleep(15)  # the kubelet's figures are up to ten seconds old
        figures[f"operator's memory with {servers} servers, MB"] = memory(
            cluster, node.name, installation
        )
    table = Table("figure", "value")
    for name, value in figures.items():
        table.add_row(name, str(value))
    Console().print(table)
    Path("build").mkdir(exist_ok=True)
    Path("build/installed.json").write_text(json.dumps(figures, indent=1) + "\n")


def are_settled(world: World, running: int) -> bool:
    """Whether so many servers are Ready and all others scaled to zero."""
    servers = world.list("VLLMServer")
    reasons = [
        condition["reason"]
        for server in servers
        for condition in server.get("status", {}).get("conditions", [])
        if condition["type"] == "Ready"
    ]
    wanted = {"Ready": running, "ScaledToZero": len(servers) - running}
    return all(reasons.count(reason) == count for reason, count in wanted.items())


def memory(cluster: Cluster, node: str, installation: Installation) -> float:
    """The working set of the operator's container, as the kubelet measures it, in MB."""
    summary = cluster.api("GET", f"/api/v1/nodes/{node}/proxy/stats/summary")
    ours = {name_of(pod) for pod in installation.pods()}
    (used,) = (
        container["memory"]["workingSetBytes"]
        for pod in summary["pods"]
        if pod["podRef"]["name"] in ours
        for container in pod["containers"]
    )
    return round(used / 1e6, 1)


def unpacked(image: Path) -> int:
    """Bytes of the files in an image's layers (a docker-archive)."""
    total = 0
    with tarfile.open(image) as outer:
        manifest = outer.extractfile("manifest.json")
        assert manifest is not None
        for name in json.load(manifest)[0]["Layers"]:
            layer = outer.extractfile(name)
            assert layer is not None
            with tarfile.open(fileobj=layer) as inner:
                total += sum(member.size for member in inner)
    return total


if __name__ == "__main__":
    main()
