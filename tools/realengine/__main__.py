"""`python -m realengine`: installs the environments, ahead of the tests that need them."""

import sys

import click

from realengine.environments import PARSERS, SERVING, ensure
from realengine.errors import RealEngineError

try:
    for lock in (SERVING, *(lock for lock in PARSERS if lock.supports_this_python)):
        click.echo(f"vLLM {lock.version}: {ensure(lock).directory}")
except RealEngineError as error:
    sys.exit(str(error))
