"""Trials as they are pinned: a plan that one pod is started with, what it follows, and why. Pure.

A trial is a ControllerRevision of its own, which is never in force by itself: its plan lies a level
deeper than that of others, where also releases that know no trials find none. Where it proves
better, the same plan is pinned once more, as any other.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from vllm_operator.api.v1alpha1 import VLLMServer
from vllm_operator.errors import UnreadableRevision
from vllm_operator.manifests import labels as names
from vllm_operator.manifests.planned import Planned
from vllm_operator.manifests.render import surroundings, template_of
from vllm_operator.sizing.asked.tuned import Tuned
from vllm_operator.sizing.plan.difference import plan_difference

from .learned import Learned
from .records import RevisionRecord
from .revisions import RELEASE, Pinned, content_of, owned_revision, pinned

ROLE: Final = "trial"
TUNED_FLAGS: Final = (
    "--max-num-seqs",
    "--max-num-active-seqs",
    "--max-num-batched-tokens",
    "--gpu-memory-utilization",
)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A setting to try."""

    tuned: Tuned
    trigger: str
    """What made tuning look for it."""
    evidence: Mapping[str, Any] = field(default_factory=dict)
    """What it rests on; kept, and not read here."""
    predicted: Mapping[str, Any] = field(default_factory=dict)
    """What it is to bring; kept, and not read here."""
    proposed_at: str = ""
    """When it was proposed (RFC 3339): a trial of it that was pinned since then is this one."""


@dataclass(frozen=True)
class Trial:
    """A pinned trial."""

    pinned: Pinned
    parent: str
    """Name of the plan that it was to be better than."""
    trigger: str
    evidence: Mapping[str, Any]
    predicted: Mapping[str, Any]
    before: Tuned | None
    """What was tuned in the plan that it was to be better than."""

    @property
    def name(self) -> str:
        """Name of its ControllerRevision."""
        return self.pinned.name

    @property
    def template(self) -> str:
        """What its pod carries in the label ``vllm-operator.io/template``."""
        return self.pinned.template

    @property
    def tuned(self) -> Tuned | None:
        """The setting that is tried."""
        return Learned.of(self.pinned.inputs).tuned

    def is_of(self, candidate: Candidate, in_force: Pinned) -> bool:
        """Whether it was pinned for that candidate, beside the plan in force.

        So a visit that ended after it had pinned a trial goes on with it.
        """
        same = self.parent == in_force.name and _knobs(self.tuned) == _knobs(candidate.tuned)
        return same and self.pinned.created_at >= candidate.proposed_at

    def is_in_force(self, in_force: Pinned) -> bool:
        """Whether the plan in force has what was tried, also after an edit that kept it."""
        if in_force.tuning.get("trial") == self.name:
            return True
        kept = Learned.of(in_force.inputs).tuned
        return kept is not None and _knobs(kept) == _knobs(self.tuned)

    def was_beside(self, earlier: Trial) -> bool:
        """Whether the plan that it was to be better than had what an earlier one tried."""
        return self.before is not None and _knobs(self.before) == _knobs(earlier.tuned)


def _knobs(tuned: Tuned | None) -> tuple[float | None, ...]:
    if tuned is None:
        return ()
    limits = tuned.max_num_seqs, tuned.max_num_active_seqs, tuned.max_num_batched_tokens
    return (*limits, tuned.gpu_memory_utilization)


def trial_of(record: RevisionRecord) -> Trial | None:
    """What a trial's ControllerRevision pins; None where it cannot be read."""
    said = record.data()["trial"]
    with suppress(UnreadableRevision, LookupError, TypeError):
        before = said["before"]
        return Trial(
            pinned=pinned(record),
            parent=said["parent"],
            trigger=said["trigger"],
            evidence=said["evidence"],
            predicted=said["predicted"],
            before=Tuned.from_json_object(before) if before else None,
        )
    return None


def trial_revision(
    server: VLLMServer,
    revision: int,
    inputs: Mapping[str, Any],
    planned: Planned,
    candidate: Candidate,
    parent: Pinned,
) -> dict[str, Any]:
    """The ControllerRevision of a trial of a candidate beside the plan in force."""
    before = Learned.of(parent.inputs).tuned
    content = {
        "trial": {
            "parent": parent.name,
            "before": before.to_json_object() if before else None,
            "trigger": candidate.trigger,
            "evidence": dict(candidate.evidence),
            "predicted": dict(candidate.predicted),
        },
        "pinned": content_of(server, inputs, planned, RELEASE),
    }
    body = owned_revision(server, revision, content)
    labels = {**body["metadata"]["labels"], names.ROLE: ROLE}
    return {**body, "metadata": {**body["metadata"], "labels": labels}}


def promoted(
    server: VLLMServer, revision: int, record: RevisionRecord, trial: Trial
) -> dict[str, Any]:
    """The ControllerRevision that puts a trial's plan in force; ``record`` is the trial's."""
    tuning = {"trial": trial.name, "parent": trial.parent}
    return owned_revision(server, revision, {**record.data()["pinned"], "tuning": tuning})


def restored(
    server: VLLMServer, revision: int, record: RevisionRecord, trial: Trial
) -> dict[str, Any]:
    """The ControllerRevision that puts the plan before a promoted trial in force again."""
    content = {key: value for key, value in record.data().items() if key != "abandoned"}
    return owned_revision(server, revision, {**content, "tuning": instead_of(trial)})


def instead_of(trial: Trial) -> dict[str, str]:
    """What a plan says that takes the place of a trial's."""
    return {"instead": trial.name}


def unlike(in_force: Pinned, planned: Planned) -> str | None:
    """Why a plan is no trial of the one in force; None where it differs in tuned flags alone."""
    before, now = in_force.plan, planned.plan
    if template_of(planned.objects) == in_force.template:
        return "the setting changes no argument of the engine"
    old, new = (
        surroundings(one[0]["spec"]["template"]) for one in (in_force.objects, planned.objects)
    )
    rest = [[f for f in one.flags if f.name not in TUNED_FLAGS] for one in (before, now) if one]
    arguments = [[(flag.name, flag.value) for flag in flags] for flags in rest]
    if before is None or old != new or arguments[0] != arguments[1]:
        told = plan_difference(before, now) if before is not None else None
        return f"with it a plan would differ in more than what is tuned: {told or 'its pods'}"
    return None


def retune_request(server: VLLMServer) -> str | None:
    """The value of the annotation by which a person asks that suspended tuning looks again."""
    return server.metadata.annotations.get(names.RETUNE_ANNOTATION)
