"""Where kinds are served."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from vllm_operator import controller
from vllm_operator.lifecycle import kinds
from vllm_operator.lifecycle.kinds import BUDGETS, NODES, PODS, SERVERS, STORED, Resource

MODULES = sorted(Path(controller.__file__).parent.glob("*.py"))


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (NODES.path(), "/api/v1/nodes"),
        (NODES.path(None, "gpu-0"), "/api/v1/nodes/gpu-0"),
        (PODS.path("team", "qwen-0", "log"), "/api/v1/namespaces/team/pods/qwen-0/log"),
        (
            SERVERS.path("team", "qwen", "status"),
            "/apis/vllm-operator.io/v1alpha1/namespaces/team/vllmservers/qwen/status",
        ),
        (BUDGETS.path("team"), "/apis/policy/v1/namespaces/team/poddisruptionbudgets"),
    ],
)
def test_a_path_names_group_namespace_object_and_subresource(path: str, expected: str) -> None:
    assert path == expected


WHERE = {
    "VLLMServer": ("vllm-operator.io", "v1alpha1", "vllmservers"),
    "Deployment": ("apps", "v1", "deployments"),
    "LeaderWorkerSet": ("leaderworkerset.x-k8s.io", "v1", "leaderworkersets"),
    "Service": ("", "v1", "services"),
    "PodDisruptionBudget": ("policy", "v1", "poddisruptionbudgets"),
    "ControllerRevision": ("apps", "v1", "controllerrevisions"),
    "Pod": ("", "v1", "pods"),
    "Node": ("", "v1", "nodes"),
    "ConfigMap": ("", "v1", "configmaps"),
    "PersistentVolumeClaim": ("", "v1", "persistentvolumeclaims"),
    "Event": ("events.k8s.io", "v1", "events"),
    "Lease": ("coordination.k8s.io", "v1", "leases"),
    "Job": ("batch", "v1", "jobs"),
    "InferencePool": ("inference.networking.k8s.io", "v1", "inferencepools"),
}


def test_each_kind_is_asked_for_where_kubernetes_serves_it() -> None:
    known = [one for one in vars(kinds).values() if isinstance(one, Resource)]
    assert {one.kind: one.where for one in known} == WHERE


def test_group_version_and_plural_are_told_apart() -> None:
    assert PODS.where == ("", "v1", "pods")
    assert BUDGETS.where == ("policy", "v1", "poddisruptionbudgets")


def test_all_that_is_stored_but_the_servers_is_selected_by_the_servers_label() -> None:
    selected = {one.kind for one in STORED if one.selector == "vllm-operator.io/server"}
    assert selected == {one.kind for one in STORED} - {"VLLMServer"}


def test_no_other_module_says_where_a_kind_is_served() -> None:
    known = {one.plural for one in STORED}
    spelt = {
        f"{path.name}: {node.value}"
        for path in MODULES
        if path.name != "kinds.py"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and node.value in known
    }
    assert not spelt
