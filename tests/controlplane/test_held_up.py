"""Rollouts that something holds up: none hangs. What the end of an old pod frees goes on in place;
where that would not help, the old pod serves on, and the way out is said.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from localcluster.client import ApiError
from support.world import World

pytestmark = pytest.mark.usefixtures("operator")

AT_ONCE = {"surgeTimeoutSeconds": 0}
CREATING = {"annotations": {"localcluster.vllm-operator.io/fail": "ContainerCreating"}}
ADMISSION = "/apis/admissionregistration.k8s.io/v1"
SMALL = "Qwen/Qwen2.5-1.5B-Instruct"


def uids(world: World) -> list[str]:
    return [pod["metadata"]["uid"] for pod in world.list("Pod")]


def serve(world: World, **spec: Any) -> str:
    """A server that is ready; the uid of its pod."""
    world.apply(model={"id": SMALL}, rollout=AT_ONCE, **spec)
    world.wait_ready()
    (uid,) = uids(world)
    return uid


def edit(world: World, **spec: Any) -> None:
    world.apply(model={"id": SMALL}, rollout=AT_ONCE, **spec)


def create(world: World, resource: str, body: dict[str, Any]) -> None:
    world.cluster.api("POST", f"/api/v1/namespaces/{world.namespace}/{resource}", body)


@pytest.fixture
def node(world: World) -> Iterator[Callable[..., dict[str, str]]]:
    """Makes a node of the test's own; what selects it."""
    name = f"{world.namespace}-node"
    selector = {"test": world.namespace}

    def make(**options: Any) -> dict[str, str]:
        world.cluster.add_gpu_node(name, labels=selector, **options)
        return selector

    yield make
    for server in world.list("VLLMServer"):
        world.delete("VLLMServer", server["metadata"]["name"])
    world.cluster.remove_node(name, delete_pods=True)


# What the end of an old pod frees


def test_a_node_that_takes_no_more_pods_gets_the_new_one_in_place_of_the_old(
    world: World, node: Callable[..., dict[str, str]]
) -> None:
    here = {"nodeSelector": node(count=8)}
    full = [{"op": "replace", "path": "/status/allocatable/pods", "value": "1"}]
    path = f"/api/v1/nodes/{world.namespace}-node/status"
    world.cluster.api("PATCH", path, full, "application/json-patch+json")
    old = serve(world, pod=here)
    edit(world, pod=here, engine={"maxNumSeqs": 64})
    world.wait(lambda: len(found := uids(world)) == 1 and old not in found, "the new pod alone")
    world.wait_ready()


def test_a_volume_that_the_old_pod_has_on_another_node_comes_to_the_new_one_by_its_end(
    world: World,
) -> None:
    old = serve(world)
    holder = world.list("Pod")[0]["metadata"]["name"]
    edit(world, pod=CREATING)

    def new() -> dict[str, Any] | None:
        found = [pod for pod in world.list("Pod") if pod["metadata"]["uid"] != old]
        return found[0] if found and found[0]["status"].get("startTime") else None

    pod = world.wait(new, "the new pod to be taken up")
    metadata = pod["metadata"]
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    names = {"kind": "Pod", "apiVersion": "v1", "name": metadata["name"], "uid": metadata["uid"]}
    message = f'Multi-Attach error for volume "pvc-1" Volume is already used by pod(s) {holder}'
    event = {
        "metadata": {"generateName": "attach-"},
        "involvedObject": {**names, "namespace": world.namespace},
        "type": "Warning",
        "reason": "FailedAttachVolume",
        "message": message,
        "firstTimestamp": now,
        "lastTimestamp": now,
        "source": {"component": "attachdetach-controller"},
    }
    create(world, "events", event)
    told = world.wait_condition("Progressing", "True", "VolumeInUse", timeout=60)
    assert f"used by pod(s) {holder}" in told["message"]
    world.wait(lambda: old not in uids(world), "the old pod to go")


def gate_new_pods(world: World) -> None:
    """Give each new pod of the namespace a gate, as a queue does."""
    mutate_new_pods(
        world,
        '[JSONPatch{op: "add", path: "/spec/schedulingGates", '
        'value: [{"name": "example.com/queue"}]}]',
    )


def mutate_new_pods(world: World, expression: str) -> None:
    """Change each new pod of the namespace by a JSON patch."""
    mutation = {"patchType": "JSONPatch", "jsonPatch": {"expression": expression}}
    spec = {
        **constrained(world),
        "mutations": [mutation],
        "failurePolicy": "Fail",
        "reinvocationPolicy": "Never",
    }
    bind(world, "Mutating", spec)


def probed(world: World, **container: Any) -> dict[str, Any]:
    """The specification of a pod as the API server would make it now."""
    spec = {"containers": [{"name": "c", "image": "i", **container}]}
    body = {"metadata": {"name": "probe"}, "spec": spec}
    return dict(world.cluster.api("POST", f"{world.path('Pod')}?dryRun=All", body)["spec"])


def constrained(world: World) -> dict[str, Any]:
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"]}
    mine = {"matchLabels": {"kubernetes.io/metadata.name": world.namespace}}
    rules = [{**rule, "resources": ["pods"]}]
    return {"matchConstraints": {"resourceRules": rules, "namespaceSelector": mine}}


def bind(world: World, kind: str, spec: dict[str, Any]) -> None:
    name, base = f"{world.namespace}-held", f"{ADMISSION}/{kind.lower()}admissionpolic"
    document = {"metadata": {"name": name}, "spec": spec}
    world.cluster.api("POST", f"{base}ies", document)
    bound = {"metadata": {"name": name}, "spec": {"policyName": name}}
    world.cluster.api("POST", f"{base}ybindings", bound)


def test_a_pod_that_a_queue_holds_back_takes_the_place_of_the_old_one(world: World) -> None:
    old = serve(world)
    gate_new_pods(world)
    world.wait(lambda: probed(world).get("schedulingGates"), "the policy to be in force")
    edit(world, engine={"maxNumSeqs": 64})
    told = world.wait_condition("Progressing", "True", "SchedulingGated")
    assert "example.com/queue" in told["message"]
    world.wait(lambda: old not in uids(world), "the old pod to go")


def test_a_port_of_the_node_that_an_injected_rule_takes_comes_to_the_new_pod_by_the_old_one_s_end(
    world: World, node: Callable[..., dict[str, str]]
) -> None:
    here = {"nodeSelector": node(count=8)}
    mutate_new_pods(
        world, '[JSONPatch{op: "add", path: "/spec/containers/0/ports/0/hostPort", value: 18080}]'
    )
    world.wait(
        lambda: (
            "hostPort" in probed(world, ports=[{"containerPort": 1}])["containers"][0]["ports"][0]
        ),
        "the policy to be in force",
    )
    old = serve(world, pod=here)
    edit(world, pod=here, engine={"maxNumSeqs": 64})
    waits_for_the_end_of(world, old, "didn't have free ports for the requested pod ports")


def test_a_spread_that_the_old_pod_stands_in_the_way_of_goes_on_in_its_place(
    world: World, node: Callable[..., dict[str, str]]
) -> None:
    selector = node(count=8)
    full = f"{world.namespace}-full"
    world.cluster.add_gpu_node(full, labels=selector, count=8)
    spread = {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "DoNotSchedule",
    }
    here = {"nodeSelector": selector, "topologySpreadConstraints": [spread]}
    try:
        path = f"/api/v1/nodes/{full}"
        cordon = {"spec": {"unschedulable": True}}
        world.cluster.api("PATCH", path, cordon, "application/merge-patch+json")
        old = serve(world, pod=here)
        edit(world, pod=here, engine={"maxNumSeqs": 64})
        waits_for_the_end_of(world, old, "didn't match pod topology spread constraints")
    finally:
        world.cluster.remove_node(full, delete_pods=True)


CSI = "disk.example.com"


def make_volume(world: World, name: str, mode: str, **more: Any) -> dict[str, Any]:
    """A claim that is bound to a volume of a CSI driver; the volume of a pod that it is."""
    volume = f"{world.namespace}-{name}"
    size = {"storage": "1Gi"}
    spec = {"accessModes": [mode], "storageClassName": "", "resources": {"requests": size}}
    create(world, "persistentvolumeclaims", {"metadata": {"name": name}, "spec": spec})
    bound = {
        "accessModes": [mode],
        "capacity": size,
        "csi": {"driver": CSI, "volumeHandle": volume},
        "claimRef": {"namespace": world.namespace, "name": name},
        "storageClassName": "",
        **more,
    }
    body = {"metadata": {"name": volume}, "spec": bound}
    world.cluster.api("POST", "/api/v1/persistentvolumes", body)
    path = f"/api/v1/namespaces/{world.namespace}/persistentvolumeclaims/{name}"
    world.wait(lambda: world.cluster.api("GET", path)["status"]["phase"] == "Bound", "the claim")
    return {"name": "files", "persistentVolumeClaim": {"claimName": name}}


def mounting(volume: dict[str, Any], **pod: Any) -> dict[str, Any]:
    mount = {"name": "files", "mountPath": "/files"}
    return {"volumes": [volume], "volumeMounts": [mount], **pod}


def test_a_node_that_takes_no_more_volumes_gets_the_new_pod_s_in_place_of_the_old_one_s(
    world: World, node: Callable[..., dict[str, str]]
) -> None:
    selector, name = node(count=8), f"{world.namespace}-node"
    driver = {"name": CSI, "nodeID": name, "allocatable": {"count": 1}}
    one = {"metadata": {"name": name}, "spec": {"drivers": [driver]}}
    world.cluster.api("POST", "/apis/storage.k8s.io/v1/csinodes", one)
    first, second = (make_volume(world, each, "ReadWriteMany") for each in ("first", "second"))
    old = serve(world, pod=mounting(first, nodeSelector=selector))
    edit(world, pod=mounting(second, nodeSelector=selector))
    waits_for_the_end_of(world, old, "exceed max volume count")


def test_a_disk_that_the_old_pod_has_comes_to_the_new_one_by_its_end(
    world: World, node: Callable[..., dict[str, str]]
) -> None:
    here = {"nodeSelector": node(count=8)}
    mutate_new_pods(
        world,
        '[JSONPatch{op: "add", path: "/spec/volumes", value: '
        "(has(object.spec.volumes) ? object.spec.volumes : []) + [Object.spec.volumes{"
        'name: "disk", iscsi: Object.spec.volumes.iscsi{targetPortal: "192.0.2.1:3260", '
        'iqn: "iqn.2001-04.com.example:disk", lun: 0}}]}]',
    )
    world.wait(
        lambda: any("iscsi" in one for one in probed(world)["volumes"]), "the policy to be in force"
    )
    old = serve(world, pod=here)
    edit(world, pod=here, engine={"maxNumSeqs": 64})
    waits_for_the_end_of(world, old, "had no available disk")


def test_a_claim_of_one_pod_comes_to_the_new_one_by_the_old_one_s_end(world: World) -> None:
    claimed = mounting(make_volume(world, "single", "ReadWriteOncePod"))
    old = serve(world, pod=claimed)
    edit(world, pod=claimed, engine={"maxNumSeqs": 64})
    waits_for_the_end_of(world, old, "ReadWriteOncePod access mode")


def waits_for_the_end_of(world: World, old: str, words: str) -> None:
    """The old pod goes, for what the scheduler says of the new one, which then serves."""
    world.wait(lambda: len(found := uids(world)) == 1 and old not in found, "the new pod alone")
    world.wait(
        lambda: any(
            one["reason"] == "FailedScheduling" and words in one.get("note", "")
            for one in world.list("Event")
        ),
        f"the scheduler's event that says {words}",
    )
    world.wait_ready()


# What it does not free


def quota_below_one_pod(world: World) -> None:
    """Room for what runs, and never for four GPUs."""
    hard = {"requests.nvidia.com/gpu": "2"}
    create(world, "resourcequotas", {"metadata": {"name": "gpus"}, "spec": {"hard": hard}})
    path = f"/api/v1/namespaces/{world.namespace}/resourcequotas/gpus"
    world.wait(
        lambda: world.cluster.api("GET", path).get("status", {}).get("used"), "the quota to count"
    )


def limits_below_the_edit(world: World) -> None:
    limits = [{"type": "Container", "max": {"memory": "512Gi"}}]
    create(world, "limitranges", {"metadata": {"name": "most"}, "spec": {"limits": limits}})


def unbound_claim(world: World) -> None:
    spec = {
        "accessModes": ["ReadWriteMany"],
        "storageClassName": "nowhere",
        "resources": {"requests": {"storage": "1Gi"}},
    }
    create(world, "persistentvolumeclaims", {"metadata": {"name": "unbound"}, "spec": spec})


def volume_of_another_zone(world: World) -> None:
    zone = {"key": "topology.kubernetes.io/zone", "operator": "In", "values": ["elsewhere"]}
    required = {"nodeSelectorTerms": [{"matchExpressions": [zone]}]}
    make_volume(world, "elsewhere", "ReadWriteMany", nodeAffinity={"required": required})


def class_without_volumes(world: World) -> None:
    """A class for volumes that somebody makes by hand, and has not made."""
    name = f"{world.namespace}-local"
    body = {
        "metadata": {"name": name},
        "provisioner": "kubernetes.io/no-provisioner",
        "volumeBindingMode": "WaitForFirstConsumer",
    }
    world.cluster.api("POST", "/apis/storage.k8s.io/v1/storageclasses", body)
    size = {"requests": {"storage": "1Gi"}}
    spec = {"accessModes": ["ReadWriteOnce"], "storageClassName": name, "resources": size}
    create(world, "persistentvolumeclaims", {"metadata": {"name": "unmade"}, "spec": spec})


def webhook_that_does_not_answer(world: World) -> None:
    """Asked about pods with the edit's annotation alone, so that the old pod may be made again."""
    name = f"{world.namespace}.example.com"
    mine = {"matchLabels": {"kubernetes.io/metadata.name": world.namespace}}
    rule = {
        "apiGroups": [""],
        "apiVersions": ["v1"],
        "operations": ["CREATE"],
        "resources": ["pods"],
    }
    hook = {
        "name": name,
        "clientConfig": {"url": "https://127.0.0.1:1/"},
        "rules": [rule],
        "namespaceSelector": mine,
        "matchConditions": [
            {"name": "edited", "expression": "'edited' in object.metadata.?annotations.orValue({})"}
        ],
        "failurePolicy": "Fail",
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
    }
    body = {"metadata": {"name": name}, "webhooks": [hook]}
    world.cluster.api("POST", f"{ADMISSION}/validatingwebhookconfigurations", body)
    probe = {
        "metadata": {"name": "probe", "annotations": {"edited": "1"}},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    }

    def refuses() -> bool:
        try:
            world.cluster.api("POST", f"{world.path('Pod')}?dryRun=All", probe)
        except ApiError as error:
            return "failed calling webhook" in str(error)
        return False

    world.wait(refuses, "the webhook to be asked")


def nothing(world: World) -> None:
    """Nothing is prepared."""


def claiming(name: str, **pod: Any) -> dict[str, Any]:
    return {"pod": mounting({"name": "files", "persistentVolumeClaim": {"claimName": name}}, **pod)}


Case = tuple[Callable[[World], None], dict[str, Any], str, str]
HELD: dict[str, Case] = {
    "a selector that no node has": (
        nothing,
        {"pod": {"nodeSelector": {"pool": "typo"}}},
        "Unschedulable",
        "spec.pod.nodeSelector",
    ),
    "a claim without a volume": (
        unbound_claim,
        claiming("unbound"),
        "Unschedulable",
        "kubectl describe pvc",
    ),
    "a volume in another zone": (
        volume_of_another_zone,
        claiming("elsewhere"),
        "Unschedulable",
        "a volume that the nodes reach",
    ),
    "a class whose volumes nobody makes": (
        class_without_volumes,
        claiming("unmade"),
        "Unschedulable",
        "kubectl describe pvc",
    ),
    "a quota smaller than a pod": (
        quota_below_one_pod,
        {"parallelism": {"tensor": 4}},
        "QuotaExceeded",
        "raise the quota",
    ),
    "a limit range": (
        limits_below_the_edit,
        {"pod": {"resources": {"limits": {"memory": "1Ti"}}}},
        "LimitRangeExceeded",
        "spec.pod.resources",
    ),
    "a webhook that does not answer": (
        webhook_that_does_not_answer,
        {"pod": {"annotations": {"edited": "1"}}},
        "PodRefused",
        "kubectl get validatingwebhookconfigurations",
    ),
    "more memory than any node has": (
        nothing,
        {"pod": {"resources": {"requests": {"memory": "900Ti"}}}},
        "Unschedulable",
        "a pod asks for 900Ti of memory (spec.pod.resources.requests), and no node has as much",
    ),
    "a missing service account": (
        nothing,
        {"pod": {"serviceAccountName": "typo"}},
        "PodRefused",
        "there is no ServiceAccount typo",
    ),
    "a missing priority class": (
        nothing,
        {"pod": {"priorityClassName": "typo"}},
        "PodRefused",
        "there is no PriorityClass typo",
    ),
    "a missing runtime class": (
        nothing,
        {"pod": {"runtimeClassName": "typo"}},
        "PodRefused",
        "there is no RuntimeClass typo",
    ),
}


@pytest.mark.parametrize("case", HELD.values(), ids=[name.replace(" ", "-") for name in HELD])
def test_a_rollout_that_no_end_of_a_pod_helps_ends_none_says_the_way_out_and_is_taken_back(
    world: World, case: Case
) -> None:
    prepare, change, reason, way_out = case
    prepare(world)
    old = serve(world)
    edit(world, **change)
    told = world.wait_condition("Progressing", "True", reason)
    assert way_out in told["message"]
    edit(world, replicas=2, **change)  # a visit that writes the Deployment
    world.wait(lambda: world.get("Deployment")["spec"]["replicas"] == 2, "the scaling")
    rolling = world.get("Deployment")["spec"]["strategy"]["rollingUpdate"]
    assert rolling == {"maxSurge": 1, "maxUnavailable": 0}
    edit(world)
    world.wait_ready()
    world.wait(lambda: uids(world) == [old], "the old pod alone")


def test_a_claim_that_no_node_with_room_can_serve_ends_no_pod_for_a_node_that_is_full(
    world: World, node: Callable[..., dict[str, str]]
) -> None:
    node(count=8)
    full = [{"op": "replace", "path": "/status/allocatable/nvidia.com~1gpu", "value": "0"}]
    path = f"/api/v1/nodes/{world.namespace}-node/status"
    world.cluster.api("PATCH", path, full, "application/json-patch+json")
    class_without_volumes(world)
    old = serve(world)
    edit(world, **claiming("unmade"))
    told = world.wait_condition("Progressing", "True", "Unschedulable")
    assert "Insufficient nvidia.com/gpu" in told["message"]
    assert "kubectl describe pvc" in told["message"]
    assert old in uids(world)


TAINT = [{"key": "maintenance", "value": "yes", "effect": "NoSchedule"}]


@pytest.mark.parametrize(
    ("change", "way_out"),
    [
        ({"spec": {"taints": TAINT}}, "spec.pod.tolerations"),
        ({"spec": {"unschedulable": True}}, "kubectl uncordon"),
    ],
    ids=["tainted", "cordoned"],
)
def test_a_node_that_takes_no_new_pods_keeps_the_old_one(
    world: World, node: Callable[..., dict[str, str]], change: dict[str, Any], way_out: str
) -> None:
    here = {"nodeSelector": node(count=8)}
    old = serve(world, pod=here)
    path = f"/api/v1/nodes/{world.namespace}-node"
    world.cluster.api("PATCH", path, change, "application/merge-patch+json")
    edit(world, pod=here, engine={"maxNumSeqs": 64})
    told = world.wait_condition("Progressing", "True", "Unschedulable")
    assert way_out in told["message"]
    assert old in uids(world)
    edit(world, pod=here)
    world.wait_ready()
    assert uids(world) == [old]
