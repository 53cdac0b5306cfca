"""Rollouts: surge where a GPU is free, in place where none is, and the reason otherwise."""

from __future__ import annotations

from localcluster.client import ApiError
from localcluster.cluster import Cluster
from support.fixtures import StartOperator
from support.operating import OperatorProcess
from support.world import World, flag

FAIL = "localcluster.vllm-operator.io/fail"


def fill(world: World) -> None:
    """A server that takes all eight GPUs of the only node."""
    world.apply(gpu={"product": "H100"}, replicas=8, rollout={"surgeTimeoutSeconds": 0})
    world.wait_ready(timeout=60)


def test_a_rollout_without_a_free_gpu_goes_on_in_place(
    own_world: World, start_operator: StartOperator
) -> None:
    start_operator(own_world)
    fill(own_world)
    spec = {"gpu": {"product": "H100"}, "replicas": 8, "rollout": {"surgeTimeoutSeconds": 0}}
    own_world.apply(**spec, engine={"maxNumSeqs": 64})
    own_world.wait_ready(timeout=90)
    assert flag(own_world.args(), "--max-num-seqs") == "64"
    own_world.wait(
        lambda: own_world.get("Deployment")["spec"]["strategy"]["rollingUpdate"]["maxSurge"] == 1,
        "the strategy to surge again",
    )


def test_a_replica_that_finds_no_gpu_is_said_to_wait_for_one(
    own_world: World, own_cluster: Cluster, start_operator: StartOperator
) -> None:
    start_operator(own_world)
    own_world.apply(gpu={"product": "H100"}, replicas=9)
    waiting = own_world.wait_condition("Progressing", "True", "WaitingForGPU", timeout=60)
    assert "Insufficient nvidia.com/gpu" in waiting["message"]
    assert own_world.condition("Reconciling")["status"] == "True"
    assert own_world.condition("Stalled")["status"] == "False"
    own_cluster.add_gpu_node("h100-1")
    own_world.wait_ready(timeout=60)


def test_a_replica_in_a_cluster_without_any_node_is_told_to_have_one_added(
    own_world: World, own_cluster: Cluster, start_operator: StartOperator
) -> None:
    for node in own_cluster.api("GET", "/api/v1/nodes")["items"]:
        own_cluster.remove_node(node["metadata"]["name"])
    start_operator(own_world)
    own_world.apply(gpu={"product": "H100", "perNode": 8})
    told = own_world.wait_condition("Progressing", "True", "Unschedulable", timeout=60)
    assert "no nodes available to schedule pods; add a node" in told["message"]
    own_cluster.add_gpu_node("h100-1")
    own_world.wait_ready(timeout=60)


def test_a_pod_that_cannot_start_shows_its_reason(
    own_world: World, start_operator: StartOperator
) -> None:
    start_operator(own_world)
    own_world.apply(pod={"annotations": {FAIL: "ImagePullBackOff"}})

    def said() -> bool:
        condition = own_world.condition("Progressing")
        return (
            condition.get("reason") == "ImagePullFailed"
            and "spec.engine.image" in condition["message"]
        )

    own_world.wait(said, "the reason", timeout=30)
    assert own_world.condition("Available")["reason"] == "ImagePullFailed"


def make_waiting_pod_of_another_plan(world: World) -> None:
    """A pod of another template of the server's, for which no node has GPUs enough."""
    template = world.get("Deployment")["spec"]["template"]
    labels = {
        **template["metadata"]["labels"],
        "pod-template-hash": "another",
        "vllm-operator.io/template": "1-another",
    }
    (engine,) = template["spec"]["containers"]
    gpus = {"nvidia.com/gpu": "64"}
    asked = {**engine, "resources": {"requests": gpus, "limits": gpus}}
    spec = {**template["spec"], "containers": [asked]}
    world.create("Pod", {"metadata": {"name": "another", "labels": labels}, "spec": spec})

    def waits() -> bool:
        conditions = world.get("Pod", "another").get("status", {}).get("conditions", [])
        return any("Insufficient nvidia.com/gpu" in one.get("message", "") for one in conditions)

    world.wait(waits, "the scheduler to find no node")


def test_a_waiting_pod_of_another_plan_changes_nothing_of_a_rollout(
    world: World, operator: OperatorProcess
) -> None:
    rollout = {"surgeTimeoutSeconds": 0}
    loads = {"annotations": {FAIL: "ContainerCreating"}}
    world.apply(replicas=2, rollout=rollout)
    world.wait_ready()
    world.apply(replicas=2, rollout=rollout, pod=loads)
    world.wait(lambda: len(world.list("Pod")) == 3, "the pod beside the old ones")
    make_waiting_pod_of_another_plan(world)
    world.apply(replicas=3, rollout=rollout, pod=loads)  # a visit that writes the Deployment
    world.wait(lambda: world.get("Deployment")["spec"]["replicas"] == 3, "the scaling")
    rolling = world.get("Deployment")["spec"]["strategy"]["rollingUpdate"]
    assert rolling == {"maxSurge": 1, "maxUnavailable": 0}
    world.wait_condition("Progressing", "True", "Preparing")


ONE_POD = {"hard": {"pods": "1"}}
DENIED = "a new pod is denied here"


def make_quota(world: World) -> None:
    """A quota that has room for one pod."""
    path = f"/api/v1/namespaces/{world.namespace}/resourcequotas"
    body = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "one"}}
    world.cluster.api("POST", path, {**body, "spec": ONE_POD})

    def counted() -> bool:
        found = world.cluster.api("GET", f"{path}/one")
        return (found.get("status") or {}).get("used") == {"pods": "0"}

    world.wait(counted, "the quota to be counted")


def make_policy(world: World) -> None:
    """A policy that refuses pods with an annotation, once it is in force."""
    base = "/apis/admissionregistration.k8s.io/v1"
    name = f"{world.namespace}-pods"
    pods = {
        "apiGroups": [""],
        "apiVersions": ["v1"],
        "operations": ["CREATE"],
        "resources": ["pods"],
    }
    mine = {"matchLabels": {"kubernetes.io/metadata.name": world.namespace}}
    refused = "!has(object.metadata.annotations) || !('new' in object.metadata.annotations)"
    spec = {
        "matchConstraints": {"resourceRules": [pods], "namespaceSelector": mine},
        "validations": [{"expression": refused, "message": DENIED}],
    }
    binding = {"policyName": name, "validationActions": ["Deny"]}
    for kind, plural, body in (
        ("ValidatingAdmissionPolicy", "validatingadmissionpolicies", spec),
        ("ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings", binding),
    ):
        form = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind}
        document = {**form, "metadata": {"name": name}, "spec": body}
        world.cluster.api("POST", f"{base}/{plural}", document)
    probe = {
        "metadata": {"generateName": "probe-", "annotations": {"new": "1"}},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    }

    def denies() -> bool:
        try:
            world.cluster.api("POST", f"{world.path('Pod')}?dryRun=All", probe)
        except ApiError as error:
            return DENIED in str(error)
        return False

    world.wait(denies, "the policy to be in force")


def rolled(world: World, seqs: str) -> bool:
    """Whether every pod has that ``--max-num-seqs``."""
    engines = [pod["spec"]["containers"][0] for pod in world.list("Pod")]
    return [flag(engine["command"], "--max-num-seqs") for engine in engines] == [seqs]


def test_a_rollout_that_a_quota_has_no_room_for_goes_on_in_place_at_once(
    world: World, operator: OperatorProcess
) -> None:
    make_quota(world)
    world.apply(rollout={"surgeTimeoutSeconds": 3})
    world.wait_ready()
    world.apply(rollout={"surgeTimeoutSeconds": 3}, engine={"maxNumSeqs": 64})
    world.wait_condition("Progressing", "True", "QuotaExceeded")
    world.wait(lambda: rolled(world, "64"), "the pod in place of the old one", timeout=20)
    world.wait_ready()


def test_a_rollout_that_its_own_pods_keep_away_goes_on_in_place(
    own_world: World, start_operator: StartOperator
) -> None:
    start_operator(own_world)
    apart = {
        "labelSelector": {"matchLabels": {"vllm-operator.io/server": "qwen"}},
        "topologyKey": "kubernetes.io/hostname",
    }
    rules = {"requiredDuringSchedulingIgnoredDuringExecution": [apart]}
    spec = {"rollout": {"surgeTimeoutSeconds": 1}, "pod": {"affinity": {"podAntiAffinity": rules}}}
    own_world.apply(**spec)
    own_world.wait_ready()
    own_world.apply(**spec, engine={"maxNumSeqs": 64})
    own_world.wait(lambda: rolled(own_world, "64"), "the pod in place of the old one")
    own_world.wait_ready()


def test_a_rollout_that_a_policy_refuses_ends_no_pod_and_says_why(
    world: World, operator: OperatorProcess
) -> None:
    make_policy(world)
    world.apply(rollout={"surgeTimeoutSeconds": 0})
    world.wait_ready()
    old = world.list("Pod")[0]["metadata"]["uid"]
    new = {"annotations": {"new": "1"}}
    world.apply(rollout={"surgeTimeoutSeconds": 0}, pod=new)
    refused = world.wait_condition("Progressing", "True", "PodRefused")
    assert DENIED in refused["message"]
    world.apply(rollout={"surgeTimeoutSeconds": 0}, pod=new, replicas=2)  # the Deployment's write
    world.wait(lambda: world.get("Deployment")["spec"]["replicas"] == 2, "the scaling")
    rolling = world.get("Deployment")["spec"]["strategy"]["rollingUpdate"]
    assert rolling == {"maxSurge": 1, "maxUnavailable": 0}
    assert old in [pod["metadata"]["uid"] for pod in world.list("Pod")]


def test_in_place_leads_out_of_a_rollout_that_a_quota_holds_up(
    world: World, operator: OperatorProcess
) -> None:
    make_quota(world)
    world.apply(rollout={"strategy": "Surge"})
    world.wait_ready()
    world.apply(rollout={"strategy": "Surge"}, engine={"maxNumSeqs": 64})
    world.wait_condition("Progressing", "True", "QuotaExceeded")
    world.wait(lambda: backed_off(world), "the ReplicaSet's controller to wait long", timeout=60)
    world.apply(rollout={"strategy": "InPlace"}, engine={"maxNumSeqs": 64})
    world.wait(lambda: rolled(world, "64"), "the pod in place of the old one", timeout=10)
    world.wait_ready()


def backed_off(world: World) -> bool:
    """Whether the pod was refused so often that the next try is more than ten seconds away."""
    events = [one for one in world.list("Event") if one.get("reason") == "FailedCreate"]
    return sum(one.get("deprecatedCount") or 1 for one in events) >= TRIES


TRIES = 12
"""The back-off doubles from 5 ms: twelve failures are twenty seconds."""
