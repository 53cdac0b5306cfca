"""Why no plan is put in force, whether that may pass, and when to ask again. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from vllm_operator.api.conditions import truncate
from vllm_operator.api.plan import Problem, Unplanned
from vllm_operator.errors import NameConflict, PredecessorRemains, TemporaryFailure
from vllm_operator.sizing.asked.inputs import PlanningInputs

_ONE_TIME: Final = re.compile(
    r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|\b[0-9a-f]{16,}\b"
    r"|\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d[\d.]*Z?"
)
"""Identifiers of requests, and times."""

PREDECESSOR_SECONDS: Final = 1.0
ASK_AGAIN_SECONDS: Final = 30.0
"""How often to look for what no watch delivers: a foreign object, a ConfigMap to come."""


@dataclass(frozen=True, slots=True)
class Objection:
    """Why no plan is put in force, or what keeps its objects from being applied."""

    problems: tuple[Problem, ...] = ()
    waits: bool = False
    """Whether they may pass by themselves."""
    ask_again: float | None = None


def unplannable(found: Unplanned, inputs: PlanningInputs) -> Objection:
    """What a visit comes to where a specification cannot be planned.

    Nodes may come where none is seen, and so may the ConfigMap that a model refers to; no watch
    delivers the latter.
    """
    reasons = {problem.reason for problem in found.problems}
    fields = [problem.field for problem in found.problems]
    awaits_nodes = reasons == {"UnknownGPU"} and inputs.nodes_visible and not inputs.offers
    awaits_facts = all(field.startswith("spec.model.configMapRef") for field in fields)
    return Objection(
        tuple(found.problems),
        waits=awaits_nodes or awaits_facts,
        ask_again=ASK_AGAIN_SECONDS if awaits_facts else None,
    )


def no_trial(why: str) -> Objection:
    """What comes of a setting that is no trial of the plan in force."""
    return Objection((_problem("Infeasible", why, "spec.autotune"),))


def unavailable(failure: TemporaryFailure) -> Objection:
    """What a visit comes to where a source of the inputs is away."""
    message = f"{failure.message}; asked again every {ASK_AGAIN_SECONDS:.0f} s"
    problem = _problem("SourceUnavailable", message, failure.field or "spec")
    return Objection((problem,), waits=True, ask_again=ASK_AGAIN_SECONDS)


def conflicted(conflict: NameConflict) -> Objection:
    """What a visit comes to where a name is taken."""
    waits = isinstance(conflict, PredecessorRemains)
    remedy = (
        "it belongs to a deleted server of this name and is about to be collected"
        if waits
        else "it stays untouched: rename this server, or delete that object"
    )
    problem = Problem(field="metadata.name", reason="NameConflict", message=f"{conflict}; {remedy}")
    again = PREDECESSOR_SECONDS if waits else ASK_AGAIN_SECONDS
    return Objection((problem,), waits=waits, ask_again=again)


def refused_by_server(message: str) -> Objection:
    """What a visit comes to where the API server, a quota or a webhook refuses an object."""
    return Objection((_problem("ObjectRefused", message),), ask_again=ASK_AGAIN_SECONDS)


def steadied(problem: Problem, said: Sequence[Problem]) -> Problem:
    """A problem in the words in which it was said before, where no more than an identifier differs.

    A webhook or an API server may name each request, and it is asked again and again: that the
    words are others is no news, and no reason for a write.
    """
    what = _ONE_TIME.sub("", problem.message)
    known = (one for one in said if (one.reason, one.field) == (problem.reason, problem.field))
    return next((one for one in known if _ONE_TIME.sub("", one.message) == what), problem)


def unexpected(error: Exception) -> Objection:
    """What a visit comes to where planning itself is broken: said, and nothing else stops."""
    message = (
        f"planning failed unexpectedly ({type(error).__name__}: {error}); this is a defect of the "
        "operator, whose log has the details. What runs goes on"
    )
    return Objection((_problem("OperatorDefect", message),), ask_again=ASK_AGAIN_SECONDS)


def _problem(reason: str, message: str, field: str = "spec") -> Problem:
    return Problem(field=field[:200], reason=reason, message=truncate(message))
