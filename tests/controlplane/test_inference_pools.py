"""The InferencePool that a server asks for, and what is said where there can be none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from localcluster.client import ApiError
from localcluster.cluster import Cluster
from support.fixtures import StartOperator
from support.operating import OperatorProcess
from support.world import World

DATA = Path(__file__).parent / "data"
CRDS = Path(__file__).parents[2] / "crds"
POOLS = DATA / "inferencepools.yaml"
DEFINITION = "inferencepools.inference.networking.k8s.io"
POOL = "InferencePool"
ALLOWED = {"inferencePools": {"enabled": True}}
PICKER = {"name": "picker"}
UNTOUCHED = {"somebody": "else's"}

pytestmark = pytest.mark.xdist_group("inference-pools")


def asking(**picker: Any) -> dict[str, Any]:
    return {"inferencePool": {"endpointPickerRef": {**PICKER, **picker}}}


@pytest.fixture(scope="module")
def with_pools() -> Iterator[Cluster]:
    with Cluster(manifests=[CRDS, POOLS]) as running:
        running.add_gpu_node("h100-0", count=64, cpu="512", memory="4Ti")
        yield running


@pytest.fixture
def place(with_pools: Cluster, request: pytest.FixtureRequest) -> World:
    name = f"p{abs(hash(request.node.name)) % 10**8}"
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    with_pools.api("POST", "/api/v1/namespaces", body)
    return World(with_pools, name)


@pytest.fixture
def allowed(place: World, start_operator: StartOperator) -> OperatorProcess:
    return start_operator(place, chart=ALLOWED)


def pool_of(world: World) -> dict[str, Any]:
    return dict(world.wait(lambda: world.find(POOL, "qwen"), "the InferencePool"))


def visit(world: World) -> None:
    """Have the server looked at: nobody watches its InferencePool."""
    world.patch("VLLMServer", "qwen", {"metadata": {"labels": {"visit": "please"}}})


def pods_selected(world: World, labels: dict[str, str]) -> list[str]:
    """Names of the pods with these labels, as the API server selects them."""
    selector = ",".join(f"{key}%3D{value}" for key, value in labels.items())
    path = f"{world.path('Pod')}?labelSelector={selector}"
    return sorted(pod["metadata"]["name"] for pod in world.cluster.api("GET", path)["items"])


def foreign(name: str = "qwen") -> dict[str, Any]:
    return {
        "apiVersion": "inference.networking.k8s.io/v1",
        "kind": POOL,
        "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": UNTOUCHED},
            "targetPorts": [{"number": 1}],
            "endpointPickerRef": {"name": "theirs", "port": {"number": 2}},
        },
    }


def test_a_pool_selects_the_pods_behind_the_service_and_names_the_picker(
    place: World, allowed: OperatorProcess
) -> None:
    place.apply(replicas=2, routing=asking(port=9100, failureMode="FailOpen"))
    place.wait_ready()
    place.wait_condition("Routed", "True", "Applied")
    spec = pool_of(place)["spec"]
    assert spec["targetPorts"] == [{"number": 8000}]
    picker = {"name": "picker", "port": {"number": 9100}, "failureMode": "FailOpen"}
    assert picker.items() <= spec["endpointPickerRef"].items()
    behind = pods_selected(place, place.get("Service")["spec"]["selector"])
    assert pods_selected(place, spec["selector"]["matchLabels"]) == behind
    assert len(behind) == 2


def test_a_pool_is_made_and_changed_and_removed_with_the_field_and_no_pod_is_replaced(
    place: World, allowed: OperatorProcess
) -> None:
    place.apply()
    place.wait_ready()
    pods = [pod["metadata"]["uid"] for pod in place.list("Pod")]
    place.apply(routing=asking())
    place.wait_condition("Routed", "True", "Applied")
    assert pool_of(place)["spec"]["endpointPickerRef"]["port"] == {"number": 9002}
    place.apply(routing=asking(port=9003))
    place.wait(
        lambda: pool_of(place)["spec"]["endpointPickerRef"]["port"] == {"number": 9003},
        "the new port",
    )
    place.wait_condition("Routed", "True", "Applied")
    place.apply()
    place.wait(lambda: place.find(POOL, "qwen") is None, "the InferencePool to go")
    place.wait(lambda: not place.condition("Routed"), "nothing to be said of it")
    assert [pod["metadata"]["uid"] for pod in place.list("Pod")] == pods
    assert len(place.list("ControllerRevision")) == 1


def test_a_pool_goes_with_its_server(place: World, allowed: OperatorProcess) -> None:
    place.apply(routing=asking())
    place.wait_condition("Routed", "True", "Applied")
    place.delete("VLLMServer")
    place.wait(lambda: place.find(POOL, "qwen") is None, "the InferencePool to go", 60)


def test_a_pool_that_somebody_changes_is_restored_at_the_next_visit(
    place: World, allowed: OperatorProcess
) -> None:
    place.apply(routing=asking())
    place.wait_condition("Routed", "True", "Applied")
    place.wait_ready()
    place.patch(POOL, "qwen", {"spec": {"targetPorts": [{"number": 1}]}})
    visit(place)
    place.wait(lambda: pool_of(place)["spec"]["targetPorts"] == [{"number": 8000}], "our port")

    def told() -> list[str]:
        return [one["note"] for one in place.list("Event") if one["reason"] == "Repaired"]

    assert place.wait(told, "an event") == [
        "InferencePool qwen was changed by somebody else and is restored"
    ]


def test_a_settled_server_with_a_pool_is_not_written_by_an_operator_that_starts_afresh(
    place: World, allowed: OperatorProcess, start_operator: StartOperator
) -> None:
    place.apply(routing=asking())
    place.wait_condition("Routed", "True", "Applied")
    place.wait_ready()
    allowed.terminate()
    before = pool_of(place)["metadata"]["resourceVersion"], place.versions()
    again = start_operator(place, chart=ALLOWED)
    place.wait(lambda: again.metric("vllm_operator_reconciles_total") >= 1, "a visit")
    assert (pool_of(place)["metadata"]["resourceVersion"], place.versions()) == before
    assert again.metric("vllm_operator_writes_total") == 0


def test_a_pool_of_somebody_else_is_left_alone_and_the_server_serves(
    place: World, allowed: OperatorProcess
) -> None:
    theirs = place.create(POOL, foreign())
    place.apply(routing=asking())
    place.wait_ready()
    said = place.wait_condition("Routed", "False", "NameConflict")
    assert said["message"].startswith("InferencePool qwen exists and is not controlled by this")
    place.apply()
    place.wait(lambda: not place.condition("Routed"), "nothing to be said of it")
    assert place.get(POOL) == theirs


def test_a_pool_stays_as_it_is_while_its_server_is_paused(
    place: World, allowed: OperatorProcess
) -> None:
    place.apply(routing=asking())
    place.wait_condition("Routed", "True", "Applied")
    place.apply(paused=True)
    place.wait_condition("Routed", "True", "Applied")
    place.wait_condition("Progressing", "False", "Paused")
    assert place.find(POOL, "qwen") is not None
    place.apply()
    place.wait(lambda: place.find(POOL, "qwen") is None, "the InferencePool to go")


def test_without_the_right_the_condition_names_the_charts_value_and_the_server_serves(
    place: World, start_operator: StartOperator
) -> None:
    operator = start_operator(place)
    place.apply(routing=asking())
    place.wait_ready()
    said = place.wait_condition("Routed", "False", "InferencePoolForbidden")
    assert "inferencePools.enabled" in said["message"]
    assert place.find(POOL, "qwen") is None
    assert operator.returncode is None


def test_without_the_definition_the_condition_says_how_to_install_it_and_then_it_is_there(
    own_world: World, start_operator: StartOperator
) -> None:
    operator = start_operator(own_world, chart=ALLOWED)
    own_world.apply(routing=asking())
    own_world.wait_ready()
    said = own_world.wait_condition("Routed", "False", "InferencePoolMissing")
    assert "kubectl apply -f https://" in said["message"]
    assert "inferencePools.enabled" not in said["message"]
    own_world.cluster.kubectl("apply", "-f", str(POOLS))
    own_world.cluster.wait_for_definitions()
    own_world.wait_condition("Routed", "True", "Applied", timeout=90)
    own_world.cluster.kubectl("delete", "crd", DEFINITION)
    visit(own_world)
    own_world.wait_condition("Routed", "False", "InferencePoolMissing", timeout=90)
    own_world.wait_ready()
    assert operator.returncode is None


def test_without_both_the_condition_says_both(
    own_world: World, start_operator: StartOperator
) -> None:
    start_operator(own_world)
    own_world.apply(routing=asking())
    said = own_world.wait_condition("Routed", "False", "InferencePoolMissing")
    assert "kubectl apply -f https://" in said["message"]
    assert "inferencePools.enabled" in said["message"]


def test_a_pool_without_a_picker_is_refused_with_the_fields_name(place: World) -> None:
    with pytest.raises(ApiError, match="endpointPickerRef"):
        place.apply(routing={"inferencePool": {}})
