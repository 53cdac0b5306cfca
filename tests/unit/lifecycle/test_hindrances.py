"""What keeps a pod from starting: whether the end of another one of the server may free it."""

from __future__ import annotations

import re

import pytest

from vllm_operator.datafiles import rows
from vllm_operator.lifecycle.hindrances import is_freed, way_out

SCHEDULER = "0/3 nodes are available: {}. preemption: 0/3 nodes are available: {}"
VICTIMS = "3 No preemption victims found for incoming pod."


QUOTA = "exceeded quota: one, requested: pods=1, used: pods=1, limited: pods=1"
HELD_BY_PODS = [
    "3 Insufficient nvidia.com/gpu",
    "1 Insufficient memory, 2 node(s) had untolerated taint {a: b}",
    "3 Too many pods",
    "3 node(s) didn't have free ports for the requested pod ports",
    "3 node(s) didn't match pod anti-affinity rules",
    "3 node(s) didn't satisfy existing pods anti-affinity rules",
    "3 node(s) didn't match pod topology spread constraints",
    "3 node(s) exceed max volume count",
    "3 node(s) had no available disk",
    "3 node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode "
    "already in-use by another pod",
    "3 cannot allocate all claims. still not schedulable",
]
NO_NODE = [
    "3 node(s) didn't match Pod's node affinity/selector",
    "3 node(s) didn't match pod affinity rules",
    "3 node(s) didn't match the requested node name",
    "3 node(s) didn't match pod topology spread constraints (missing required label)",
    "3 node(s) didn't match Pod's required features",
    "3 node(s) didn't satisfy plugin(s) [NodeAffinity]",
    "1 node(s) had untolerated taint {a: b}, 2 node(s) were unschedulable",
    "3 node(s) had untolerated taint(s)",
    "3 node(s) had taints that the pod didn't tolerate",
    "3 node(s) had untolerated taint {node.kubernetes.io/disk-pressure: }",
    "3 node(s) had volume node affinity conflict",
    "3 node(s) didn't match PersistentVolume's node affinity",
    "3 node(s) had no available volume zone",
    "3 node(s) had untolerated taint {example.com/gpu: true}",
    "3 node(s) didn't find available persistent volumes to bind",
    "3 node(s) did not have enough free storage",
    "3 node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)",
    "pod has unbound immediate PersistentVolumeClaims",
    "3 ebs.csi.aws.com CSI driver is not installed on the node",
    "device class gpu.example.com does not exist",
]
NOT_THERE = [
    'running PreBind plugin "VolumeBinding": binding volumes: context deadline exceeded',
    "no nodes available to schedule pods",
    'persistentvolumeclaim "typo" not found',
    'persistentvolumeclaim "gone" is being deleted',
    'resourceclaim.resource.k8s.io "gpu" not found',
    "0/2 nodes are available: 2 ResourceClaim not created yet.",
    'waiting for dynamic resource controller to create the resourceclaim "qwen-gpu"',
    'storageclass.storage.k8s.io "fast" not found',
    'failed to find storage class "fast"',
]
ANYBODY_S = [
    "Scheduling is blocked due to non-empty scheduling gates",
    "0/2 nodes are available: 2 NodeUnfit: card insufficient memory.",
    "pod group is not ready, 1 minAvailable, 1 Pending",
    "",
]
VOLCANO = "0/3 nodes are unavailable: {}."
KAI = "All nodes are unavailable: {}. "
OTHERS_FREED = [
    VOLCANO.format("2 Insufficient nvidia.com/gpu, 1 node(s) had untolerated taint {a: b}"),
    "all nodes are unavailable: 1 node(s) pod number exceeded, 2 node(s) resource fit failed.",
    KAI.format(
        "1 node(s) had untolerated taint {node-role.kubernetes.io/control-plane: test}. "
        "2 node(s) didn't have enough resource: GPUs. 2 node(s) didn't have enough resource: CPUs"
    ),
]
OTHERS_NEVER = [
    VOLCANO.format("3 node(s) didn't match Pod's node affinity/selector"),
    KAI.format("2 node(s) had untolerated taint {a: b}. 1 node(s) were unschedulable"),
]
REFUSED = [
    'admission webhook "w" denied the request: no',
    f'admission webhook "w" denied the request: {QUOTA}',
    'Internal error occurred: failed calling webhook "w": connection refused',
    "pods \"q\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: x",
    'pods "q" is forbidden: violates PodSecurity "restricted:latest": runAsNonRoot != true',
    'pods "q" is forbidden: maximum cpu usage per Container is 1, but limit is 2',
    'pods "q" is forbidden: failed quota: one: must specify limits.memory for: engine',
    'pods "q" is forbidden: error looking up service account a/b: serviceaccount "b" not found',
    'pods "q" is forbidden: no PriorityClass with name high was found',
]


@pytest.mark.parametrize("reason", HELD_BY_PODS)
def test_what_another_pod_holds_is_freed_by_its_end(reason: str) -> None:
    assert is_freed("scheduling", SCHEDULER.format(reason, VICTIMS))


@pytest.mark.parametrize("reason", NO_NODE)
def test_no_pod_is_ended_for_one_that_no_node_would_take(reason: str) -> None:
    assert not is_freed("scheduling", SCHEDULER.format(reason, "3 Preemption is not helpful."))


@pytest.mark.parametrize("reason", NO_NODE)
def test_what_no_pod_s_end_helps_has_another_way_out(reason: str) -> None:
    assert way_out(SCHEDULER.format(reason, "3 Preemption is not helpful."))


@pytest.mark.parametrize("reason", HELD_BY_PODS)
def test_what_the_end_of_a_pod_frees_needs_no_other_way_out(reason: str) -> None:
    assert way_out(SCHEDULER.format(reason, VICTIMS)) == ""


@pytest.mark.parametrize(
    "reason",
    [
        "3 node(s) had volume node affinity conflict",
        "3 node(s) didn't match PersistentVolume's node affinity",
        "3 node(s) had no available volume zone",
    ],
)
def test_a_volume_out_of_the_nodes_reach_is_told_as_one_and_not_as_the_pod_s_selector(
    reason: str,
) -> None:
    told = way_out(SCHEDULER.format(reason, "3 Preemption is not helpful."))
    assert "a volume that the nodes reach" in told
    assert "nodeSelector" not in told


@pytest.mark.parametrize(
    "taint",
    [
        "node.kubernetes.io/not-ready: ",
        "node.kubernetes.io/disk-pressure: ",
        "node.cloudprovider.kubernetes.io/uninitialized: true",
        "karpenter.sh/disrupted: ",
        "ToBeDeletedByClusterAutoscaler: 1764547200",
        "node.cilium.io/agent-not-ready: true",
        "ebs.csi.aws.com/agent-not-ready: ",
        "cloud.google.com/gke-quick-remove: true",
    ],
)
def test_a_taint_of_a_node_that_is_not_ready_or_about_to_go_is_not_to_be_tolerated(
    taint: str,
) -> None:
    told = way_out(SCHEDULER.format(f"3 node(s) had untolerated taint {{{taint}}}", ""))
    assert "a node that is ready and stays" in told
    assert "spec.pod.tolerations" not in told


def test_no_pod_is_ended_for_one_that_is_larger_than_every_node() -> None:
    told = "1 Insufficient memory, 2 Insufficient nvidia.com/gpu"
    assert not is_freed("scheduling", SCHEDULER.format(told, "3 Preemption is not helpful."))
    one = "1 No preemption victims found for incoming pod, 2 Preemption is not helpful."
    assert is_freed("scheduling", SCHEDULER.format(told, one))


def test_devices_that_another_pod_claims_are_freed_though_the_scheduler_sees_no_help() -> None:
    told = "1 cannot allocate all claims, 2 Insufficient nvidia.com/gpu"
    assert is_freed("scheduling", SCHEDULER.format(told, "3 Preemption is not helpful."))


@pytest.mark.parametrize(
    "said",
    [
        "1 node(s) didn't find available persistent volumes to bind",
        "1 node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)",
    ],
)
def test_the_end_of_a_pod_helps_nothing_where_a_node_with_room_has_no_volume_for_the_claim(
    said: str,
) -> None:
    told = SCHEDULER.format(f"9 Insufficient nvidia.com/gpu, {said}", VICTIMS)
    assert not is_freed("scheduling", told)
    assert "kubectl describe pvc" in way_out(told)


def test_a_full_node_gets_room_where_another_has_what_its_own_pod_is_in_the_way_of() -> None:
    told = "9 Insufficient nvidia.com/gpu, 1 node(s) didn't match pod anti-affinity rules"
    assert is_freed("scheduling", SCHEDULER.format(told, VICTIMS))


def test_a_volume_of_the_full_node_comes_within_reach_when_the_old_pod_there_ends() -> None:
    told = "9 Insufficient nvidia.com/gpu, 1 node(s) had volume node affinity conflict"
    assert is_freed("scheduling", SCHEDULER.format(told, VICTIMS))


def test_of_nodes_that_lack_several_things_each_way_out_is_named_once() -> None:
    told = (
        "1 node(s) had untolerated taint {a: b}, 1 node(s) were unschedulable, 1 node(s) had taints"
    )
    assert way_out(SCHEDULER.format(told, "")) == (
        "add the taint to spec.pod.tolerations, or take it off a node, or uncordon a node "
        "(kubectl uncordon), or mend one that is not ready"
    )


@pytest.mark.parametrize("message", NOT_THERE)
def test_what_does_not_exist_is_freed_by_no_pod(message: str) -> None:
    assert not is_freed("scheduling", message)


@pytest.mark.parametrize("message", NOT_THERE[-4:])
def test_what_does_not_exist_has_a_way_out(message: str) -> None:
    assert way_out(message)


@pytest.mark.parametrize("message", ANYBODY_S)
def test_gates_and_other_schedulers_words_may_be_freed(message: str) -> None:
    assert is_freed("scheduling", message)


@pytest.mark.parametrize("message", OTHERS_FREED)
def test_one_node_that_another_pod_fills_is_enough_in_the_words_of_any_scheduler(
    message: str,
) -> None:
    assert is_freed("scheduling", message)


@pytest.mark.parametrize("message", OTHERS_NEVER)
def test_what_no_node_would_take_is_freed_by_no_pod_in_the_words_of_any_scheduler(
    message: str,
) -> None:
    assert not is_freed("scheduling", message)
    assert way_out(message)


def test_a_quota_is_freed_by_the_end_of_a_pod() -> None:
    assert is_freed("deployment", f'pods "q-x" is forbidden: {QUOTA}')


@pytest.mark.parametrize("message", REFUSED)
def test_what_the_api_server_refuses_for_what_it_is_is_freed_by_no_pod(message: str) -> None:
    assert not is_freed("deployment", message)


def test_a_quota_that_is_smaller_than_what_is_asked_for_is_freed_by_no_pod() -> None:
    asked = "requested: requests.nvidia.com/gpu=8, used: requests.nvidia.com/gpu=4"
    message = f"exceeded quota: gpus, {asked}, limited: requests.nvidia.com/gpu=4"
    assert not is_freed("deployment", message)
    assert is_freed("deployment", message.replace("gpu=8", "gpu=4"))


@pytest.mark.parametrize(
    "row", rows("vllm_operator.lifecycle", "hindrances.csv"), ids=lambda row: row["fragment"]
)
def test_every_row_knows_a_wording_that_no_row_before_it_knows(row: dict[str, str]) -> None:
    table = rows("vllm_operator.lifecycle", "hindrances.csv")
    before = [one for one in table[: table.index(row)] if one["seen"] == row["seen"]]
    said = [*HELD_BY_PODS, *NO_NODE, *NOT_THERE, *ANYBODY_S]
    reasons = [re.sub(r"^\d+ ", "", part) for text in said for part in text.split(", ")]
    texts = reasons if row["seen"] == "scheduling" else [*REFUSED, QUOTA]
    assert any(
        re.search(row["fragment"], text)
        and not any(re.search(one["fragment"], text) for one in before)
        for text in texts
    )
