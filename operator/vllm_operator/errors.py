"""Every exception that this project raises on purpose.

::

    VLLMOperatorError
    ├── InputError                 somebody's input cannot be read at all (exit status 2)
    ├── PlanningError              a readable specification cannot be planned; carries one Problem
    │   ├── UnknownModel           no source knows the model's facts
    │   ├── UnknownGPU             no source knows the GPU product, or there is none to choose
    │   ├── ModelAccessDenied      the Hub knows the model and refuses to show it
    │   ├── UnsupportedEngineVersion
    │   ├── IllegalPin             a pin that this vLLM would refuse, or that contradicts another
    │   ├── LeaderWorkerSetMissing a replica takes several nodes, and the cluster has no such API
    │   └── Infeasible             everything is known and nothing fits
    ├── TemporaryFailure           an edge (Hub, API server) failed; the same call may succeed later
    │   ├── Stale                  … it was asked for what is out of date
    │   ├── LeadershipLost         … the Lease; this process must act no more
    │   └── Unanswered             … Prometheus; why becomes a reason to hold
    ├── ApiError                   the API server answered, and not with success
    │   └── NamespaceTerminating   … because the namespace is being deleted, or gone
    ├── NameConflict               an object of that name exists and is somebody else's
    │   └── PredecessorRemains     … a deleted server's of that name, to be collected any moment
    ├── UnreadableRevision         a pinned plan that nothing can be read from
    ├── Irreparable                a failed start that no smaller limit of the plan mends
    └── GroupsAppeared             LeaderWorkerSet was installed: the process is to start afresh

A planning error is the user's to mend and is never retried by itself; a temporary failure is
retried with back-off and leaves everything that runs untouched.
"""

from __future__ import annotations

from typing import ClassVar


class VLLMOperatorError(Exception):
    """Base of every exception raised on purpose."""


class InputError(VLLMOperatorError):
    """Input that cannot be read: malformed YAML, a wrong kind, an unreadable file."""


class PlanningError(VLLMOperatorError):
    """A specification that cannot be planned.

    ``field`` is the path in the manifest (``spec.gpu.product``) and ``message`` says what is
    wrong, with the numbers, and the nearest choice that works.
    """

    reason: ClassVar[str]
    """The kind's own name."""

    def __init_subclass__(cls) -> None:
        cls.reason = cls.__name__

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message


class UnknownModel(PlanningError):
    """No source knows what sizing needs to know about the model."""


class UnknownGPU(PlanningError):
    """The GPU product is in no catalogue, or there is none to choose from."""


class ModelAccessDenied(PlanningError):
    """The Hub knows the model and refuses to show it (gated or private)."""


class UnsupportedEngineVersion(PlanningError):
    """A vLLM version that this release does not know how to run."""


class IllegalPin(PlanningError):
    """A field of the manifest that this vLLM would refuse, or that contradicts another field."""


class LeaderWorkerSetMissing(PlanningError):
    """A replica takes several nodes, and the cluster lacks the API that keeps such groups."""


class Infeasible(PlanningError):
    """Everything is known and no layout fits the GPUs."""


class TemporaryFailure(VLLMOperatorError):
    """An edge failed in a way that may pass: the Hub timed out, the API server was away.

    ``field`` is the path in the manifest that names what was asked for; empty where none does.
    """

    def __init__(self, message: str, field: str = "") -> None:
        super().__init__(f"{field}: {message}" if field else message)
        self.field = field
        self.message = message


class Stale(TemporaryFailure):
    """What was read is out of date; the next visit reads better."""


class LeadershipLost(TemporaryFailure):
    """Somebody else may act now; this process must not."""


class Unanswered(TemporaryFailure):
    """Prometheus gave no answer that can be used; the text says why, for a reason to hold."""

    def __init__(self, problem: str, divide: bool = False) -> None:
        super().__init__(problem)
        self.divide = divide
        """Whether a question about fewer pods may be answered."""


class ApiError(VLLMOperatorError):
    """The API server answered, and not with success."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(f"{code} {reason}: {message}")
        self.code = code
        self.reason = reason
        self.message = message


class NamespaceTerminating(ApiError):
    """Nothing can be made in a namespace that is being deleted or gone, and nothing needs to be."""


class NameConflict(VLLMOperatorError):
    """An object of the name that we need exists and is not controlled by this server."""

    def __init__(self, kind: str, name: str, owner: str) -> None:
        super().__init__(f"{kind} {name} exists and is {owner}")
        self.kind = kind
        self.name = name
        self.owner = owner


class PredecessorRemains(NameConflict):
    """The object belongs to a deleted server of the same name and is to be garbage-collected."""


class UnreadableRevision(VLLMOperatorError):
    """A ControllerRevision of ours that holds nothing to act by."""


class Irreparable(VLLMOperatorError):
    """Why a repair cannot be."""


class GroupsAppeared(VLLMOperatorError):
    """Somebody installed LeaderWorkerSet: Kopf begins a watch only at its start."""
