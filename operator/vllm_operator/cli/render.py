"""``vllm-operator render``: the objects that the operator would apply."""

from __future__ import annotations

import sys

import click
import yaml

from vllm_operator.errors import InputError
from vllm_operator.manifests.planned import Planned

from .documents import read_manifests
from .plan import PLANNED_NODES, SOME_INFEASIBLE, UNREADABLE, plan_manifests, surroundings


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
        found = plan_manifests(read_manifests(filename), around)
    except InputError as problem:
        click.echo(f"Error: {problem}", err=True)
        sys.exit(UNREADABLE)
    for one in found:
        if isinstance(one, Planned):
            for rendered in one.objects:
                click.echo("---\n" + yaml.safe_dump(rendered, sort_keys=False), nl=False)
        else:
            for why in one.problems:
                click.echo(f"{one.name}: {why.field}: {why.message}", err=True)
    sys.exit(0 if all(isinstance(one, Planned) for one in found) else SOME_INFEASIBLE)
