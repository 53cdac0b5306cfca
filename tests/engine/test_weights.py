"""The weights that a rank is said to hold are those of the models that vLLM itself builds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from realengine import environments
from realengine.environments import Environment
from support.families import RELEASED

pytestmark = pytest.mark.timeout(600)  # one process builds all of them
SIZES = (1, 2, 4, 8)
HELD = [one for one in RELEASED if one.built is not None]
BUILD = Path(environments.__file__).with_name("build.py")


def test_vllm_builds_what_the_table_of_families_says(environment: Environment) -> None:
    given = json.dumps({"sizes": SIZES, "configs": [one.config for one in HELD]})
    found = json.loads(environment.run(BUILD, given=given).splitlines()[-1])
    told = {
        one.like: {int(size): held for size, held in sizes.items()}
        for one, sizes in zip(HELD, found, strict=True)
    }
    assert told == {one.like: one.built for one in HELD}
