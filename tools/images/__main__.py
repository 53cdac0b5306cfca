"""`python -m images`: the operator's image, releases, and the base of images without Docker."""

import sys
from pathlib import Path

import click

from images.base import base
from images.operator import ROOT, operator_archive
from images.release import release
from localcluster.errors import BuildError


@click.group(help=__doc__)
def main() -> None:
    """The commands' common entry."""


@main.command("base")
def base_command() -> None:
    """Makes the base, and prints where its root file system lies."""
    click.echo(base().tar)


@main.command("operator")
@click.option("--tag", default="", help="The image's name; localhost/vllm-operator:VERSION.")
def operator_command(tag: str) -> None:
    """Builds the operator's image, and prints where its archive lies."""
    click.echo(operator_archive(tag))


@main.command("release")
@click.option("--version", default="", help="The version that it must be, such as a tag's.")
@click.option("--repository", default="", help="Where the image will be pulled from by default.")
@click.option(
    "--image",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="An archive of the image that was built before.",
)
def release_command(version: str, repository: str, image: Path | None) -> None:
    """Makes the files of a release in dist/, and prints where they lie."""
    for path in release(ROOT / "dist", version, repository=repository, image=image):
        click.echo(path)


if __name__ == "__main__":
    try:
        main(prog_name="python -m images")
    except BuildError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(1)
