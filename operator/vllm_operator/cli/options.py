"""Options that several commands have, and how each tells what it cannot do."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import click

from vllm_operator.errors import InputError, PlanningError

UNREADABLE: Final = 2
"""Exit status where a command could not do what it was asked for."""

Command = TypeVar("Command", bound=Callable[..., Any])

SURROUNDINGS: Final = frozenset(
    {"nodes", "gpu", "gpus_per_node", "defaults", "measured", "prices", "offline"}
)
"""Parameters of ``surroundings_options``."""


@contextmanager
def told() -> Iterator[None]:
    """What cannot be done is told in one line; the process ends with ``UNREADABLE``."""
    try:
        yield
    except (InputError, PlanningError) as problem:
        click.echo(f"Error: {problem}", err=True)
        sys.exit(UNREADABLE)


def together(command: Command, *options: Callable[[Command], Command]) -> Command:
    """A command with these options, which its help shows in this order."""
    for option in reversed(options):
        command = option(command)
    return command


def namespace_option(of: str) -> Callable[[Command], Command]:
    """The namespace of what a command asks for; None is that of KUBECONFIG's context."""
    return click.option(
        "-n", "--namespace", default=None, help=f"Namespace of {of}; that of KUBECONFIG's context."
    )


def output_option(*kinds: str, says: str) -> Callable[[Command], Command]:
    """How a command prints; the first kind is what it does unasked."""
    return click.option(
        *("-o", "--output"),
        type=click.Choice(kinds),
        default=kinds[0],
        show_default=True,
        help=says,
    )


def deadline_option(most: int, default: int, *, says: str) -> Callable[[Command], Command]:
    """Minutes after which a Job is ended."""
    return click.option(
        "--deadline-minutes",
        type=click.IntRange(1, most),
        default=default,
        show_default=True,
        help=says,
    )


def surroundings_options(of: str = "") -> Callable[[Command], Command]:
    """What stands in for a cluster, by the names of ``plan.surroundings``.

    ``of`` begins each help text.
    """

    def decorated(command: Command) -> Command:
        return together(
            command,
            click.option(
                "--nodes",
                metavar="FILE",
                help=f"{of}Node objects to choose GPUs from, as kubectl get nodes -o json prints "
                "them.",
            ),
            click.option(
                "--gpu", metavar="PRODUCT", help=f"{of}GPU to plan for, instead of spec.gpu: H100."
            ),
            click.option(
                "--gpus-per-node",
                type=click.IntRange(1, 64),
                metavar="N",
                help=f"{of}GPUs in one node, instead of spec.gpu.perNode.",
            ),
            click.option(
                "--defaults",
                metavar="FILE",
                help=f"{of}The chart's values, or their defaults: what servers get that do not say "
                "it.",
            ),
            click.option(
                "--measured",
                metavar="FILE",
                help=f"{of}GPUs that were measured, as `vllm-operator calibrate -o json` prints "
                "them.",
            ),
            click.option(
                "--prices",
                metavar="FILE",
                help=f"{of}What an hour of each GPU costs: the chart's values, or their prices.",
            ),
            click.option("--offline", is_flag=True, help=f"{of}Do not ask the Hugging Face Hub."),
        )

    return decorated


def parted(given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The parameters of ``surroundings_options``, and all others."""
    around = {name: value for name, value in given.items() if name in SURROUNDINGS}
    return around, {name: value for name, value in given.items() if name not in SURROUNDINGS}
