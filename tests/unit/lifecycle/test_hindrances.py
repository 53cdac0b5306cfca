"""What keeps a pod from starting: whether the end of another one of the server may free it."""

from __future__ import annotations

import pytest

from vllm_operator.lifecycle.hindrances import is_freed

SCHEDULER = "0/3 nodes are available: {}. preemption: 0/3 nodes are available: {}"
VICTIMS = "3 No preemption victims found for incoming pod."


@pytest.mark.parametrize(
    "reason",
    [
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
    ],
)
def test_what_another_pod_holds_is_freed_by_its_end(reason: str) -> None:
    assert is_freed("scheduling", SCHEDULER.format(reason, VICTIMS))


@pytest.mark.parametrize(
    "reason",
    [
        "3 node(s) didn't match Pod's node affinity/selector",
        "3 node(s) didn't match pod affinity rules",
        "3 node(s) didn't match the requested node name",
        "3 node(s) didn't match pod topology spread constraints (missing required label)",
        "3 node(s) didn't match Pod's required features",
        "3 node(s) didn't satisfy plugin(s) [NodeAffinity]",
        "1 node(s) had untolerated taint {a: b}, 2 node(s) were unschedulable",
        "3 node(s) had untolerated taint(s)",
        "3 node(s) had taints that the pod didn't tolerate",
        "3 node(s) had volume node affinity conflict",
        "3 node(s) had no available volume zone",
        "3 node(s) didn't find available persistent volumes to bind",
        "3 node(s) did not have enough free storage",
        "3 node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)",
        "pod has unbound immediate PersistentVolumeClaims",
    ],
)
def test_no_pod_is_ended_for_one_that_no_node_would_take(reason: str) -> None:
    assert not is_freed("scheduling", SCHEDULER.format(reason, "3 Preemption is not helpful."))


@pytest.mark.parametrize(
    "message",
    [
        "no nodes available to schedule pods",
        'persistentvolumeclaim "typo" not found',
        'persistentvolumeclaim "gone" is being deleted',
        'resourceclaim.resource.k8s.io "gpu" not found',
    ],
)
def test_what_does_not_exist_is_freed_by_no_pod(message: str) -> None:
    assert not is_freed("scheduling", message)


@pytest.mark.parametrize(
    "message",
    [
        "Scheduling is blocked due to non-empty scheduling gates",
        "0/2 nodes are available: 2 NodeUnfit: card insufficient memory.",
        "pod group is not ready, 1 minAvailable, 1 Pending",
        "",
    ],
)
def test_gates_and_other_schedulers_words_may_be_freed(message: str) -> None:
    assert is_freed("scheduling", message)


QUOTA = "exceeded quota: one, requested: pods=1, used: pods=1, limited: pods=1"


def test_a_quota_is_freed_by_the_end_of_a_pod() -> None:
    assert is_freed("deployment", f'pods "q-x" is forbidden: {QUOTA}')


@pytest.mark.parametrize(
    "message",
    [
        'admission webhook "w" denied the request: no',
        f'admission webhook "w" denied the request: {QUOTA}',
        'Internal error occurred: failed calling webhook "w": connection refused',
        "pods \"q\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: x",
        'pods "q" is forbidden: violates PodSecurity "restricted:latest": runAsNonRoot != true',
        'pods "q" is forbidden: maximum cpu usage per Container is 1, but limit is 2',
        'pods "q" is forbidden: failed quota: one: must specify limits.memory for: engine',
        'pods "q" is forbidden: error looking up service account a/b: serviceaccount "b" not found',
        'pods "q" is forbidden: no PriorityClass with name high was found',
    ],
)
def test_what_the_api_server_refuses_for_what_it_is_is_freed_by_no_pod(message: str) -> None:
    assert not is_freed("deployment", message)
