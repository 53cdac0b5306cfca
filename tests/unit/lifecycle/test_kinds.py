"""Where kinds are served."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from vllm_operator import controller
from vllm_operator.lifecycle.kinds import BUDGETS, NODES, PODS, SERVERS, STORED

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
