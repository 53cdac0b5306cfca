"""``vllm-operator render``: the objects that the operator would apply."""

from __future__ import annotations

import sys

import click
import yaml

from vllm_operator.api.pod import Identity
from vllm_operator.manifests.planned import Planned

from .plan import PLANNED_NODES, exit_status, planned_or_exit


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
@click.option(
    "--pod-identity",
    type=click.Choice(["Fixed", "Platform"]),
    default="Fixed",
    show_default=True,
    help="Who says the user and the groups of pods whose server does not, as of the operator.",
)
@click.option(
    "--defaults",
    metavar="FILE",
    help="The chart's values, or their defaults: what servers get that do not say it.",
)
@click.option("--offline", is_flag=True, help="Do not ask the Hugging Face Hub.")
def render_command(
    filename: str,
    nodes: str | None,
    gpu: str | None,
    gpus_per_node: int | None,
    pod_identity: Identity,
    defaults: str | None,
    offline: bool,
) -> None:
    """Print the objects that the operator would apply, as YAML.

    Owner references and the operator's hash annotations are missing: they need a server that
    exists. Exit status: 0, 1 if some server cannot be planned (the others are printed), 2 for
    unreadable input.
    """
    found = planned_or_exit(
        filename, nodes, gpu, gpus_per_node, offline, PLANNED_NODES, pod_identity, defaults
    )
    for one in found:
        if isinstance(one, Planned):
            for rendered in (*one.objects, *one.beside):
                click.echo("---\n" + yaml.safe_dump(rendered, sort_keys=False), nl=False)
        else:
            for why in one.problems:
                click.echo(f"{one.name}: {why.field}: {why.message}", err=True)
    sys.exit(exit_status(found))
