"""What a failed start is taken for, beyond the words of its log. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from vllm_operator.engine.failures import Failure, known_failure, shown
from vllm_operator.engine.versions import Version

from .containers import Beside
from .records import ChildRecord, PodRecord
from .revisions import Pinned
from .rollout import is_lagging, is_settled

PULL: Final = "ImagePullFailed"
OBJECTS: Final = ("name", "key", "volume")
"""What a failure's numbers call an object that it is of."""


def failure_of_objects(
    in_force: Pinned, workload: ChildRecord | None, pods: Sequence[PodRecord], version: Version
) -> Failure | None:
    """What stops a plan where no container of its pods tells it: their node, or the API server."""
    if workload is None:
        return None
    lost = None if is_settled(workload) else lost_pod(in_force, pods)
    found = known_failure("failed", lost.failure, version) if lost is not None else None
    if found is None and not is_lagging(workload):
        found = known_failure("deployment", workload.message, version)
    return found


def failure_to_wait(waits: str, in_force: Pinned, version: Version) -> Failure | None:
    """What keeps the engine's container waiting, by its reason and message.

    A kubelet tells a pull of the image that holds the model as one of the engine's own.
    """
    found = known_failure("waiting", waits, version)
    storage = in_force.plan.storage if in_force.plan else None
    if found is None or found.reason != PULL or storage is None or storage.kind != "Image":
        return found
    if not storage.source or storage.source not in waits:
        return found
    field = "spec.model.storage.image.reference"
    return replace(
        found,
        field=field if found.field == "spec.engine.image" else found.field,
        means=f"{storage.source}, which holds the model: {found.means}",
        remedy=found.remedy.replace("spec.engine.image", field),
    )


def failure_beside(beside: Beside, version: Version) -> Failure:
    """What another container of a pod fails of, whoever put it there."""
    known = known_failure("waiting", beside.waits, version) if beside.waits else None
    if beside.waits:
        why = f"cannot start: {known.means if known else shown(beside.waits)}"
    else:
        why = f"ended with {shown(beside.ending)}"
    return Failure(
        reason="ContainerFailed",
        means=f"{beside.container} ({shown(beside.image)}), which is not the engine, {why}",
        remedy="mend it where it comes from, in spec.pod or in what injects it; an injection is "
        "kept away by the label or annotation that it looks at (spec.pod.labels, "
        "spec.pod.annotations)",
        field="spec.pod",
    )


def lost_pod(in_force: Pinned, pods: Sequence[PodRecord]) -> PodRecord | None:
    """The newest pod of the plan that its node ended as a whole (evicted, not taken).

    Such pods stay as objects. They are no news where one of the plan is ready that was made after
    them, or from a time when the plan was in force before.
    """
    mine = [pod for pod in pods if pod.template == in_force.template]
    lost = [pod for pod in mine if pod.failure and pod.created_at >= in_force.created_at]
    newest = max(lost, key=lambda pod: (pod.created_at, pod.name), default=None)
    if newest is None or any(pod.ready and pod.created_at >= newest.created_at for pod in mine):
        return None
    return newest


def crashed(failure: Failure) -> Failure:
    """The failure of an engine that had served: its plan works, so it is started again as it is."""
    return replace(
        failure,
        reason="EngineCrashed" if failure.reason == "EngineFailed" else failure.reason,
        means=f"the engine crashed while it served: {failure.means}",
        passes=True,
        repair="none",
    )


def is_news(failure: Failure, said: Failure) -> bool:
    """Whether a failure says more than what was said of the same plan before.

    Numbers differ a little from start to start, and the end of one start may disturb the next:
    neither is news. The same of another object is.
    """
    if said.reason == failure.reason:
        return any(said.numbers.get(one) != failure.numbers.get(one) for one in OBJECTS)
    return said.passes or not failure.passes
