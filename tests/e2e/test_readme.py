"""README's section on installing, run as it is written."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from e2e.support import RELEASE, Installation, eventually
from images.operator import ARCHIVE
from localcluster import Cluster, binaries
from localcluster.building import alone
from support.world import World

ROOT = Path(__file__).parents[2]
PUSH = re.compile(r"skopeo copy docker-archive:(\S+) docker://(\S+)")


def commands(section: str) -> list[str]:
    """The section's shell blocks."""
    text = (ROOT / "README.md").read_text().partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    return re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def test_what_readme_says_of_installing_works_as_it_is_written(
    installation: Installation, cluster: Cluster
) -> None:
    build, *rest = commands("Install")
    pushed = PUSH.search(build)
    assert pushed is not None, "README no longer brings the image to a registry by skopeo"
    assert ROOT / pushed[1] == ARCHIVE
    installation.remove()
    tools = cluster.directory / "readme"
    tools.mkdir()
    for name in ("helm", "kubectl"):
        (tools / name).symlink_to(binaries.ensure(name)[name])
    environment = {
        **cluster.environment,
        "KUBECONFIG": str(cluster.kubeconfig),
        "PATH": f"{tools}:{os.environ['PATH']}",
    }

    def run(script: str) -> str:
        # What the script leaves in the background (port-forward) ends with it.
        ended = subprocess.run(
            ["bash", "-euc", f"trap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n{script}"],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, f"{script}\n{ended.stderr}{installation.explain()}"
        return ended.stdout

    try:
        # There is no registry here: the nodes are given what would have been pushed to it.
        run(PUSH.sub("", build))
        for node in cluster.real_nodes:
            node.add_image(ARCHIVE)
        # README's port is this machine's: another run of these tests waits for it.
        with alone(binaries.cache_directory() / "readme.lock", "running README's commands"):
            output = "".join(run(block) for block in rest)
    finally:
        cluster.kubectl("delete", "vllm", "--all", "--namespace", "default", check=False)
        installation.helm(
            *("uninstall", installation.name, "--namespace", installation.namespace), check=False
        )
        installation.put("this", **RELEASE)
    assert "vllmserver.vllm-operator.io/qwen condition met" in output
    assert "is what a scripted engine answers" in output
    eventually(lambda: not World(cluster, "default").list("Pod"), "the server's pod to go")
