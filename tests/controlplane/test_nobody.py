"""The operator as the user that a restricted pod gives it: a number, without name and home."""

from __future__ import annotations

import os
from collections.abc import Sequence

import pytest

from support.fixtures import StartOperator
from support.hub import playing_hub
from support.world import World

NAMELESS = ("env", *(f"-u{name}" for name in ("LOGNAME", "USER", "LNAME", "USERNAME")))
# It may read all, because Python may lie in a folder that only root enters; it may not write more
# than that user may.
READS_ALL = ("--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search")
NOBODY = ("setpriv", "--reuid=65532", "--regid=65532", "--clear-groups", *READS_ALL)


# Root alone can take the user that the image has. The cause, Kopf asking for the name of a user,
# is held for everybody in tests/unit/controller/test_handlers.py.
@pytest.mark.skipif(os.geteuid() != 0, reason="only root may start a process as another user")
@pytest.mark.parametrize("home", [("-uHOME",), ("HOME=/proc",)], ids=["no home", "a home for none"])
def test_it_serves_as_a_user_without_a_name(
    own_world: World, start_operator: StartOperator, home: Sequence[str]
) -> None:
    with playing_hub() as hub:
        operator = start_operator(
            own_world,
            through=(*NAMELESS, *home, *NOBODY),
            environment={"HF_ENDPOINT": hub.endpoint},
            hub=True,
            calibration=True,
            leader_election=True,
            lease_namespace=own_world.namespace,
        )
        own_world.apply()
        own_world.wait_ready()
        own_world.apply("asked", model={"id": "org/model"})
        own_world.wait_condition("Planned", "False", name="asked")
        assert any("org/model" in path for path in hub.paths)
        assert operator.terminate() == 0
