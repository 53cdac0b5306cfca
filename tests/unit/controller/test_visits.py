"""Whole visits of a server: what they ask of the API server, tell, and when they look again."""

from __future__ import annotations

import copy
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from support.builders import server_manifest
from vllm_operator.controller.apply import Applier
from vllm_operator.controller.boot import BootReader
from vllm_operator.controller.calibrate import Calibrator
from vllm_operator.controller.children import Stale
from vllm_operator.controller.client import ApiError, Client
from vllm_operator.controller.inputs import InputSource
from vllm_operator.controller.metrics import Metrics
from vllm_operator.controller.nodes import Nodes
from vllm_operator.controller.planning import Planner
from vllm_operator.controller.reconcile import Reconciler
from vllm_operator.controller.settings import OperatorSettings
from vllm_operator.controller.store import Store
from vllm_operator.controller.trials import Tuner
from vllm_operator.errors import NamespaceTerminating, TemporaryFailure
from vllm_operator.lifecycle.kinds import (
    DEPLOYMENTS,
    LEADER_WORKER_SETS,
    PODS,
    REVISIONS,
    SERVERS,
    SERVICES,
)
from vllm_operator.lifecycle.records import Key
from vllm_operator.lifecycle.revisions import Pinned
from vllm_operator.manifests.labels import FIELD_MANAGER, TEMPLATE_HASH, TRIAL

from .fakes import Memory

KEY: Key = ("default", "qwen")
START = datetime(2026, 1, 1, 10, tzinfo=UTC)
NODE = {
    "metadata": {
        "name": "node",
        "labels": {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3", "nvidia.com/gpu.count": "8"},
    },
    "status": {"capacity": {"nvidia.com/gpu": "8"}, "allocatable": {"nvidia.com/gpu": "8"}},
}


class World:
    """One server, the operator's visits of it, and a clock that is turned by hand."""

    def __init__(
        self, *, memory: Memory | None = None, tuner: Tuner | None = None, **spec: Any
    ) -> None:
        self.memory = memory or Memory()
        self.store = Store()
        self.now = START
        self.waits = False
        client: Client = self.memory  # type: ignore[assignment]
        nodes = Nodes(visible=True)
        nodes.observe(NODE)
        settings = OperatorSettings()
        applier = Applier(client, self.store)
        metrics = Metrics()
        self.reconciler = Reconciler(
            client=client,
            store=self.store,
            nodes=nodes,
            planner=Planner(InputSource(client, nodes, settings), applier),
            applier=applier,
            metrics=metrics,
            calibrator=Calibrator(client, settings, metrics, lambda: self.now, lambda _: None),
            clock=lambda: self.now,
            others_wait=lambda: self.waits,
            instance="test",
            tuner=tuner,
        )
        if memory is None:
            self.edit(**spec)

    def edit(self, **spec: Any) -> None:
        """Create the server, or replace its specification."""
        live = self.memory.objects.get(("vllmservers", "qwen"), {})
        generation = live.get("metadata", {}).get("generation", 0) + 1
        body = server_manifest(**spec)
        body["metadata"].update(generation=generation, uid="uid-1")
        self.store.observe(SERVERS.kind, self.memory.keep("vllmservers", body))

    def deployment(self, **status: Any) -> dict[str, Any]:
        """Say how far the Deployment is."""
        body = self.memory.objects["deployments", "qwen"]
        full = {"observedGeneration": body["metadata"]["generation"], **status}
        kept = self.memory.keep("deployments", {**body, "status": full})
        self.store.observe(DEPLOYMENTS.kind, kept)
        return kept

    def serves(self) -> None:
        """Let every replica be of the newest template, and ready."""
        self.deployment(replicas=1, updatedReplicas=1, readyReplicas=1)
        self.pod("old", ready=True)

    def pod(self, name: str, *, ready: bool = False, **status: Any) -> None:
        """A pod of the Deployment as it stands."""
        template = self.memory.objects["deployments", "qwen"]["spec"]["template"]["metadata"]
        running = {"state": {"running": {"startedAt": stamp(self.now)}}, "ready": ready}
        conditions = [{"type": "PodScheduled", "status": "True"}]
        conditions += [{"type": "Ready", "status": "True"}] if ready else []
        body = {
            "metadata": {
                "name": name,
                "namespace": "default",
                "creationTimestamp": stamp(self.now),
                "labels": {**template["labels"], "pod-template-hash": name},
                "annotations": template.get("annotations", {}),
            },
            "spec": {"nodeName": "node", "containers": [{"name": "engine"}]},
            "status": {
                "phase": "Running",
                "startTime": stamp(self.now),
                "conditions": conditions,
                "containerStatuses": [{"name": "engine", "restartCount": 0, **running, **status}],
            },
        }
        self.store.observe(PODS.kind, self.memory.keep("pods", body))

    def pending(self, name: str) -> None:
        """A pod of the Deployment as it stands, that no node has room for."""
        self.pod(name)
        body = self.memory.objects["pods", name]
        body["spec"].pop("nodeName")
        body["status"] = {
            "phase": "Pending",
            "conditions": [
                {
                    "type": "PodScheduled",
                    "status": "False",
                    "reason": "Unschedulable",
                    "message": "0/1 nodes are available: 1 Insufficient nvidia.com/gpu.",
                    "lastTransitionTime": stamp(self.now),
                }
            ],
        }
        self.store.observe(PODS.kind, self.memory.keep("pods", body))

    def remove(self, pod: str) -> None:
        """Let a pod be gone."""
        self.store.remove(PODS.kind, self.memory.objects.pop(("pods", pod)))

    async def visit(self) -> float | None:
        """One visit; when to look again."""
        return await self.reconciler.reconcile(KEY)

    @property
    def status(self) -> dict[str, Any]:
        """The server's, as it was written the last time."""
        return dict(self.memory.objects["vllmservers", "qwen"]["status"])

    def condition(self, kind: str) -> tuple[str, str]:
        """Status and reason."""
        (found,) = [one for one in self.status["conditions"] if one["type"] == kind]
        return found["status"], found["reason"]

    def events(self) -> list[str]:
        """Reasons of the events so far."""
        return [one["reason"] for (kind, _), one in self.memory.objects.items() if kind == "events"]


def stamp(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


CRASHED = {
    "ready": False,
    "restartCount": 1,
    "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}},
    "lastState": {
        "terminated": {
            "exitCode": 1,
            "reason": "Error",
            "containerID": "containerd://1",
            "startedAt": "2026-01-01T10:10:01Z",
            "finishedAt": "2026-01-01T10:10:30Z",
        }
    },
}
PASSES = "huggingface_hub.errors.GatedRepoError: 403 Client Error. Cannot access gated repo for url"


async def served() -> World:
    world = World()
    await world.visit()
    world.serves()
    await world.visit()
    return world


async def test_the_first_visit_pins_a_plan_and_creates_its_objects() -> None:
    world = World()
    await world.visit()
    assert [write[:2] for write in world.memory.writes] == [
        ("create", "controllerrevisions"),
        ("apply", "deployments"),
        ("apply", "services"),
        ("create", "events"),
        ("apply status", "vllmservers"),
    ]
    assert world.events() == ["Planned"]
    assert world.condition("Planned") == ("True", "Sized")


async def test_a_visit_of_a_server_that_stands_writes_nothing() -> None:
    world = await served()
    assert world.condition("Ready") == ("True", "Ready")
    before = list(world.memory.writes)
    assert await world.visit() is None
    assert world.memory.writes == before


async def test_where_others_wait_a_visit_ends_at_the_first_object_and_goes_on_in_the_next() -> None:
    world = World()
    world.waits = True
    assert await world.visit() == 0.0
    assert world.memory.names("deployments") == ["qwen"]
    assert world.memory.names("services") == []
    assert await world.visit() is None
    assert world.memory.names("services") == ["qwen"]


async def test_a_paused_server_is_neither_planned_nor_changed() -> None:
    world = await served()
    world.edit(paused=True, engine={"maxNumSeqs": 8})
    world.memory.objects.pop(("services", "qwen"))
    world.store.forget_child(SERVICES.kind, KEY, "qwen")
    before = len(world.memory.names("controllerrevisions"))
    await world.visit()
    assert world.memory.names("services") == []
    assert len(world.memory.names("controllerrevisions")) == before
    assert world.condition("Progressing") == ("False", "Paused")


async def test_an_outage_by_a_plan_that_may_still_come_up_is_looked_at_again_when_it_is_over() -> (
    None
):
    world = await served()
    world.now = START + timedelta(minutes=10)
    world.edit(engine={"maxNumSeqs": 8})
    await world.visit()
    world.remove("old")
    world.memory.logs = PASSES
    world.pod("new", **CRASHED)
    world.deployment(replicas=1, updatedReplicas=1, readyReplicas=0)
    await world.visit()
    world.now += timedelta(seconds=60)
    assert await world.visit() == pytest.approx(240.0)
    world.now += timedelta(seconds=240)
    assert await world.visit() == 0.0
    assert "RolledBack" in world.events()
    await world.visit()
    assert world.condition("Stalled") == ("True", "ModelAccessDenied")


async def after_an_edit_to_two_gpus() -> World:
    """A server whose old pod is gone and whose new plan has no pod yet."""
    world = World(parallelism={"tensor": 1})
    await world.visit()
    world.serves()
    await world.visit()
    world.now = START + timedelta(minutes=10)
    world.edit(parallelism={"tensor": 2})
    await world.visit()
    world.remove("old")
    world.deployment(replicas=0, updatedReplicas=0, readyReplicas=0)
    await world.visit()
    return world


async def test_a_plan_whose_pods_do_not_come_to_be_is_waited_for_where_nothing_tells_why() -> None:
    world = await after_an_edit_to_two_gpus()
    world.now += timedelta(hours=1)
    assert await world.visit() is None
    assert "RolledBack" not in world.events()


async def test_a_plan_that_no_node_takes_makes_room_for_the_smaller_one_before_it() -> None:
    world = await after_an_edit_to_two_gpus()
    world.pending("new")
    world.now += timedelta(seconds=299)
    assert await world.visit() == pytest.approx(1.0)
    world.now += timedelta(seconds=1)
    assert await world.visit() == 0.0
    await world.visit()
    assert "RolledBack" in world.events()
    assert world.condition("Planned") == ("False", "Unschedulable")
    container = world.memory.objects["deployments", "qwen"]["spec"]["template"]["spec"]
    assert container["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"


TOO_SMALL = (
    "ValueError: To serve at least one request with the model's max seq len (32768), (4.0 GiB KV "
    "cache is needed, which is larger than the available KV cache memory (2.0 GiB). Based on the "
    "available memory, the estimated maximum model length is 20000. "
)


async def test_a_first_plan_whose_engine_cannot_start_is_repaired_and_pinned_anew() -> None:
    world = World()
    await world.visit()
    world.memory.logs = TOO_SMALL
    world.pod("first", **CRASHED)
    world.deployment(replicas=1, updatedReplicas=1, readyReplicas=0)
    await world.visit()
    assert world.events() == ["Planned", "PlanRepaired"]
    assert len(world.memory.names("controllerrevisions")) == 2
    template = world.memory.objects["deployments", "qwen"]["spec"]["template"]["spec"]
    command = template["containers"][0]["command"]
    assert command[command.index("--max-model-len") + 1] == "19456"


@pytest.mark.parametrize("tried", [False, True])
async def test_a_pod_that_is_refused_is_trouble_of_the_plan_unless_it_is_a_trial_s(
    tried: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    async def diagnose(_: Any, __: Any, ___: Any, deployment: Any, *____: Any) -> None:
        seen.append(deployment.message)

    monkeypatch.setattr(BootReader, "diagnose", diagnose)
    world = await served()
    body = world.memory.objects["deployments", "qwen"]
    body["metadata"]["annotations"] |= {TRIAL: "{}"} if tried else {}
    refused = {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota: g"}
    world.deployment(replicas=1, updatedReplicas=1, readyReplicas=1, conditions=[refused])
    await world.visit()
    assert seen[-1] == ("" if tried else "exceeded quota: g")


async def test_what_stopped_the_plan_before_is_not_told_of_the_one_that_an_edit_asks_for() -> None:
    world = World()
    await world.visit()
    world.memory.logs = PASSES
    world.pod("first", **CRASHED)
    world.deployment(replicas=1, updatedReplicas=1, readyReplicas=0)
    await world.visit()
    assert world.condition("Progressing")[1] == "ModelAccessDenied"
    world.edit(engine={"maxNumSeqs": 8})
    await world.visit()
    assert world.condition("Progressing")[1] != "ModelAccessDenied"


async def test_a_first_plan_that_cannot_be_repaired_is_no_longer_started_after_its_second_end() -> (
    None
):
    world = World(engine={"maxModelLen": 32768})
    await world.visit()
    world.memory.logs = TOO_SMALL
    world.pod("first", **{**CRASHED, "restartCount": 0})
    world.deployment(replicas=1, updatedReplicas=1, readyReplicas=0)
    await world.visit()
    assert world.events() == ["Planned", "KVCacheTooSmall"]
    world.pod("first", **CRASHED)
    await world.visit()
    assert world.events()[-1] == "Stopped"
    await world.visit()
    assert world.memory.objects["deployments", "qwen"]["spec"]["replicas"] == 0
    assert world.condition("Stalled") == ("True", "KVCacheTooSmall")


async def test_what_a_server_is_edited_to_is_tried_although_the_plan_before_was_given_up() -> None:
    world = World(engine={"maxModelLen": 32768})
    await world.visit()
    world.memory.logs = TOO_SMALL
    world.pod("first", **CRASHED)
    world.deployment(replicas=1, updatedReplicas=1, readyReplicas=0)
    await world.visit()
    await world.visit()
    world.edit(engine={"maxModelLen": 1024})
    await world.visit()
    assert world.memory.objects["deployments", "qwen"]["spec"]["replicas"] == 1
    assert world.condition("Planned") == ("True", "Sized")


async def test_a_surge_pod_that_waits_is_looked_at_again_when_the_surge_timeout_is_over() -> None:
    world = await served()
    world.now = START + timedelta(minutes=10)
    world.edit(engine={"maxNumSeqs": 8}, rollout={"surgeTimeoutSeconds": 100})
    await world.visit()
    world.pending("new")
    world.deployment(replicas=2, updatedReplicas=1, readyReplicas=1)
    world.now += timedelta(seconds=30)
    assert await world.visit() == pytest.approx(70.0)
    world.now += timedelta(seconds=70)
    await world.visit()
    strategy = world.memory.objects["deployments", "qwen"]["spec"]["strategy"]
    assert strategy["rollingUpdate"]["maxSurge"] == 0


async def test_a_pod_that_has_just_started_is_looked_at_again_when_it_counts_as_loading() -> None:
    world = World()
    await world.visit()
    world.pod("first")
    world.deployment(replicas=1, updatedReplicas=1, readyReplicas=0)
    world.now += timedelta(seconds=2)
    assert await world.visit() == pytest.approx(3.0)
    world.now += timedelta(seconds=3)
    assert await world.visit() is None
    assert world.condition("Progressing") == ("True", "Loading")


async def test_of_several_times_to_look_again_the_first_counts() -> None:
    world = World()
    world.memory.refuses["apply", "services"] = ApiError(403, "Forbidden", "quota exceeded")
    assert await world.visit() == 30.0
    world.pod("first")
    world.deployment(replicas=1, updatedReplicas=1, readyReplicas=0)
    world.now += timedelta(seconds=2)
    assert await world.visit() == pytest.approx(3.0)


async def test_a_model_that_cannot_be_asked_for_now_is_asked_for_again() -> None:
    world = World(model={"id": "a/b", "configMapRef": {"name": "facts", "key": "config.json"}})
    assert await world.visit() == 30.0
    assert world.condition("Planned") == ("False", "UnknownModel")
    assert world.condition("Stalled")[0] == "False"


async def test_a_refused_object_is_said_and_the_others_are_applied() -> None:
    world = World()
    world.memory.refuses["apply", "deployments"] = ApiError(403, "Forbidden", "quota exceeded")
    await world.visit()
    assert world.memory.names("services") == ["qwen"]
    assert "quota exceeded" in world.status["problems"][0]["message"]


async def test_an_edit_that_the_api_server_would_refuse_leaves_the_plan_in_force() -> None:
    world = await served()
    world.edit(engine={"maxNumSeqs": 8})
    world.memory.refuses["try", "deployments"] = ApiError(422, "Invalid", "no such field")
    await world.visit()
    assert len(world.memory.names("controllerrevisions")) == 1
    assert "no such field" in world.status["problems"][0]["message"]
    assert world.condition("Available") == ("True", "ReplicasReady")


async def test_a_name_that_is_somebody_else_s_stays_untouched_and_is_asked_for_again() -> None:
    world = World()
    world.memory.keep("services", {"metadata": {"name": "qwen"}, "spec": {"ports": []}})
    assert await world.visit() == 30.0
    assert world.condition("Planned") == ("False", "NameConflict")
    assert world.memory.names("controllerrevisions") == []


async def test_a_deployment_s_name_is_not_looked_for_where_no_watch_has_told_of_one() -> None:
    world = World()
    await world.visit()
    assert world.memory.looks == [("services", "qwen")]


async def test_a_deployment_that_is_somebody_else_s_stays_untouched_and_no_service_is_made() -> (
    None
):
    world = World()
    theirs = {"metadata": {"name": "qwen"}, "spec": {"replicas": 3}}
    world.memory.keep("deployments", theirs)
    world.memory.refuses["apply", "deployments"] = ApiError(409, "Conflict", "selector")
    with pytest.raises(Stale):
        await world.visit()
    assert await world.visit() == 30.0
    assert world.condition("Planned") == ("False", "NameConflict")
    assert world.condition("Available")[0] == "False"
    assert world.memory.names("services") == []


async def test_an_object_that_changed_since_it_was_read_is_read_again_and_the_visit_repeated() -> (
    None
):
    world = await served()
    world.edit(replicas=2)
    world.memory.refuses["apply", "deployments"] = ApiError(409, "Conflict", "changed")
    with pytest.raises(Stale):
        await world.visit()


async def test_an_object_that_somebody_changed_is_restored_and_that_is_told() -> None:
    world = await served()
    service = world.memory.objects["services", "qwen"]
    entry = {"manager": FIELD_MANAGER, "operation": "Apply", "fieldsV1": {"f:spec": {}}}
    changed = {**service, "metadata": {**service["metadata"], "managedFields": [entry]}}
    world.store.observe(SERVICES.kind, world.memory.keep("services", changed))
    await world.visit()
    assert world.events()[-1] == "Repaired"


async def test_a_server_that_is_gone_leaves_nothing_behind() -> None:
    world = await served()
    world.reconciler.recheck.add(KEY)
    world.store.remove(SERVERS.kind, world.memory.objects.pop(("vllmservers", "qwen")))
    assert await world.visit() is None
    assert world.reconciler.recheck == set()


async def test_an_edit_says_what_it_rolls() -> None:
    world = await served()
    world.edit(engine={"maxNumSeqs": 8})
    await world.visit()
    assert world.events() == ["Planned", "Ready", "Replanned"]
    assert len(world.memory.names("controllerrevisions")) == 2
    assert world.condition("Progressing")[0] == "True"


async def test_the_plan_that_was_ready_is_named_once_it_serves() -> None:
    world = World()
    await world.visit()
    assert "latestReadyRevision" not in world.status
    world.serves()
    await world.visit()
    assert world.status["latestReadyRevision"] in world.memory.names("controllerrevisions")


def pinned_by_another_release(world: World, template: str | None = None) -> None:
    """Let the plan in force be another release's, whose pod template was perhaps another."""
    (name,) = world.memory.names("controllerrevisions")
    body = copy.deepcopy(world.memory.objects["controllerrevisions", name])
    body["data"]["release"] = "0.0.1+another"
    body["metadata"]["uid"] = "another"
    if template is not None:
        text = json.dumps(body["data"]["objects"])
        old = body["data"]["objects"][0]["metadata"]["annotations"][TEMPLATE_HASH]
        body["data"]["objects"] = json.loads(text.replace(old, template))
    world.store.observe(REVISIONS.kind, world.memory.keep("controllerrevisions", body))


async def test_a_release_that_renders_other_pods_rolls_nothing_and_says_so() -> None:
    world = World()
    await world.visit()
    pinned_by_another_release(world, "1-another")
    await world.visit()
    world.serves()
    await world.visit()
    assert world.condition("Ready") == ("True", "Ready")
    assert world.condition("UpdateAvailable") == ("True", "PlanDiffers")
    message = next(
        c["message"] for c in world.status["conditions"] if c["type"] == "UpdateAvailable"
    )
    assert "renders the pod template otherwise" in message
    assert len(world.memory.names("controllerrevisions")) == 1


async def test_a_release_that_renders_the_same_pods_is_no_news() -> None:
    world = World()
    await world.visit()
    pinned_by_another_release(world)
    await world.visit()
    assert world.condition("UpdateAvailable") == ("False", "UpToDate")


@pytest.mark.parametrize(
    "away",
    [
        ApiError(503, "ServiceUnavailable", "away"),
        TemporaryFailure("the Hub is away"),
        Stale("read too early"),
    ],
)
async def test_a_comparison_that_may_pass_ends_the_visit_before_its_status_is_written(
    away: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = await visited_with_a_comparison_that_raises(away, monkeypatch)
    assert world.condition("Ready")[0] == "False"
    assert KEY in world.reconciler.recheck


async def test_a_comparison_with_a_defect_ends_the_visit_once_its_status_is_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = await visited_with_a_comparison_that_raises(ZeroDivisionError(), monkeypatch)
    assert world.condition("Ready") == ("True", "Ready")
    assert KEY not in world.reconciler.recheck


async def visited_with_a_comparison_that_raises(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> World:
    """A world whose pod has become ready, after a visit that compared the plans and failed."""

    async def update(*_: Any, **__: Any) -> str | None:
        raise error

    world = World()
    await world.visit()
    world.serves()
    world.reconciler.recheck.add(KEY)
    monkeypatch.setattr(Planner, "update", update)
    with pytest.raises(type(error)):
        await world.visit()
    return world


async def test_an_edit_of_the_pod_alone_keeps_plan_inputs_and_gpus() -> None:
    world = await served()
    world.edit(pod={"labels": {"team": "a"}})
    await world.visit()
    first, second = (
        world.memory.objects["controllerrevisions", name]["data"]
        for name in world.memory.names("controllerrevisions")
    )
    assert [first[part] for part in ("plan", "inputs", "gpu")] == [
        second[part] for part in ("plan", "inputs", "gpu")
    ]
    assert first["gpu"]["resourceName"] == "nvidia.com/gpu"
    assert first["objects"] != second["objects"]


async def test_a_pod_that_cannot_be_rendered_changes_nothing_and_names_its_field() -> None:
    world = await served()
    world.edit(pod={"affinity": {"nodeAffinity": "x"}})
    await world.visit()
    assert len(world.memory.names("controllerrevisions")) == 1
    assert world.condition("Planned") == ("False", "IllegalPin")
    assert world.status["problems"][0]["field"] == "spec.pod.affinity.nodeAffinity"


async def test_a_scaling_is_a_step_and_an_edit_that_scales_too() -> None:
    world = await served()
    world.edit(replicas=2)
    await world.visit()
    assert world.events() == ["Planned", "Ready", "Scaled"]
    world.edit(replicas=3, engine={"maxNumSeqs": 8})
    await world.visit()
    assert world.events()[3:] == ["Replanned", "Scaled"]


async def test_a_status_that_could_not_be_written_leaves_one_event_of_its_step() -> None:
    world = World()
    world.memory.refuses["apply status", "vllmservers"] = ApiError(409, "Conflict", "changed")
    with pytest.raises(Stale):
        await world.visit()
    world.memory.refuses.clear()
    await world.visit()
    assert world.events() == ["Planned"]


@pytest.mark.parametrize(("may_surge", "stays"), [(True, True), (False, False)])
async def test_what_came_before_of_another_kind_goes_first_where_no_pod_starts_beside_its(
    may_surge: bool, stays: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World()
    await world.visit()
    monkeypatch.setattr(Pinned, "may_surge", may_surge)
    deployment = world.deployment(replicas=1, updatedReplicas=1, readyReplicas=0)
    kept = {name: deployment["metadata"][name] for name in ("labels", "ownerReferences")}
    before = world.memory.keep(
        "leaderworkersets",
        {
            "apiVersion": "leaderworkerset.x-k8s.io/v1",
            "kind": "LeaderWorkerSet",
            "metadata": {"name": "qwen", "namespace": "default", **kept},
            "spec": {"replicas": 1},
        },
    )
    world.store.observe(LEADER_WORKER_SETS.kind, before)
    await world.visit()
    assert world.memory.names("leaderworkersets") == (["qwen"] if stays else [])


@pytest.mark.parametrize(
    ("code", "reason", "raised"),
    [
        (404, "NotFound", Stale),
        (409, "Conflict", Stale),
        (403, "Forbidden", ApiError),
        (422, "Invalid", ApiError),
        (500, "InternalError", ApiError),
    ],
)
async def test_a_status_of_a_server_that_changed_or_went_is_stale_and_no_other_refusal_is(
    code: int, reason: str, raised: type[Exception]
) -> None:
    world = World()
    world.memory.refuses["apply status", "vllmservers"] = ApiError(code, reason, "no")
    with pytest.raises(raised) as found:
        await world.visit()
    assert type(found.value) is raised


async def test_a_visit_ends_where_nothing_can_be_made_because_the_namespace_goes() -> None:
    world = World()
    going = NamespaceTerminating(403, "Forbidden", "because it is being terminated")
    world.memory.refuses["create", "controllerrevisions"] = going
    assert await world.visit() is None
    world.memory.refuses = {("apply", "deployments"): going}
    assert await world.visit() is None
    assert world.events() == []
