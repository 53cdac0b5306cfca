import click
from .run import run_command
@click.group()
def main() -> None: ...
main.add_command(run_command)
