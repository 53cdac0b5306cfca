"""``vllm-operator crd``: the CustomResourceDefinition, or the reference of its fields."""

from __future__ import annotations

import click

from vllm_operator.api.crd import crd_yaml
from vllm_operator.api.reference import reference_markdown


@click.command()
@click.option("--reference", is_flag=True, help="Print the field reference (Markdown) instead.")
def crd(reference: bool) -> None:
    """Print the CustomResourceDefinition of VLLMServer as YAML, to be applied with kubectl."""
    click.echo(reference_markdown() if reference else crd_yaml(), nl=False)


if __name__ == "__main__":
    crd()
