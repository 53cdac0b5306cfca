"""The operator's pods under the Pod Security Standard `restricted`, and what goes beyond it."""

import copy
import json
from typing import Any

import pytest

from chart.support import MATRIX, only, rendered
from localcluster import Cluster, KubectlError
from localcluster.chart import render

NAMESPACE = "restricted"
# What the standard allows; hostPath and the network's own types are not in it.
# https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted
VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}


def pod_spec(values: dict[str, Any]) -> dict[str, Any]:
    return pod_of(render(values))


def pod_of(objects: list[dict[str, Any]]) -> dict[str, Any]:
    spec: dict[str, Any] = only(objects, "Deployment")["spec"]["template"]["spec"]
    return spec


@pytest.fixture(scope="module")
def restricted(chart_cluster: Cluster) -> Cluster:
    modes = ("enforce", "warn")
    labels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in modes}
    account = {"apiVersion": "v1", "kind": "ServiceAccount"}
    objects = [
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": NAMESPACE, "labels": labels},
        },
        *(
            account | {"metadata": {"name": name, "namespace": NAMESPACE}}
            for name in ("vllm-operator", "mine", "vllm")
        ),
    ]
    for one in objects:
        chart_cluster.kubectl("apply", "--server-side", "-f", "-", input=json.dumps(one))
    return chart_cluster


def admit(cluster: Cluster, spec: dict[str, Any]) -> str:
    """Creates the pod as a dry run in the restricted namespace; returns what kubectl says."""
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "operator", "namespace": NAMESPACE},
        "spec": spec,
    }
    answer = cluster.kubectl("create", "--dry-run=server", "-f", "-", input=json.dumps(pod))
    return answer.stdout + answer.stderr


@pytest.mark.parametrize("name", MATRIX)
def test_the_pod_is_admitted_where_restricted_is_enforced(name: str, restricted: Cluster) -> None:
    said = admit(restricted, pod_of(rendered(name)))
    assert "created (server dry run)" in said
    assert "Warning" not in said


@pytest.mark.parametrize(
    "weaken",
    [
        lambda spec: spec["securityContext"].pop("runAsNonRoot"),
        lambda spec: spec["securityContext"].pop("seccompProfile"),
        lambda spec: spec["containers"][0]["securityContext"].pop("capabilities"),
        lambda spec: spec["containers"][0]["securityContext"].pop("allowPrivilegeEscalation"),
        lambda spec: spec["volumes"].append({"name": "host", "hostPath": {"path": "/"}}),
    ],
    ids=["root", "no seccomp", "capabilities", "escalation", "host path"],
)
def test_that_admission_would_notice_a_weaker_pod(weaken: Any, restricted: Cluster) -> None:
    spec = copy.deepcopy(pod_spec({}))
    weaken(spec)
    with pytest.raises(KubectlError, match="violates PodSecurity"):
        admit(restricted, spec)


@pytest.mark.parametrize("name", MATRIX)
def test_the_container_has_no_privilege_and_writes_only_to_its_temporary_folder(name: str) -> None:
    spec = pod_of(rendered(name))
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
    for container in spec["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        }
        assert not any("hostPort" in port for port in container["ports"])
        writable = [mount for mount in container["volumeMounts"] if not mount.get("readOnly")]
        assert [mount["mountPath"] for mount in writable] == ["/tmp"]
    assert all(len(set(volume) & VOLUMES) == 1 for volume in spec["volumes"])
    assert spec["volumes"][0]["emptyDir"]["sizeLimit"]
    assert spec["enableServiceLinks"] is False


def test_the_process_runs_as_65532_unless_the_platform_chooses() -> None:
    context = pod_spec({})["securityContext"]
    assert (context["runAsUser"], context["runAsGroup"], context["fsGroup"]) == (65532,) * 3
    for values in ("the platform chooses the user", "openshift"):
        chosen = pod_spec(MATRIX[values])["securityContext"]
        assert not {"runAsUser", "runAsGroup", "fsGroup"} & set(chosen)
        assert chosen["runAsNonRoot"] is True


def test_requests_and_a_memory_limit_are_set_and_both_probes_have_their_path() -> None:
    container = pod_spec({})["containers"][0]
    assert container["resources"] == {
        "requests": {"cpu": "50m", "memory": "128Mi"},
        "limits": {"memory": "512Mi"},
    }
    paths = {
        probe: container[probe]["httpGet"]["path"]
        for probe in ("startupProbe", "livenessProbe", "readinessProbe")
    }
    assert paths == {
        "startupProbe": "/healthz",
        "livenessProbe": "/healthz",
        "readinessProbe": "/readyz",
    }


def test_a_stopping_pod_has_longer_than_the_operator_takes_to_drain() -> None:
    from vllm_operator.controller.settings import OperatorSettings

    grace = pod_spec({})["terminationGracePeriodSeconds"]
    assert grace > OperatorSettings().drain_seconds
