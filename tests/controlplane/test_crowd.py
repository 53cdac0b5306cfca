"""What takes a processor for minutes: told by `make test-stories`."""

from __future__ import annotations

from support.crowd import become_ready
from support.fixtures import StartOperator
from support.world import World


def test_hundreds_of_servers_at_once_become_ready(
    own_world: World, start_operator: StartOperator
) -> None:
    become_ready(own_world, start_operator(own_world), 200)
