"""A control plane for the chart's tests, one a worker, and kubeconform with its schemas."""

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from chart.support import FOREIGN_KINDS, write_schemas
from localcluster import Cluster, binaries
from localcluster.chart import NAMESPACE

# Of the release, and those that the matrix's values name.
NAMESPACES = (NAMESPACE, "team-a", "team-b")
GROUP_VERSIONS = [
    "v1",
    "apps/v1",
    "apiextensions.k8s.io/v1",
    "networking.k8s.io/v1",
    "policy/v1",
    "rbac.authorization.k8s.io/v1",
]


@pytest.fixture(scope="package")
def chart_cluster() -> Iterator[Cluster]:
    with Cluster(kwok=False) as cluster:
        for name in NAMESPACES:
            cluster.api("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
        yield cluster


@pytest.fixture(scope="package")
def kubeconform(
    chart_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[list[dict[str, Any]]], list[str]]:
    """Checks objects offline; returns kubeconform's complaints."""
    location = write_schemas(chart_cluster, tmp_path_factory.mktemp("schemas"), GROUP_VERSIONS)
    program = binaries.ensure("kubeconform")["kubeconform"]

    def check(objects: list[dict[str, Any]]) -> list[str]:
        result = subprocess.run(
            [
                *(program, "-strict", "-output", "json", "-summary"),
                *("-skip", ",".join(FOREIGN_KINDS), "-schema-location", location, "-"),
            ],
            input="\n---\n".join(json.dumps(one) for one in objects),
            capture_output=True,
            text=True,
            check=False,
        )
        report = json.loads(result.stdout)
        assert result.returncode in (0, 1), result.stderr
        skipped = sum(1 for one in objects if one["kind"] in FOREIGN_KINDS)
        problems = [f"{one['kind']}: {one['msg']}" for one in report["resources"] or []]
        if not problems:
            assert report["summary"]["valid"] == len(objects) - skipped
        return problems

    return check


@pytest.fixture(scope="session")
def helm_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("helm")
