"""The operator, but that tuning begins where a variable says, or tries what a variable says.

``python -m localcluster.posed run …`` is ``vllm-operator run …`` with it. BEGIN_AT is the
`--max-num-seqs` of a server's first plan: a person could begin anywhere only with a pin, which
takes the flag from tuning, so the plan begins as one for which a trial has proven that value. With
TRY_THE_SAME what is proposed, as soon as the evidence is enough, is the same setting but for
0.01 of `--gpu-memory-utilization`, which nothing on a CPU depends on.
"""

import os
from dataclasses import replace
from typing import Any

from vllm_operator.api.plan import Unplanned
from vllm_operator.api.v1alpha1 import VLLMServer
from vllm_operator.cli.main import main
from vllm_operator.controller import planning
from vllm_operator.lifecycle.learned import Learned, taken_over
from vllm_operator.lifecycle.revisions import Pinned
from vllm_operator.manifests.planned import Planned
from vllm_operator.sizing.asked.tuned import Tuned
from vllm_operator.tuning import tuner
from vllm_operator.tuning.choice import choose
from vllm_operator.tuning.forecast import Forecasts
from vllm_operator.tuning.proposals import Proposal, Reason, Rest

LESS = 0.01


def begin_at(seqs: int) -> None:
    """First plans have so many sequences."""
    first = Learned(tuned=Tuned("where tuning begins", max_num_seqs=seqs))
    fits = planning._tuned_for

    def begun(server: VLLMServer, in_force: Pinned | None) -> Learned:
        return first if in_force is None else taken_over(server, in_force)

    def tuned_for(found: Planned | Unplanned, in_force: Pinned | None) -> bool:
        return in_force is None or fits(found, in_force)

    planning.taken_over = begun  # type: ignore[attr-defined]
    planning._tuned_for = tuned_for


def try_the_same() -> None:
    """Where anything could be proposed, the setting of now in another template is."""

    def same(
        server: Any,
        posterior: Any,
        load: Any,
        diagnosis: Any,
        now: Any,
        plan_at: Any,
        **others: Any,
    ) -> Proposal | Rest:
        found = choose(server, posterior, load, diagnosis, now, plan_at, **others)
        if isinstance(found, Rest) and found.reason in (Reason.NO_EVIDENCE, Reason.BROKEN):
            return found
        forecast = Forecasts(server, posterior, load, others["objective"], now=now).at(now)
        knobs = replace(now, gpu_memory_utilization=now.gpu_memory_utilization - LESS)
        return Proposal(knobs, diagnosis, forecast, forecast, cold=False, message="the same")

    tuner.choose = same  # type: ignore[attr-defined]


def run() -> None:
    """The command line, posed."""
    if seqs := os.environ.get("BEGIN_AT"):
        begin_at(int(seqs))
    if os.environ.get("TRY_THE_SAME"):
        try_the_same()
    main()


if __name__ == "__main__":
    run()
