"""``vllm-operator render``: the objects that the operator would apply."""

from __future__ import annotations

import sys

import click
import yaml

from vllm_operator.api.plan import Problem
from vllm_operator.errors import InputError, PlanningError
from vllm_operator.manifests.render import Object, render
from vllm_operator.manifests.selection import gpu_selection

from .documents import read_manifests
from .plan import PLANNED_NODES, SOME_INFEASIBLE, UNREADABLE, Planned, plan_manifests, surroundings


@click.command("render")
@click.option(
    "-f",
    "--filename",
    required=True,
    metavar="FILE",
    help="Manifest with one or more VLLMServers; - reads standard input.",
)
@click.option("--nodes", metavar="FILE", help="Node objects to choose GPUs from.")
@click.option("--gpu", metavar="PRODUCT", help="GPU to plan for, instead of spec.gpu.")
@click.option("--gpus-per-node", type=click.IntRange(1, 64), metavar="N", help="GPUs in one node.")
@click.option("--offline", is_flag=True, help="Do not ask the Hugging Face Hub.")
def render_command(
    filename: str,
    nodes: str | None,
    gpu: str | None,
    gpus_per_node: int | None,
    offline: bool,
) -> None:
    """Print the objects that the operator would apply, as YAML.

    Owner references and the operator's hash annotations are missing: they need a server that
    exists. Exit status: 0, 1 if some server cannot be planned (the others are printed), 2 for
    unreadable input.
    """
    try:
        around = surroundings(nodes, gpu, gpus_per_node, offline, PLANNED_NODES)
        planned = plan_manifests(read_manifests(filename), around)
    except InputError as problem:
        click.echo(f"Error: {problem}", err=True)
        sys.exit(UNREADABLE)
    failed = False
    for one in planned:
        objects, problems = _rendered(one)
        for found in problems:
            failed = True
            click.echo(f"{one.plan.name}: {found.field}: {found.message}", err=True)
        for rendered in objects:
            click.echo("---\n" + yaml.safe_dump(rendered, sort_keys=False), nl=False)
    sys.exit(SOME_INFEASIBLE if failed else 0)


def _rendered(planned: Planned) -> tuple[tuple[Object, ...], list[Problem]]:
    if not planned.plan.feasible or planned.server is None or planned.inputs is None:
        return (), planned.plan.problems
    try:
        selection = gpu_selection(planned.server, planned.plan, planned.inputs)
        return render(planned.server, planned.plan, selection), []
    except PlanningError as error:
        problem = Problem(field=error.field, reason=error.reason, message=error.message)
        return (), [problem]
