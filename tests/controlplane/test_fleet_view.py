"""The watches by which ``benchmarks/scale.py`` sees its fleet, where the API server ends them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from localcluster.cluster import Cluster
from localcluster.waiting import wait_until
from support.world import World

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))

from support_view import View  # benchmarks are scripts


@pytest.fixture
def view(world: World) -> Iterator[View]:
    with View(world.cluster, world.namespace, watch_seconds=1) as found:
        yield found


def make(cluster: Cluster, namespace: str, name: str) -> None:
    body = {"metadata": {"name": name}, "spec": {"ports": [{"port": 80}]}}
    cluster.api("POST", f"/api/v1/namespaces/{namespace}/services", body)


def remove(cluster: Cluster, namespace: str, name: str) -> None:
    cluster.api("DELETE", f"/api/v1/namespaces/{namespace}/services/{name}")


def test_a_watch_that_the_api_server_ends_goes_on(world: World, view: View) -> None:
    for number in range(3):
        before = view.resumed
        seen = view.expect(lambda number=number: set(view.services) == {f"s{number}"})
        make(world.cluster, world.namespace, f"s{number}")
        view.wait(seen, "the Service", 20)
        wait_until(lambda before=before: view.resumed >= before + 3, "three watches to end", 30)
        gone = view.expect(lambda: not view.services)
        remove(world.cluster, world.namespace, f"s{number}")
        view.wait(gone, "the Service to go", 20)


def test_changes_that_the_api_server_no_longer_has_are_found_by_a_list(
    own_cluster: Cluster,
) -> None:
    for name in ("stays", "goes"):
        make(own_cluster, "default", name)
    with View(own_cluster, "default", watch_seconds=1) as view:
        services = next(one for one in view.watches if one.path.endswith("/services"))
        assert set(view.services) == {"kubernetes", "stays", "goes"}
    remove(own_cluster, "default", "goes")
    make(own_cluster, "default", "came")
    own_cluster.restart_api_server()  # it then knows only what changed since
    services.version = "1"
    services.follow()
    assert set(view.services) == {"kubernetes", "stays", "came"}
    assert int(services.version) > 1
