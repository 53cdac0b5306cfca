"""`python -m localcluster`: the same cluster by hand."""

import shlex
import signal
import sys
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from localcluster import binaries, nodes, packages, realnode
from localcluster.cluster import Cluster
from localcluster.errors import BuildError, LocalClusterError

# Words for people go to standard error, so that `eval $(…)` and `$(… path …)` work.
_console = Console(stderr=True)


class _Interrupted(Exception):
    """SIGTERM, taken like Ctrl-C."""


@click.group(help=__doc__)
def main() -> None:
    """The commands' common entry."""


@main.command()
@click.option("--gpu-nodes", default=2, show_default=True, help="How many GPU nodes to add.")
@click.option(
    "--product",
    default="NVIDIA-H100-80GB-HBM3",
    show_default=True,
    help="Value of their label nvidia.com/gpu.product.",
)
@click.option("--count", default=8, show_default=True, help="GPUs on each node.")
@click.option("--memory-mebibytes", type=int, help="GPU memory, for products not known here.")
@click.option("--audit", is_flag=True, help="Write an audit log of all requests.")
@click.option(
    "--manifest",
    "manifests",
    multiple=True,
    type=click.Path(exists=True, path_type=Path),
    help="File or folder to apply first, such as CustomResourceDefinitions; may be repeated.",
)
@click.option("--logs", type=click.Path(path_type=Path), help="Keep the components' logs here.")
def up(
    gpu_nodes: int,
    product: str,
    count: int,
    memory_mebibytes: int | None,
    audit: bool,
    manifests: tuple[Path, ...],
    logs: Path | None,
) -> None:
    """Starts a cluster, prints its KUBECONFIG, and keeps it until Ctrl-C."""
    if gpu_nodes and memory_mebibytes is None and product not in nodes.products():
        known = ", ".join(nodes.products())
        raise click.UsageError(f"give --memory-mebibytes for {product}; known are {known}")

    def interrupted(_signal: int, _frame: object) -> None:
        raise _Interrupted

    signal.signal(signal.SIGTERM, interrupted)
    try:
        with Cluster(audit=audit, log_directory=logs, manifests=manifests) as cluster:
            for number in range(1, gpu_nodes + 1):
                cluster.add_gpu_node(
                    f"gpu-{number}", product, count, memory_mebibytes=memory_mebibytes
                )
            print(f"export KUBECONFIG={shlex.quote(str(cluster.kubeconfig))}", flush=True)
            _console.print(f"{cluster.server}, {gpu_nodes} nodes of {count} x {product}")
            _console.print("Ctrl-C stops the cluster and removes it.")
            while True:
                signal.pause()
    except (KeyboardInterrupt, _Interrupted):
        _console.print("stopped")


@main.command()
def build() -> None:
    """Builds all tools that are not built yet, and prints where they are."""
    table = Table("tool", "path")
    for name, path in binaries.ensure(build_all=True).items():
        table.add_row(name, str(path))
    # Wide enough that no path is cut or folded.
    Console(width=200, soft_wrap=True).print(table)


@main.command()
def real_nodes() -> None:
    """Builds and installs what real nodes need; fails, with the reason, where there can be none."""
    if reason := realnode.unavailable():
        raise BuildError(reason)
    packages.ensure(realnode.PACKAGES, "real nodes")
    binaries.ensure("dns", *realnode.BINARIES)


@main.command()
@click.argument("name", type=click.Choice(binaries.NAMES))
def path(name: str) -> None:
    """Prints the path of one tool, building it first where it is missing."""
    print(binaries.ensure(name)[name])


if __name__ == "__main__":
    try:
        main(prog_name="python -m localcluster")
    except LocalClusterError as error:
        _console.print(f"error: {error}", markup=False, highlight=False)
        sys.exit(1)
