"""The operator's rights: exactly these, shown on the rendered roles and on a real API server."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chart.support import MATRIX, only, rendered
from localcluster import Cluster
from localcluster.chart import NAMESPACE, install_chart, render
from localcluster.waiting import wait_until

Rule = tuple[str, str, str, str]

# API group, resource, verbs. What reconciling a server takes, in its namespace.
IN_NAMESPACES = [
    ("vllm-operator.io", "vllmservers", "get list watch"),
    ("vllm-operator.io", "vllmservers/status", "patch"),
    ("vllm-operator.io", "vllmservers/finalizers", "update"),
    ("apps", "deployments", "get list watch create patch delete"),
    ("leaderworkerset.x-k8s.io", "leaderworkersets", "get list watch create patch delete"),
    ("apps", "controllerrevisions", "get list watch create delete"),
    ("", "services", "get list watch create patch"),
    ("", "pods", "get list watch"),
    ("", "pods/log", "get"),
    ("", "configmaps", "get"),
    ("", "persistentvolumeclaims", "get"),
    ("policy", "poddisruptionbudgets", "get list watch create patch delete"),
    ("events.k8s.io", "events", "create list"),
]
POOLS = [("inference.networking.k8s.io", "inferencepools", "get create patch delete")]
NODES = [("", "nodes", "get list watch")]
LEASES = [("coordination.k8s.io", "leases", "create")]
OWN_LEASE = [("coordination.k8s.io", "leases", "get update patch")]
CALIBRATION = [("", "configmaps", "create")]
OWN_CALIBRATION = [("", "configmaps", "get patch")]


def rules(role: dict[str, Any]) -> set[Rule]:
    """(group, resource, resource name or "", verb) of everything that a role allows."""
    return {
        (group, resource, name, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for name in rule.get("resourceNames", [""])
        for verb in rule["verbs"]
    }


def table(rows: list[tuple[str, str, str]], name: str = "") -> set[Rule]:
    return {
        (group, resource, name, verb) for group, resource, verbs in rows for verb in verbs.split()
    }


KEPT = table(CALIBRATION) | table(OWN_CALIBRATION, "vllm-operator-calibration")


def granted(objects: list[dict[str, Any]]) -> dict[str, set[Rule]]:
    """What the operator's account may do, by namespace; "*" is everywhere."""
    roles = {
        (one["kind"], one["metadata"].get("namespace"), one["metadata"]["name"]): one
        for one in objects
        if one["kind"] in {"Role", "ClusterRole"}
    }
    result: dict[str, set[Rule]] = {}
    for binding in objects:
        if binding["kind"] not in {"RoleBinding", "ClusterRoleBinding"}:
            continue
        assert [subject["kind"] for subject in binding["subjects"]] == ["ServiceAccount"]
        namespace = binding["metadata"].get("namespace")
        reference = binding["roleRef"]
        role = roles[
            reference["kind"], namespace if reference["kind"] == "Role" else None, reference["name"]
        ]
        result.setdefault(namespace or "*", set()).update(rules(role))
    return result


def test_an_install_for_all_namespaces_grants_exactly_these_rules() -> None:
    assert granted(render(namespace="ops")) == {
        "*": table(IN_NAMESPACES) | table(NODES),
        "ops": table(LEASES) | table(OWN_LEASE, "vllm-operator") | KEPT,
    }


def test_an_install_for_some_namespaces_grants_them_there_and_nowhere_else() -> None:
    values = {"namespaces": ["team-a", "team-b"]}
    expected = {
        "team-a": table(IN_NAMESPACES),
        "team-b": table(IN_NAMESPACES),
        "ops": table(LEASES) | table(OWN_LEASE, "vllm-operator") | KEPT,
    }
    assert granted(render(values | {"watchNodes": False}, namespace="ops")) == expected
    assert granted(render(values, namespace="ops")) == expected | {"*": table(NODES)}


def test_the_operator_may_work_in_its_own_namespace_too() -> None:
    objects = render({"namespaces": ["ops"], "watchNodes": False}, namespace="ops")
    assert granted(objects) == {
        "ops": table(IN_NAMESPACES) | table(LEASES) | table(OWN_LEASE, "vllm-operator") | KEPT
    }


def test_without_leader_election_and_calibration_nothing_is_granted_beside_it() -> None:
    values = {"leaderElection": False, "calibration": {"enabled": False}}
    assert set(granted(render(values))) == {"*"}


@pytest.mark.parametrize("namespaces", [[], ["team-a"]])
def test_inference_pools_may_be_written_where_that_is_switched_on(namespaces: list[str]) -> None:
    values = {"namespaces": namespaces, "inferencePools": {"enabled": True}}
    where = namespaces[0] if namespaces else "*"
    more = granted(render(values))[where] - granted(render({"namespaces": namespaces}))[where]
    assert more == table(POOLS)


def test_without_rbac_the_operator_is_granted_nothing() -> None:
    assert granted(render({"rbac": {"create": False}})) == {}


@pytest.mark.parametrize("name", MATRIX)
def test_no_role_holds_a_wildcard_a_secret_or_a_way_to_more_rights(name: str) -> None:
    for one in rendered(name):
        if one["kind"] not in {"Role", "ClusterRole"}:
            continue
        for group, resource, _name, verb in rules(one):
            assert "*" not in (group, resource, verb)
            assert resource.split("/")[0] != "secrets"
            assert group != "rbac.authorization.k8s.io"
            assert verb not in {"impersonate", "bind", "escalate"}
            assert resource not in {"pods/exec", "pods/attach", "serviceaccounts/token"}
            assert (resource, verb) != ("pods", "create")


@pytest.mark.parametrize("name", MATRIX)
def test_no_binding_names_a_role_that_the_chart_did_not_write(name: str) -> None:
    objects = rendered(name)
    written = {one["metadata"]["name"] for one in objects if one["kind"].endswith("Role")}
    named = {one["roleRef"]["name"] for one in objects if one["kind"].endswith("RoleBinding")}
    assert named <= written
    assert "cluster-admin" not in named


def test_releases_of_one_name_in_two_namespaces_share_no_object() -> None:
    def identities(namespace: str) -> set[tuple[str, str, str]]:
        values = {"namespaces": [f"{namespace}-team"], "crds": {"install": False}}
        return {
            (one["kind"], one["metadata"].get("namespace", ""), one["metadata"]["name"])
            for one in render(values, namespace=namespace)
        }

    assert not identities("ops-a") & identities("ops-b")


@pytest.fixture(scope="module")
def everywhere(chart_cluster: Cluster) -> Path:
    return install_chart(chart_cluster)


@pytest.fixture(scope="module")
def in_team_a(chart_cluster: Cluster) -> Iterator[Path]:
    values = {"namespaces": ["team-a"], "watchNodes": False}
    return install_chart(chart_cluster, values, release="small", namespace="small")


def allowed(cluster: Cluster, verb: str, resource: str, *arguments: str, kubeconfig: Path) -> bool:
    answer = cluster.kubectl(
        "auth", "can-i", verb, resource, *arguments, kubeconfig=kubeconfig, check=False
    )
    return answer.stdout.strip() == "yes"


@pytest.mark.parametrize(
    ("verb", "resource", "namespace", "expected"),
    [
        ("patch", "vllmservers.vllm-operator.io/status", "anywhere", True),
        ("patch", "vllmservers.vllm-operator.io", "anywhere", False),
        ("update", "vllmservers.vllm-operator.io", "anywhere", False),
        ("delete", "vllmservers.vllm-operator.io", "anywhere", False),
        ("create", "deployments.apps", "anywhere", True),
        ("delete", "deployments.apps", "anywhere", True),
        ("update", "deployments.apps", "anywhere", False),
        ("delete", "services", "anywhere", False),
        ("get", "configmaps", "anywhere", True),
        ("list", "configmaps", "anywhere", False),
        ("list", "persistentvolumeclaims", "anywhere", False),
        ("get", "secrets", "anywhere", False),
        ("create", "pods", "anywhere", False),
        ("delete", "pods", "anywhere", False),
        ("create", "pods/exec", "anywhere", False),
        ("list", "events.events.k8s.io", "anywhere", True),
        ("watch", "events.events.k8s.io", "anywhere", False),
        ("list", "events", "anywhere", False),
        ("create", "leases.coordination.k8s.io", NAMESPACE, True),
        ("get", "leases.coordination.k8s.io/vllm-operator", NAMESPACE, True),
        ("get", "leases.coordination.k8s.io/other", NAMESPACE, False),
        ("create", "leases.coordination.k8s.io", "anywhere", False),
        ("list", "nodes", "anywhere", True),
        ("patch", "nodes", "anywhere", False),
    ],
)
def test_the_api_server_agrees(
    verb: str,
    resource: str,
    namespace: str,
    expected: bool,
    chart_cluster: Cluster,
    everywhere: Path,
) -> None:
    arguments = [f"--namespace={namespace}"]
    if resource.startswith("leases") and "/" in resource:
        # kubectl reads TYPE/NAME here, and TYPE with --subresource for subresources.
        kind, name = resource.split("/")
        arguments, resource = [*arguments], f"{kind}/{name}"
    elif "/" in resource:
        resource, subresource = resource.split("/")
        arguments.append(f"--subresource={subresource}")
    assert allowed(chart_cluster, verb, resource, *arguments, kubeconfig=everywhere) == expected


def test_a_namespaced_install_sees_nothing_else(chart_cluster: Cluster, in_team_a: Path) -> None:
    def may_list(resource: str, *arguments: str) -> bool:
        return allowed(chart_cluster, "list", resource, *arguments, kubeconfig=in_team_a)

    assert may_list("vllmservers.vllm-operator.io", "--namespace=team-a")
    assert not may_list("vllmservers.vllm-operator.io", "--namespace=small")
    assert not may_list("vllmservers.vllm-operator.io", "--all-namespaces")
    assert not may_list("nodes")


@pytest.mark.parametrize(
    ("role", "may", "may_not"),
    [
        ("view", ["get", "list", "watch"], ["create", "update", "patch", "delete"]),
        ("edit", ["get", "list", "watch", "create", "update", "patch", "delete"], []),
        ("admin", ["get", "list", "watch", "create", "update", "patch", "delete"], []),
    ],
)
def test_the_clusters_user_roles_reach_servers_and_never_their_status(
    role: str, may: list[str], may_not: list[str], chart_cluster: Cluster, everywhere: Path
) -> None:
    def verbs(resource: str) -> set[str]:
        found = chart_cluster.get("clusterrole", role)["rules"] or []
        return {
            verb for _group, name, _, verb in rules({"rules": _of_ours(found)}) if name == resource
        }

    # The aggregation is the controller manager's and takes a moment.
    wait_until(lambda: set(may) <= verbs("vllmservers"), f"{role} to hold the rights on servers")
    assert not set(may_not) & verbs("vllmservers")
    assert verbs("vllmservers/status") == {"get"}
    assert verbs("vllmservers/scale") == ({"get"} if role == "view" else {"get", "update", "patch"})


def _of_ours(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [rule for rule in found if rule.get("apiGroups") == ["vllm-operator.io"]]


def test_role_names_are_the_releases_own() -> None:
    names = {
        one["metadata"]["name"] for one in render(namespace="ops") if one["kind"] == "ClusterRole"
    }
    assert names == {
        "vllm-operator-ops",
        "vllm-operator-ops-nodes",
        "vllm-operator-ops-view",
        "vllm-operator-ops-edit",
    }
    assert only(render(), "ServiceAccount")["automountServiceAccountToken"] is False
