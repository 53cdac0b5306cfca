"""The command line: one group, its commands each in a module of its own.

It is kubectl's plugin as well: ``kubectl vllm`` runs whatever is called ``kubectl-vllm``.
"""

from __future__ import annotations

import click

from vllm_operator import __version__

from .benchmark import benchmark_command
from .calibrate import calibrate_command
from .check import check_command
from .crd import crd as crd_command
from .explain import explain_command
from .plan import plan_command
from .render import render_command
from .run import run_command
from .top import top_command


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="vllm-operator")
def main() -> None:
    """Run vLLM model servers on Kubernetes: plan them, render them, operate them."""


for command in (
    plan_command,
    render_command,
    explain_command,
    top_command,
    check_command,
    benchmark_command,
    calibrate_command,
    crd_command,
    run_command,
):
    main.add_command(command)
