"""The guides' scenarios and models as examples, and the comment that says what is predicted.

``PYTHONPATH=operator:tools:tests .venv/bin/python -m docs.recipes`` writes the comments anew.
"""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

from docs.support import ROOT
from vllm_operator.api.plan import Plan
from vllm_operator.api.quantity import GIBIBYTE
from vllm_operator.cli.documents import read_manifests
from vllm_operator.cli.plan import plan_manifests, surroundings
from vllm_operator.manifests.planned import Planned

FOLDER = ROOT / "examples" / "guides"
RECIPES = sorted(one for one in FOLDER.glob("*.yaml") if "kind: VLLMServer" in one.read_text())
CHOOSES = "cost"
"""The recipe that chooses among nodes by prices."""
WIDTH = 100


def plans(path: Path) -> dict[str, Plan]:
    """The plan of each server of a recipe, without a cluster."""
    chooses = path.stem == CHOOSES
    around = surroundings(
        str(FOLDER / "nodes.yaml") if chooses else None,
        None,
        None,
        offline=True,
        prices=str(FOLDER / "prices.yaml") if chooses else None,
    )
    found = plan_manifests(read_manifests(str(path)), around)
    assert all(isinstance(one, Planned) for one in found), found
    return {one.plan.name: one.plan for one in found if isinstance(one, Planned)}


def predicted(path: Path) -> dict[str, str]:
    """The comment of each server's figures, by its name."""
    return {name: comment(plan) for name, plan in plans(path).items()}


def comment(plan: Plan) -> str:
    speed, capacity, memory = plan.performance, plan.capacity, plan.memory
    assert speed is not None
    text = (
        f"predicted for {plan.name}: {plan.placement.gpus_per_replica} x {plan.placement.gpu}, "
        f"utilization {memory.utilization:g}, {memory.weights / GIBIBYTE:.2f} GiB of weights, "
        f"{capacity.kv_tokens.low:,} tokens of KV cache for sure, requests of up to "
        f"{capacity.max_model_len:,} tokens, at most {capacity.max_num_seqs} at once; "
        f"{speed.output_tokens_per_second:g} output tokens a second with {speed.concurrency} "
        f"requests of {speed.prompt_tokens} + {speed.output_tokens} tokens at once, "
        f"{speed.output_tokens_per_second_per_request:g} for each, "
        f"{1000 * speed.time_to_first_token:.4g} ms to the first token{_cost(plan)}"
    )
    lines = textwrap.wrap(text, WIDTH - 4)
    return "\n".join([f"# {lines[0]}", *(f"#   {line}" for line in lines[1:])])


def _cost(plan: Plan) -> str:
    cost = plan.cost
    if cost is None:
        return ""
    return (
        f"; {cost.hour:g} {cost.currency} an hour, {cost.million_output_tokens:g} for a million "
        "output tokens"
    )


def write() -> None:
    """Write the comments of all recipes anew."""
    for path in RECIPES:
        text = path.read_text()
        for name, line in predicted(path).items():
            text = re.sub(
                rf"^# predicted for {name}:.*(\n#   .*)*$", line, text, flags=re.MULTILINE
            )
        path.write_text(text)


if __name__ == "__main__":
    write()
