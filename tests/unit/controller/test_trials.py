"""A trial over whole visits: wherever the operator ends, the next one goes on from there."""

from __future__ import annotations

import json
from typing import Any

import pytest

from support.directed import DIRECTION, Directed
from vllm_operator.lifecycle.kinds import STORED

from .fakes import Memory, Object
from .test_visits import World

HOLD = 2147483646
SPEC: dict[str, Any] = {"replicas": 2, "autotune": {"mode": "Auto"}, "gpu": {"product": "H100"}}
VISITS = 12
"""More than anything here takes."""


class Ended(BaseException):
    """The operator was killed, and never heard of its write."""


class Mortal(Memory):
    """Ends the operator after its n-th write, once."""

    def __init__(self) -> None:
        super().__init__()
        self.left = 0

    def keep(self, plural: str, body: Any) -> Object:
        kept = super().keep(plural, body)
        self._count(plural)
        return kept

    async def delete(self, *given: Any, **options: Any) -> None:
        await super().delete(*given, **options)
        self._count("")

    def _count(self, plural: str) -> None:
        if self.left and plural not in ("pods", "events"):
            self.left -= 1
            if not self.left:
                raise Ended


class Story:
    """A server of two replicas, whose Deployment and pods are played."""

    def __init__(self) -> None:
        self.memory = Mortal()
        self.world = World(memory=None, tuner=Directed(), **SPEC)
        self.memory.objects = self.world.memory.objects
        self.restart()
        self.most_tried = 0

    def restart(self) -> None:
        """Another process: it knows what the API server has, and nothing else."""
        now = self.world.now
        self.world = World(memory=self.memory, tuner=Directed())
        self.world.now = now
        kinds = {one.plural: one.kind for one in STORED}
        for (plural, _), body in sorted(self.memory.objects.items()):
            if plural in kinds:
                self.world.store.observe(kinds[plural], body)

    def direct(self, wants: str) -> None:
        body = self.memory.objects["vllmservers", "qwen"]
        said = {DIRECTION: json.dumps({"wants": wants, "maxNumSeqs": 64})}
        metadata = {**body["metadata"], "annotations": said}
        kept = self.memory.keep("vllmservers", {**body, "metadata": metadata})
        self.world.store.observe("VLLMServer", kept)

    def deployment(self) -> Object:
        return self.memory.objects["deployments", "qwen"]

    def template(self) -> str:
        labels = self.deployment()["spec"]["template"]["metadata"]["labels"]
        return str(labels["vllm-operator.io/template"])

    def pods(self) -> dict[str, str]:
        """Templates by name."""
        return {
            name: body["metadata"]["labels"]["vllm-operator.io/template"]
            for (plural, name), body in self.memory.objects.items()
            if plural == "pods"
        }

    def play(self) -> None:
        """What the Deployment's controller and the kubelets come to."""
        spec, newest = self.deployment()["spec"], self.template()
        of_newest = [name for name, template in self.pods().items() if template == newest]
        others = [name for name, template in self.pods().items() if template != newest]
        held = spec.get("minReadySeconds", 0) >= HOLD
        wanted = 1 if held and others else spec["replicas"]
        for number in range(wanted - len(of_newest)):
            self.world.pod(f"{newest}-{len(of_newest) + number}", ready=True)
        for name in [] if held else others:
            self.world.remove(name)
        here = self.pods()
        status = {"replicas": len(here), "readyReplicas": len(here)}
        updated = sum(template == newest for template in here.values())
        self.world.deployment(**status, updatedReplicas=updated)
        if held:
            self.most_tried = max(self.most_tried, updated)

    async def settle(self) -> bool:
        """Visit until nothing is written; whether the operator was killed meanwhile."""
        killed = False
        for _ in range(VISITS):
            before = len(self.memory.writes)
            try:
                again = await self.world.visit()
            except Ended:
                killed, again = True, 0.0
                self.restart()
            if ("deployments", "qwen") in self.memory.objects:
                left, self.memory.left = self.memory.left, 0
                self.play()
                self.memory.left = left
            if again != 0.0 and len(self.memory.writes) == before:
                return killed
        raise AssertionError(f"it does not settle: {self.memory.writes[-20:]}")

    def trials(self) -> list[str]:
        """Names of pinned trials."""
        return [
            name
            for (plural, name), body in self.memory.objects.items()
            if plural == "controllerrevisions" and "trial" in body["data"]
        ]

    def budget(self) -> Object:
        found = dict(self.memory.objects["poddisruptionbudgets", "qwen"]["spec"])
        return {key: found[key] for key in found if key in ("maxUnavailable", "minAvailable")}


async def begun(write: int = 0) -> tuple[Story, dict[str, str], bool]:
    """A story with a trial that is held; its pods before, and whether the operator was killed."""
    story = Story()
    await story.settle()
    before = story.pods()
    assert len(before) == 2
    story.direct("TRIAL")
    story.memory.left = write
    killed = await story.settle()
    story.memory.left = 0
    assert story.deployment()["spec"]["minReadySeconds"] == HOLD
    assert before.items() <= story.pods().items()
    assert len(story.pods()) == 3
    assert story.budget() == {"minAvailable": 2}
    return story, before, killed


async def test_a_trial_begins_as_one_wherever_the_operator_ends() -> None:
    writes, killed = 0, True
    while killed:
        writes += 1
        story, _, killed = await begun(writes)
        assert len(story.trials()) == 1
        assert story.most_tried == 1
    assert writes > 4  # the trial, the budget, the Deployment and the status


@pytest.mark.parametrize("wants", ["STABLE", "PROMOTED"])
async def test_a_trial_ends_as_one_wherever_the_operator_ends(wants: str) -> None:
    writes, killed = 0, True
    while killed:
        writes += 1
        story, before, _ = await begun()
        (tried,) = story.pods().items() - before.items()
        story.direct(wants)
        story.memory.left = writes
        killed = await story.settle()
        spec = story.deployment()["spec"]
        assert "minReadySeconds" not in spec
        assert "paused" not in spec
        assert "vllm-operator.io/trial" not in story.deployment()["metadata"]["annotations"]
        assert story.budget() == {"maxUnavailable": 1}
        assert len(story.trials()) == 1
        after = story.pods()
        assert after == before if wants == "STABLE" else tried in after.items()
        assert len(after) == 2
    assert writes > 3  # the Deployment, the status, the budget; of a promotion its plan


async def test_a_promoted_trial_that_is_taken_back_leaves_the_plan_before() -> None:
    story, _, _ = await begun()
    story.direct("PROMOTED")
    await story.settle()
    tried = story.template()
    story.direct("STABLE")
    await story.settle()
    assert tried not in story.pods().values()
    assert len(story.pods()) == 2
    newest = max(
        (body for (plural, _), body in story.memory.objects.items() if plural.startswith("contr")),
        key=lambda body: body["revision"],
    )
    assert newest["data"]["tuning"] == {"instead": story.trials()[0]}


async def test_a_server_without_autotune_is_not_asked_about() -> None:
    class Loud(Directed):
        def wants(self, key: Any, world: Any) -> Any:
            raise AssertionError("it was asked")

    world = World(tuner=Loud(), replicas=2, gpu={"product": "H100"})
    await world.visit()
