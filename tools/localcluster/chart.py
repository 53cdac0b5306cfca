"""The operator's Helm chart on a local cluster: rendered, and what an operator needs of it applied.

The operator itself is started by whoever calls, with the kubeconfig that `install_chart` returns:
it then has the rights that the chart gives it, and no others.
"""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from localcluster import binaries
from localcluster.cluster import Cluster
from localcluster.errors import LocalClusterError

CHART = Path(__file__).resolve().parents[2] / "charts" / "vllm-operator"
RELEASE = "vllm-operator"
NAMESPACE = "vllm-operator"

# What the operator's process needs; the rest of the chart is about the pod that it runs in.
_APPLIED = (
    "CustomResourceDefinition",
    "ServiceAccount",
    "ClusterRole",
    "ClusterRoleBinding",
    "Role",
    "RoleBinding",
)


class ChartError(LocalClusterError):
    """helm refused the chart or the values; the message is what it wrote."""


def render(
    values: Mapping[str, Any] | None = None,
    *,
    release: str = RELEASE,
    namespace: str = NAMESPACE,
    kubernetes_version: str = binaries.KUBERNETES_VERSION,
) -> list[dict[str, Any]]:
    """The chart's objects for these values, in the order in which helm installs them.

    Raises ChartError, and BuildError where helm can be neither found nor built.
    """
    result = subprocess.run(
        [
            str(binaries.ensure("helm")["helm"]),
            *("template", release, str(CHART), "--namespace", namespace),
            *("--kube-version", kubernetes_version, "--values", "-"),
        ],
        input=json.dumps(values or {}),
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode != 0:
        raise ChartError(result.stderr.strip())
    documents = yaml.load_all(result.stdout, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return [document for document in documents if document]


def install_chart(
    cluster: Cluster,
    values: Mapping[str, Any] | None = None,
    *,
    release: str = RELEASE,
    namespace: str = NAMESPACE,
) -> Path:
    """Applies the chart's CRD, service account and RBAC; returns the account's kubeconfig.

    Namespaces that the values name are made where they are missing. Calling it again, with other
    values too, is an upgrade, except that objects which the new values no longer bring stay.
    """
    objects = render(values, release=release, namespace=namespace)
    applied = [one for one in objects if one["kind"] in _APPLIED]
    wanted = {namespace, *(one["metadata"].get("namespace", namespace) for one in applied)}
    for name in sorted(wanted):
        cluster.kubectl("apply", "--server-side", "-f", "-", input=_namespace(name))
    cluster.kubectl(
        *("apply", "--server-side", "--force-conflicts", "-f", "-"),
        input=json.dumps({"apiVersion": "v1", "kind": "List", "items": applied}),
    )
    cluster.wait_for_definitions()
    account = service_account(objects)
    path = cluster.directory / f"{namespace}-{account}.kubeconfig"
    return cluster.service_account_kubeconfig(namespace, account, path)


def service_account(objects: list[dict[str, Any]]) -> str:
    """The name of the service account that the rendered Deployment runs under."""
    deployment = next(one for one in objects if one["kind"] == "Deployment")
    return str(deployment["spec"]["template"]["spec"]["serviceAccountName"])


def _namespace(name: str) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
