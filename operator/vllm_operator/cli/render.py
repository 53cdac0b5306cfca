"""``vllm-operator render``: the objects that the operator would apply, or the same elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, Final, Literal, get_args

import click
import yaml

from vllm_operator.api.plan import Problem, Unplanned
from vllm_operator.api.pod import Identity
from vllm_operator.manifests.elsewhere.fields import Target
from vllm_operator.manifests.elsewhere.targets import elsewhere
from vllm_operator.manifests.planned import Planned

from .options import UNREADABLE, surroundings_options
from .plan import SOME_INFEASIBLE, exit_status, planned_or_exit

KUBERNETES: Final = "kubernetes"
TARGETS: Final = (KUBERNETES, *get_args(Target))


@click.command("render")
@click.option(
    "-f",
    "--filename",
    required=True,
    metavar="FILE",
    help="Manifest with one or more VLLMServers; - reads standard input.",
)
@click.option(
    "--target",
    type=click.Choice(TARGETS),
    default=KUBERNETES,
    show_default=True,
    help="What to print: the objects of a cluster, or a file by which one machine serves the same.",
)
@click.option(
    "--server", metavar="NAME", help="Which server of FILE; elsewhere than in Kubernetes one at a "
    "time is rendered.",
)  # fmt: skip
@click.option(
    "--devices",
    metavar="LIST",
    help="GPUs of the machine, numbers or UUIDs with commas between; the first ones by default. "
    "Not for kubernetes, where the device plugin chooses.",
)
@surroundings_options()
@click.option(
    "--pod-identity",
    type=click.Choice(["Fixed", "Platform"]),
    help="Who says the user and the groups of a server that does not: as of the operator, Fixed by "
    "default; Platform elsewhere than in Kubernetes, where the image or the unit does.",
)
def render_command(
    filename: str,
    target: Literal["kubernetes"] | Target,
    server: str | None,
    devices: str | None,
    pod_identity: Identity | None,
    **around: Any,
) -> None:
    """Print the objects that the operator would apply, as YAML, or the same for another target.

    compose and podman-quadlet run the server's container; systemd and shell run the vLLM that is
    installed on the machine. What a target has no counterpart for stands in its comments, by field,
    or is refused.

    Of the objects, owner references and the operator's hash annotations are missing: they need a
    server that exists. Exit status: 0, 1 if some server cannot be planned or rendered (the others
    are printed), 2 for unreadable input.
    """
    if target == KUBERNETES and devices is not None:
        raise click.UsageError("--devices: in Kubernetes the device plugin chooses; leave it out")
    identity = pod_identity or ("Fixed" if target == KUBERNETES else "Platform")
    every = planned_or_exit(filename, identity=identity, **around)
    found = _of(server, every)
    if target == KUBERNETES:
        _show_objects(found)
        sys.exit(exit_status(found))
    _show_elsewhere(_only(found), target, devices)


def _name(one: Planned | Unplanned) -> str:
    return one.plan.name if isinstance(one, Planned) else one.name


def _of(server: str | None, every: list[Planned | Unplanned]) -> list[Planned | Unplanned]:
    """The server of that name, all without one; ends the process where there is none."""
    found = [one for one in every if server in (None, _name(one))]
    if not found:
        names = ", ".join(map(_name, every))
        click.echo(f"Error: --server: there is no {server} among {names}", err=True)
        sys.exit(UNREADABLE)
    return found


def _only(found: Sequence[Planned | Unplanned]) -> Planned | Unplanned:
    if len(found) > 1:
        names = ", ".join(map(_name, found))
        click.echo(
            f"Error: one server at a time is rendered elsewhere than in Kubernetes, and there are "
            f"{len(found)}: {names}; choose one by --server",
            err=True,
        )
        sys.exit(UNREADABLE)
    return found[0]


def _show_objects(found: Sequence[Planned | Unplanned]) -> None:
    for one in found:
        if isinstance(one, Planned):
            for rendered in (*one.objects, *one.beside):
                click.echo("---\n" + yaml.safe_dump(rendered, sort_keys=False), nl=False)
        else:
            _complain(one.name, one.problems)


def _show_elsewhere(one: Planned | Unplanned, target: Target, devices: str | None) -> None:
    """Prints it; ends the process."""
    text = elsewhere(one, target, devices) if isinstance(one, Planned) else tuple(one.problems)
    if isinstance(text, str):
        click.echo(text, nl=False)
        sys.exit(0)
    _complain(_name(one), text)
    sys.exit(SOME_INFEASIBLE)


def _complain(name: str, problems: Sequence[Problem]) -> None:
    for why in problems:
        click.echo(f"{name}: {why.field}: {why.message}", err=True)
