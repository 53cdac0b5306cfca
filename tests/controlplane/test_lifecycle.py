"""The life of a server on a real control plane."""

from __future__ import annotations

from typing import Any

import pytest

from localcluster.client import ApiError
from support.operating import OperatorProcess
from support.world import World, container, flag

PINS: list[tuple[str, Any, str, str | None]] = [
    ("maxModelLen", 8192, "--max-model-len", "8192"),
    ("maxNumSeqs", 64, "--max-num-seqs", "64"),
    ("maxNumBatchedTokens", 4096, "--max-num-batched-tokens", "4096"),
    ("gpuMemoryUtilization", 0.85, "--gpu-memory-utilization", "0.85"),
    ("dtype", "float16", "--dtype", "float16"),
    ("kvCacheDtype", "fp8", "--kv-cache-dtype", "fp8"),
    ("blockSize", 32, "--block-size", "32"),
    ("enforceEager", True, "--enforce-eager", ""),
    ("prefixCaching", False, "--no-enable-prefix-caching", ""),
    ("chunkedPrefill", True, "--enable-chunked-prefill", ""),
]


def test_a_minimal_manifest_becomes_a_ready_server(world: World, operator: OperatorProcess) -> None:
    world.apply()
    server = world.wait_ready()
    status = server["status"]
    assert status["summary"]["gpus"] == "1 x H100-80GB-HBM3"
    assert status["endpoint"] == f"http://qwen.{world.namespace}.svc:8000/v1"
    assert status["readyReplicas"] == 1
    limits = container(world.get("Deployment"))["resources"]["limits"]
    assert limits["nvidia.com/gpu"] == "1"
    assert flag(world.args(), "--tensor-parallel-size") == "1"


def test_the_server_s_metadata_is_never_written(world: World, operator: OperatorProcess) -> None:
    created = world.apply()
    ready = world.wait_ready()
    for field in ("labels", "annotations", "finalizers", "generation"):
        assert ready["metadata"].get(field) == created["metadata"].get(field)
    assert ready["spec"] == created["spec"]


@pytest.mark.parametrize(("field", "value", "name", "expected"), PINS)
def test_an_edited_pin_reaches_the_engine_s_command_line(
    world: World,
    operator: OperatorProcess,
    field: str,
    value: Any,
    name: str,
    expected: str | None,
) -> None:
    world.apply()
    world.wait_ready()
    world.apply(engine={field: value})
    world.wait(lambda: flag(world.args(), name) == expected, f"{name} {expected}")
    world.wait_ready()
    pinned = [f for f in world.status()["plan"]["flags"] if f["name"] == name]
    assert f"spec.engine.{field}" in pinned[0]["reason"]


def test_a_removed_pin_disappears_from_the_child(world: World, operator: OperatorProcess) -> None:
    world.apply(pod={"labels": {"team": "a"}, "priorityClassName": "system-node-critical"})
    world.wait_ready()
    template = world.get("Deployment")["spec"]["template"]
    assert template["metadata"]["labels"]["team"] == "a"
    assert template["spec"]["priorityClassName"] == "system-node-critical"
    world.apply()

    def gone() -> bool:
        template = world.get("Deployment")["spec"]["template"]
        return (
            "team" not in template["metadata"]["labels"]
            and "priorityClassName" not in template["spec"]
        )

    world.wait(gone, "the label and the priority class to go")


def test_an_edit_of_the_pod_keeps_the_plan(world: World, operator: OperatorProcess) -> None:
    world.apply()
    before = world.wait_ready()["status"]["plan"]
    world.apply(pod={"labels": {"team": "a"}})
    world.wait(
        lambda: "team" in world.get("Deployment")["spec"]["template"]["metadata"]["labels"],
        "the label to arrive",
    )
    assert world.wait_ready()["status"]["plan"] == before


def test_the_scale_subresource_scales_up_to_zero_and_back(
    world: World, operator: OperatorProcess
) -> None:
    world.apply()
    world.wait_ready()
    for replicas in (3, 0, 1):
        world.patch("VLLMServer", "qwen", {"spec": {"replicas": replicas}}, "scale")
        world.wait(
            lambda wanted=replicas: world.status().get("readyReplicas") == wanted,
            f"{replicas} ready replicas",
        )
        ready = world.wait_condition("Ready", "True")
        assert ready["reason"] == ("ScaledToZero" if replicas == 0 else "Ready")
    assert len(world.list("ControllerRevision")) == 1


def test_a_horizontal_pod_autoscaler_owns_the_replicas(
    world: World, operator: OperatorProcess
) -> None:
    world.apply()
    world.wait_ready()
    world.cluster.api(
        "POST",
        f"/apis/autoscaling/v2/namespaces/{world.namespace}/horizontalpodautoscalers",
        {
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": "qwen"},
            "spec": {
                "scaleTargetRef": {
                    "apiVersion": "vllm-operator.io/v1alpha1",
                    "kind": "VLLMServer",
                    "name": "qwen",
                },
                "minReplicas": 2,
                "maxReplicas": 4,
                "metrics": [
                    {
                        "type": "Resource",
                        "resource": {
                            "name": "cpu",
                            "target": {"type": "Utilization", "averageUtilization": 80},
                        },
                    }
                ],
            },
        },
    )
    world.wait(lambda: world.status().get("readyReplicas") == 2, "the minimum of 2", timeout=60)
    assert world.get("VLLMServer")["spec"]["replicas"] == 2
    assert world.get("Deployment")["spec"]["replicas"] == 2


def drifts() -> list[tuple[str, str, Any]]:
    engine = "/spec/template/spec/containers/0"
    return [
        ("image", "Deployment", [{"op": "replace", "path": f"{engine}/image", "value": "busybox"}]),
        ("argument", "Deployment", [{"op": "add", "path": f"{engine}/command/-", "value": "--x"}]),
        ("removed", "Deployment", [{"op": "remove", "path": f"{engine}/env/0"}]),
        ("label", "Deployment", {"metadata": {"labels": {"vllm-operator.io/server": "qwen2"}}}),
        (
            "template",
            "Deployment",
            {"spec": {"template": {"metadata": {"labels": {"vllm-operator.io/template": "x"}}}}},
        ),
        ("own label", "Deployment", {"metadata": {"labels": {"app.kubernetes.io/name": "x"}}}),
        ("replicas", "Deployment", {"spec": {"replicas": 5}}),
        (
            "limits",
            "Deployment",
            [
                {"op": "replace", "path": f"{engine}/resources/requests/cpu", "value": "1"},
            ],
        ),
        ("port", "Service", {"spec": {"ports": [{"port": 8000, "targetPort": 9}]}}),
        ("selector", "Service", {"spec": {"selector": {"a": "b"}}}),
    ]


@pytest.mark.parametrize(
    ("kind", "change"),
    [(kind, change) for _, kind, change in drifts()],
    ids=[d[0] for d in drifts()],
)
def test_manual_drift_of_an_owned_field_is_repaired(
    world: World, operator: OperatorProcess, kind: str, change: Any
) -> None:
    world.apply()
    world.wait_ready()
    before = world.get(kind)
    world.patch(kind, "qwen", change)

    def repaired() -> bool:
        now = world.get(kind)
        return bool(
            now["spec"] == before["spec"]
            and now["metadata"]["labels"] == before["metadata"]["labels"]
        )

    world.wait(repaired, "the repair", timeout=10)


def test_a_field_of_somebody_else_is_left_alone(world: World, operator: OperatorProcess) -> None:
    world.apply()
    world.wait_ready()
    theirs = {"metadata": {"annotations": {"mesh.example/injected": "yes"}}}
    world.patch("Deployment", "qwen", theirs)
    world.patch("VLLMServer", "qwen", {"spec": {"replicas": 2}})
    world.wait(lambda: world.get("Deployment")["spec"]["replicas"] == 2, "the scaling")
    assert world.get("Deployment")["metadata"]["annotations"]["mesh.example/injected"] == "yes"


@pytest.mark.parametrize("kind", ["Deployment", "Service", "ControllerRevision"])
def test_a_deleted_child_returns(world: World, operator: OperatorProcess, kind: str) -> None:
    world.apply()
    world.wait_ready()
    name = world.list(kind)[-1]["metadata"]["name"]
    before = world.get(kind, name)["metadata"]["uid"]
    world.delete(kind, name)

    def back() -> bool:
        found = world.find(kind, name)
        return found is not None and found["metadata"]["uid"] != before

    world.wait(back, f"{kind} {name} to return")
    world.wait_ready()


def test_the_children_of_a_deleted_server_are_collected(
    world: World, operator: OperatorProcess
) -> None:
    world.apply()
    world.wait_ready()
    world.delete("VLLMServer")
    kinds = ("Deployment", "ControllerRevision", "Pod", "ReplicaSet")
    world.wait(lambda: not any(world.list(kind) for kind in kinds), "the children to go")
    assert world.find("Service", "qwen") is None


def test_a_server_that_is_deleted_and_created_again_becomes_ready(
    world: World, operator: OperatorProcess
) -> None:
    first = world.apply()
    world.wait_ready()
    world.delete("VLLMServer")
    second = world.apply(engine={"maxNumSeqs": 32})
    assert first["metadata"]["uid"] != second["metadata"]["uid"]
    world.wait_ready()
    assert flag(world.args(), "--max-num-seqs") == "32"
    (owner,) = world.get("Deployment")["metadata"]["ownerReferences"]
    assert owner["uid"] == second["metadata"]["uid"]


def test_a_settled_server_is_written_no_more(world: World, operator: OperatorProcess) -> None:
    world.apply()
    world.wait_ready()
    world.wait(lambda: operator.metric("vllm_operator_queue_depth") == 0, "an empty queue")
    status = world.status()
    before = world.versions()
    visits = operator.metric("vllm_operator_reconciles_total")
    touch = {"metadata": {"annotations": {"somebody": "else"}}}
    for _ in range(3):
        world.patch("Deployment", "qwen", touch)
        touch["metadata"]["annotations"]["somebody"] += "!"
    world.wait(lambda: operator.metric("vllm_operator_reconciles_total") > visits, "another visit")
    after = world.versions()
    changed = {key for key in after if after[key] != before.get(key)}
    assert world.status() == status
    assert changed == {"Deployment/qwen"}  # the annotation, written by the test itself


def test_a_restarted_operator_writes_nothing(world: World, operator: OperatorProcess) -> None:
    world.apply()
    world.apply("second", engine={"maxNumSeqs": 32})
    world.wait_ready()
    world.wait_ready("second")
    before = world.versions()
    operator.kill()
    operator.start()
    world.wait(
        lambda: operator.metric("vllm_operator_reconciles_total") >= 2, "both servers' visits"
    )
    assert operator.metric("vllm_operator_writes_total") == 0
    assert world.versions() == before


def test_an_edit_made_while_the_operator_is_down_is_carried_out(
    world: World, operator: OperatorProcess
) -> None:
    world.apply()
    world.wait_ready()
    operator.kill()
    world.apply(engine={"maxNumSeqs": 48})
    world.patch("Service", "qwen", {"spec": {"selector": {"a": "b"}}})
    operator.start()
    world.wait_ready()
    assert flag(world.args(), "--max-num-seqs") == "48"
    assert "a" not in world.get("Service")["spec"]["selector"]


def test_a_paused_server_is_neither_rolled_nor_repaired(
    world: World, operator: OperatorProcess
) -> None:
    world.apply()
    world.wait_ready()
    world.apply(paused=True, engine={"maxNumSeqs": 48})
    world.wait_condition("Progressing", "False", "Paused")
    world.patch("Deployment", "qwen", {"spec": {"replicas": 2}})
    world.wait(lambda: world.status().get("readyReplicas") == 2, "the hand-scaled replica")
    assert flag(world.args(), "--max-num-seqs") != "48"
    world.apply(engine={"maxNumSeqs": 48})
    world.wait_ready()
    assert flag(world.args(), "--max-num-seqs") == "48"
    assert world.get("Deployment")["spec"]["replicas"] == 1


def test_a_stopping_operator_drains_and_ends_with_status_zero(
    world: World, operator: OperatorProcess
) -> None:
    world.apply()
    world.wait_ready()
    assert operator.terminate() == 0


def test_the_operator_has_no_right_beyond_its_chart(
    world: World, operator: OperatorProcess
) -> None:
    with pytest.raises(ApiError, match="404"):
        world.cluster.api("GET", world.path("Deployment", "nothing"))
    for verb, what in (("get", "secrets"), ("create", "pods"), ("delete", "services")):
        answer = world.cluster.kubectl(
            "auth", "can-i", verb, what, "-n", world.namespace,
            kubeconfig=operator.kubeconfig, check=False,
        )  # fmt: skip
        assert answer.stdout.strip() == "no"
