"""What a visit tells tuning of one server, and what tuning's answer means for it. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from vllm_operator.api.canonical import digest
from vllm_operator.api.ledger import Tuning
from vllm_operator.api.plan import Plan
from vllm_operator.api.v1alpha1 import VLLMServer
from vllm_operator.engine.versions import Version
from vllm_operator.manifests.pod import surge_timeout_seconds
from vllm_operator.manifests.render import DEPLOYMENT
from vllm_operator.sizing.asked.inputs import PlanningInputs
from vllm_operator.sizing.asked.tuned import Tuned
from vllm_operator.sizing.plan.planner import make_plan
from vllm_operator.sizing.plan.speed import Described, described
from vllm_operator.tuning.candidates import Range, Rules, has_active_seqs
from vllm_operator.tuning.curve import key
from vllm_operator.tuning.edges import HELD, PROMOTED
from vllm_operator.tuning.knobs import Knobs, Objective
from vllm_operator.tuning.ledger import TrialRevision, knobs_of, seconds_of
from vllm_operator.tuning.machine import wants
from vllm_operator.tuning.proposals import Planned, Refused
from vllm_operator.tuning.scene import Facts, Scene
from vllm_operator.tuning.standing import (
    Desired,
    Halt,
    Mode,
    State,
    Wants,
)
from vllm_operator.tuning.story import change
from vllm_operator.tuning.window import NEVER, Window

from .intent import World
from .revisions import Pinned, planned_fields
from .trial import Wanted, is_going
from .trial_scene import candidate_of, change_of, ready_at, settled_since, stable_of
from .trials import Candidate as Tried
from .trials import Trial, retune_request

TRIALS_A_DAY: Final = 2
DEFAULT_PERCENTILE: Final = 95
PART: Final = tuple(state.value for state in (*HELD, *PROMOTED, State.ROLLING_BACK))


def objective_of(server: VLLMServer) -> Objective | None:
    """``spec.workload.slo`` in seconds; None where no latency is named."""
    slo = server.spec.workload.slo if server.spec.workload else None
    if slo is None:
        return None
    first, gap = slo.time_to_first_token_milliseconds, slo.inter_token_latency_milliseconds
    if first is None and gap is None:
        return None
    return Objective(
        time_to_first_token=None if first is None else first / 1000,
        inter_token_latency=None if gap is None else gap / 1000,
        percentile=float(slo.percentile or DEFAULT_PERCENTILE),
    )


def knobs_in_force(plan: Plan) -> Knobs:
    """The setting of a plan."""
    active = next((flag.value for flag in plan.flags if flag.name == "--max-num-active-seqs"), None)
    return Knobs(
        plan.capacity.max_num_seqs,
        plan.capacity.max_num_batched_tokens,
        plan.memory.utilization,
        int(active) if active else None,
    )


def tuned_of(now: Knobs, then: Knobs, before: Tuned | None, reason: str) -> Tuned:
    """The values of a setting: those that differ, beside those that are tuned already."""
    kept = before or Tuned("")
    active = then.max_num_active_seqs
    return replace(
        kept,
        reason=reason,
        max_num_seqs=then.max_num_seqs
        if then.max_num_seqs != now.max_num_seqs
        else kept.max_num_seqs,
        max_num_active_seqs=active,
        max_num_batched_tokens=then.max_num_batched_tokens
        if then.max_num_batched_tokens != now.max_num_batched_tokens
        else kept.max_num_batched_tokens,
        gpu_memory_utilization=then.gpu_memory_utilization
        if then.gpu_memory_utilization != now.gpu_memory_utilization
        else kept.gpu_memory_utilization,
    )


def facts_of(server: VLLMServer, in_force: Pinned) -> Facts | None:
    """What tuning knows of the plan in force; None where the performance model does not describe
    it."""
    plan = in_force.plan
    if plan is None or in_force.workload != DEPLOYMENT:
        return None
    inputs = PlanningInputs.from_json_object(in_force.inputs)
    inputs = replace(inputs, preferred_product=plan.placement.gpu)
    found = described(server, inputs)
    if found is None:
        return None
    now = knobs_in_force(plan)
    ceiling = max(now.gpu_memory_utilization, found.safe_utilization)
    return Facts(
        knobs=now,
        server_at=lambda knobs: found.at(knobs.cap, knobs.max_num_batched_tokens),
        plan_at=_planner(server, inputs, now, plan, ceiling),
        rules=_rules(server, plan, found),
        objective=objective_of(server),
        pod_kv_tokens=float(plan.capacity.kv_tokens.expected),
    )


def _rules(server: VLLMServer, plan: Plan, found: Described) -> Rules:
    pins, autotune = server.spec.engine, server.spec.autotune
    bounds = autotune.bounds if autotune else None
    seqs = bounds.max_num_seqs if bounds else None
    tokens = bounds.max_num_batched_tokens if bounds else None
    utilization = bounds.gpu_memory_utilization if bounds else None
    return Rules(
        active_seqs=has_active_seqs(Version.parse(plan.engine.version)),
        pinned_seqs=pins is not None
        and (pins.max_num_seqs is not None or pins.max_num_active_seqs is not None),
        pinned_tokens=pins is not None and pins.max_num_batched_tokens is not None,
        pinned_utilization=pins is not None and pins.gpu_memory_utilization is not None,
        seqs=Range(seqs.min, seqs.max) if seqs else Range(),
        tokens=Range(tokens.min, tokens.max) if tokens else Range(),
        utilization=Range(utilization.min, utilization.max) if utilization else Range(),
        graphs=found.graphs,
        cold_seconds=plan.startup.seconds,
        warm_seconds=plan.startup.seconds,
    )


def _planner(
    server: VLLMServer, inputs: PlanningInputs, now: Knobs, plan: Plan, ceiling: float
) -> Callable[[Knobs], Planned | Refused]:
    """The planner's word on a setting, with the inputs that are pinned."""

    def planned(knobs: Knobs) -> Plan | str:
        tuned = tuned_of(now, knobs, inputs.tuned, "tried")
        tuned = replace(tuned, max_model_len=plan.capacity.max_model_len)
        found = make_plan(server, replace(inputs, tuned=tuned))
        if not isinstance(found, Plan):
            return found.problems[0].message
        got = knobs_in_force(found)
        if got.cap != knobs.cap or got.max_num_batched_tokens != knobs.max_num_batched_tokens:
            return "memory or a stated load bounds it"
        return found

    def plan_at(knobs: Knobs) -> Planned | Refused:
        found = plan if knobs == now else planned(knobs)
        if isinstance(found, str):
            return Refused(found)
        return Planned(float(found.capacity.kv_tokens.low), ceiling)

    return plan_at


def curve_key(plan: Plan) -> str:
    """Of servers whose steps take equally long: model, version, GPU, split, and data types."""
    flags = {flag.name: flag.value for flag in plan.flags}
    place = plan.placement
    types = [flags.get(name) for name in ("--dtype", "--quantization", "--kv-cache-dtype")]
    split = f"{place.tensor}x{place.pipeline}x{place.data}x{place.expert}"
    return key(plan.model.id, plan.engine.version, place.gpu, split, str(types))


def kind_of(server: VLLMServer, plan: Plan) -> str:
    """Of what a trial says something: model, image, GPU, split, workload, objective, and the
    annotation that asks to tune again."""
    fields = planned_fields(server.spec)
    workload = server.spec.workload
    return digest(
        [
            fields["model"],
            plan.engine.image,
            plan.placement.to_json_object(),
            workload.to_json_object() if workload else None,
            retune_request(server),
        ],
        16,
    )


def scene_of(world: World, *, permit: bool, may_preempt: bool = False) -> Scene:
    """What is seen of a server for tuning; ``permit`` is whether the operator has a trial to give,
    ``may_preempt`` whether a trial's pod may push others' pods off a node, as those of servers with
    a priority class might.
    """
    server, in_force = world.server, world.in_force
    assert in_force is not None
    assert in_force.plan is not None
    autotune, tuning = server.spec.autotune, world.remembered.status.tuning
    mode = Mode(autotune.mode or "Disabled") if autotune else Mode.DISABLED
    halt = Halt.STOPPED if server.spec.replicas == 0 else Halt.NONE
    mine = [pod for pod in world.pods if pod.template == in_force.template and not is_going(pod)]
    serving = [pod for pod in mine if pod.serves]
    trial = next((pod for pod in world.trial.pods if pod.serves), None)
    pod = trial or next(iter(world.trial.pods), None)
    priority = server.spec.pod is not None and server.spec.pod.priority_class_name is not None
    forbids = autotune is None or autotune.disruption != "Allow"
    start = surge_timeout_seconds(server.spec) + in_force.plan.startup.budget_seconds
    displaces = bool(world.trial.mark and world.trial.mark.in_place)
    return Scene(
        desired=Desired(mode, halt),
        pods=frozenset(one.name for one in serving),
        stable=stable_of(world, serving),
        trial_pod=trial.name if trial else None,
        trial_ready=ready_at(trial) if trial else None,
        candidate=candidate_of(world, pod, mine, tuning),
        change=change_of(world, tuning),
        in_place=displaces and server.spec.replicas == 1,
        displaces=displaces,
        start_seconds=start,
        kind=kind_of(server, in_force.plan),
        revisions=[_revision(world, one) for one in world.revisions.trials],
        describable=may_preempt or not (priority and forbids),
        replicas=server.spec.replicas,
        settled_since=settled_since(world, serving),
        starts_allowed=TRIALS_A_DAY
        if autotune is None or autotune.max_trials_per_day is None
        else autotune.max_trials_per_day,
        window=_window(server),
        permit=permit,
    )


def wanted_of(tuning: Tuning | None, world: World, facts: Facts, *, news: bool) -> Wanted:
    """What is asked for of the server's Deployment by the status, ``with_revision``.

    ``news``: the status is to say something else after this visit. Then only what is held goes on:
    what is done is what was written down before, so that an operator that is killed in between goes
    on with it, and neither begins twice nor forgets why a plan is in force.
    """
    trial, in_force = tuning.trial if tuning else None, world.in_force
    if tuning is None or trial is None or in_force is None:
        return Wanted()
    state = State(tuning.state)
    asked = wants(state)
    name = trial.revision or ""
    if asked is Wants.TRIAL and name and world.trial.held is not None:
        return Wanted(Wants.TRIAL, name)
    if news:
        return Wanted()
    if asked is Wants.PROMOTED:
        return Wanted(Wants.PROMOTED, name)
    if asked is Wants.STABLE:
        return Wanted(Wants.STABLE, name) if state is State.ROLLING_BACK else Wanted()
    if state is not State.STARTING or trial.replaced:
        return Wanted(Wants.TRIAL, name) if name else Wanted()
    assert in_force.plan is not None
    reason = f"{change(trial.source, trial.to)}: {trial.trigger}"
    before = PlanningInputs.from_json_object(in_force.inputs).tuned
    tuned = tuned_of(facts.knobs, knobs_of(trial.to), before, reason)
    candidate = Tried(
        tuned=tuned,
        trigger=trial.diagnosis,
        evidence={
            "kind": kind_of(world.server, in_force.plan),
            **(trial.evidence.to_json_object() if trial.evidence else {}),
        },
        predicted=trial.predicted.to_json_object() if trial.predicted else {},
        proposed_at=trial.proposed_at,
    )
    return Wanted(Wants.TRIAL, candidate=candidate)


def with_revision(world: World) -> Tuning | None:
    """The status with the name of the trial that was begun: it is pinned after the status says
    that one begins."""
    tuning = world.remembered.status.tuning
    if tuning is None or tuning.trial is None or tuning.state not in PART:
        return tuning
    if tuning.trial.revision is not None:
        return tuning
    since = tuning.trial.proposed_at
    known = [one for one in world.revisions.trials if one.pinned.created_at >= since]
    if not known:
        return tuning
    named = {"revision": known[-1].name, "parent": known[-1].parent}
    return tuning.model_copy(update={"trial": tuning.trial.model_copy(update=named)})


def _revision(world: World, trial: Trial) -> TrialRevision:
    return TrialRevision(
        name=trial.name,
        started=seconds_of(trial.pinned.created_at),
        kind=str(trial.evidence.get("kind", "")),
        promoted=world.revisions.promoted(trial),
    )


def window_problem(server: VLLMServer) -> str:
    """What is wrong with ``spec.autotune.window`` beyond its schema, with its path; empty where
    nothing is."""
    found = _window_asked(server)
    return f"spec.autotune.window.{found}" if isinstance(found, str) else ""


def _window(server: VLLMServer) -> Window | None:
    found = _window_asked(server)
    return NEVER if isinstance(found, str) else found


def _window_asked(server: VLLMServer) -> Window | str | None:
    """None where none is asked for, or what is wrong with it."""
    asked = server.spec.autotune.window if server.spec.autotune else None
    if asked is None:
        return None
    try:
        return Window.read(asked.schedule, asked.duration_minutes, asked.time_zone)
    except ValueError as error:
        return str(error)
