"""helm install, upgrade and uninstall, with servers that run meanwhile."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

import pytest

from e2e.support import (
    OPERATOR,
    RELEASE,
    SCRIPTED,
    Installation,
    ask,
    eventually,
    lives,
    place,
    ready,
    serve,
)
from images.operator import operator_archive
from support.world import World
from vllm_operator.engine.versions import DEFAULT_IMAGE

ROOT = Path(__file__).parents[2]
CRD = ROOT / "crds" / "vllmservers.vllm-operator.io.yaml"
USERS = {
    "the chart's": {"runAsUser": 65532, "runAsGroup": 65532},
    "one that OpenShift chooses": {"runAsUser": 1000690000, "runAsGroup": 0},
}


@pytest.mark.parametrize("user", USERS.values(), ids=USERS)
def test_the_image_runs_as_any_user_on_a_root_that_it_may_not_write(
    installation: Installation, user: dict[str, int]
) -> None:
    cluster = installation.cluster
    name = f"image-{user['runAsUser']}"
    with place(cluster, name) as there:
        hardened = {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        }
        container = {
            "name": "operator",
            "image": f"{OPERATOR}:this",
            "imagePullPolicy": "Never",
            "args": ["crd"],
            "securityContext": hardened,
            "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
        }
        spec = {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "securityContext": {
                **user,
                "runAsNonRoot": True,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [container],
            "volumes": [{"name": "tmp", "emptyDir": {}}],
        }
        there.create("Pod", {"metadata": {"name": "once"}, "spec": spec})
        eventually(
            lambda: there.get("Pod", "once")["status"]["phase"] in ("Succeeded", "Failed"),
            "the pod to end",
        )
        log = cluster.kubectl("logs", "once", "--namespace", name).stdout
    assert log == CRD.read_text()


def test_two_replicas_are_ready_and_agree_on_which_of_them_acts(
    installation: Installation,
) -> None:
    installation.remove()
    installation.put("this", **RELEASE)
    pods = installation.pods()
    assert len(pods) == 2
    assert all(pod["status"]["containerStatuses"][0]["ready"] for pod in pods)
    assert {pod["spec"]["nodeName"] for pod in pods} == {"node-1", "node-2"}
    eventually(installation.leader, "one of them to act")


def test_another_replica_acts_when_the_leader_is_killed(
    installation: Installation, world: World
) -> None:
    leader = eventually(installation.leader, "a replica to act")
    path = f"/api/v1/namespaces/{installation.namespace}/pods/{leader}"
    world.cluster.api("DELETE", path, {"gracePeriodSeconds": 0})
    serve(world)
    ready(world)
    assert eventually(installation.leader, "another replica to act") != leader


def test_a_release_is_upgraded_from_the_commit_before_and_no_server_restarts(
    installation: Installation, world: World, tmp_path: Path
) -> None:
    before = checkout_before(tmp_path)
    image = operator_archive(f"{OPERATOR}:before", tmp_path / "before.tar", root=before)
    for node in world.cluster.real_nodes:
        node.add_image(image)
    chart = before / "charts" / "vllm-operator"
    try:
        installation.remove()
        installation.put("before", chart, defaultImage=SCRIPTED, **RELEASE)
        world.apply(rollout={"drainSeconds": 1})
        ready(world)
        running, deployment = lives(world), world.get("Deployment")
    finally:
        installation.put("this", **RELEASE)
    told = eventually(
        lambda: (
            world.condition("UpdateAvailable").get("status") == "True"
            and world.condition("UpdateAvailable")
        ),
        "the new operator to say what it would change",
    )
    assert f"image {SCRIPTED} -> {DEFAULT_IMAGE}" in told["message"]
    assert lives(world) == running
    assert world.get("Deployment")["spec"] == deployment["spec"]
    ready(world)


def test_servers_go_on_serving_when_the_operator_is_uninstalled(
    installation: Installation, world: World
) -> None:
    serve(world)
    ready(world)
    before = lives(world)
    url = f"http://qwen.{world.namespace}.svc:8000/v1/models"
    try:
        installation.remove()
        eventually(lambda: not installation.pods(), "the operator's pods to go")
        assert ask(world, url)["data"]
        assert lives(world) == before
    finally:
        installation.put("this", **RELEASE)
    ready(world)
    assert lives(world) == before


def checkout_before(folder: Path) -> Path:
    """The commit before this one, with a row more in its catalogue of GPUs than it had."""
    commit = subprocess.run(
        ["git", "-C", str(ROOT), "archive", "HEAD^"], capture_output=True, check=False
    )
    # Not skipped: what a release may not do without is shown, or it is no release.
    assert commit.returncode == 0, (
        f"this clone has no commit before, get it with its history (git fetch --unshallow): "
        f"{commit.stderr.decode().strip()}"
    )
    there = folder / "before"
    there.mkdir()
    with tarfile.open(fileobj=io.BytesIO(commit.stdout)) as tar:
        tar.extractall(there, filter="data")
    gpus = there / "operator" / "vllm_operator" / "hardware" / "gpus.csv"
    rows = gpus.read_text().splitlines()
    last = rows[-1].split(",")
    gpus.write_text("\n".join([*rows, ",".join(["Made-Up-GPU", "Made-Up-GPU", *last[2:]])]) + "\n")
    return there
