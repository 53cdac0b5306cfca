"""The chart's CustomResourceDefinition: the committed one, kept through a release's life."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from chart.support import ROOT, helm, only
from localcluster import Cluster, KubectlError
from localcluster.chart import CHART, render

NAME = "vllmservers.vllm-operator.io"
COMMITTED = ROOT / "crds" / f"{NAME}.yaml"
COPY = CHART / "files" / f"{NAME}.yaml"
REGENERATE = f"cp crds/{NAME}.yaml charts/vllm-operator/files/"
SERVER = {
    "apiVersion": "vllm-operator.io/v1alpha1",
    "kind": "VLLMServer",
    "metadata": {"name": "kept", "namespace": "default"},
    "spec": {"model": {"id": "Qwen/Qwen2.5-7B-Instruct"}},
}


def test_the_charts_copy_is_the_committed_definition() -> None:
    assert COPY.read_bytes() == COMMITTED.read_bytes(), f"regenerate it: {REGENERATE}"


def test_the_chart_adds_labels_and_the_keep_policy_and_changes_nothing_else() -> None:
    rendered = only(render(), "CustomResourceDefinition")
    committed = yaml.safe_load(COPY.read_text())
    metadata = rendered.pop("metadata")
    expected = committed.pop("metadata")
    assert rendered == committed
    assert metadata.pop("annotations") == {"helm.sh/resource-policy": "keep"}
    assert metadata.pop("labels")["app.kubernetes.io/name"] == "vllm-operator"
    assert metadata == expected


def test_the_definition_can_be_left_out() -> None:
    objects = render({"crds": {"install": False}})
    assert not any(one["kind"] == "CustomResourceDefinition" for one in objects)


@pytest.fixture
def release(chart_cluster: Cluster, helm_home: Path) -> Iterator[Callable[..., str]]:
    """helm on the cluster, for one release named `life` in the namespace `life`."""
    if chart_cluster.kubectl("get", "crd", NAME, check=False).returncode == 0:
        # Another test's copy, which helm would rightly refuse to take over.
        chart_cluster.kubectl("delete", "crd", NAME)

    def run(*arguments: str) -> str:
        place = ("--namespace", "life")
        return helm(*arguments, *place, home=helm_home, kubeconfig=chart_cluster.kubeconfig).stdout

    yield run
    run("uninstall", "life", "--ignore-not-found")
    chart_cluster.kubectl("delete", "crd", NAME, "--ignore-not-found")


def test_the_definition_and_the_servers_outlive_every_turn_of_the_release(
    release: Callable[..., str], chart_cluster: Cluster
) -> None:
    def definition() -> dict[str, Any]:
        return chart_cluster.get("crd", NAME)

    release("install", "life", str(CHART), "--create-namespace")
    chart_cluster.kubectl("wait", "--for=condition=Established", f"crd/{NAME}", "--timeout=30s")
    chart_cluster.kubectl("apply", "-f", "-", input=json.dumps(SERVER))
    uid = definition()["metadata"]["uid"]

    # An older definition in the cluster is what an upgrade meets.
    older = [{"op": "remove", "path": "/spec/names/shortNames"}]
    chart_cluster.kubectl("patch", "crd", NAME, "--type=json", "--patch", json.dumps(older))
    release("upgrade", "life", str(CHART), "--set", "replicas=2", "--force-conflicts")
    assert definition()["spec"]["names"]["shortNames"] == ["vllm"]

    # Another strategy: the rollingUpdate block of the old one has to go with it.
    release("upgrade", "life", str(CHART), "--set", "leaderElection=false", "--force-conflicts")
    deployment = chart_cluster.get("deployment", "life-vllm-operator", namespace="life")
    assert deployment["spec"]["strategy"] == {"type": "Recreate"}

    release("upgrade", "life", str(CHART), "--set", "crds.install=false")
    assert definition()["metadata"]["uid"] == uid
    release("uninstall", "life")
    assert definition()["metadata"]["uid"] == uid
    assert chart_cluster.get("vllmserver", "kept", namespace="default")["spec"] is not None
    with pytest.raises(KubectlError, match="NotFound"):
        chart_cluster.get("deployment", "life-vllm-operator", namespace="life")


def test_a_second_install_takes_its_own_definition_up_again(
    release: Callable[..., str], chart_cluster: Cluster
) -> None:
    release("install", "life", str(CHART), "--create-namespace")
    release("uninstall", "life")
    assert "STATUS: deployed" in release("install", "life", str(CHART), "--create-namespace")


def test_the_notes_name_the_next_command_for_this_install(
    release: Callable[..., str], chart_cluster: Cluster
) -> None:
    chart_cluster.kubectl("create", "namespace", "notes", check=False)
    notes = release(
        *("install", "life", str(CHART), "--create-namespace"),
        *("--set", "namespaces={notes},watchNodes=false,crds.install=false"),
    )
    assert "works in the namespaces notes" in notes
    assert "kubectl apply -n notes" in notes
    assert "spec.gpu" in notes
    assert "yours to install and upgrade" in notes
