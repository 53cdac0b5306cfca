"""The weights that a rank is said to hold are those of the models that vLLM itself builds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from realengine import environments
from realengine.environments import Environment
from support.families import RELEASED, Released

pytestmark = pytest.mark.timeout(600)  # one process builds all of them
SIZES = (1, 2, 4, 8)
HELD = [one for one in RELEASED if one.built is not None]
Held = dict[int, int | None]
BUILD = Path(environments.__file__).with_name("build.py")


def built(environment: Environment, models: list[Released], encoder: str) -> dict[str, Held]:
    configs = [one.config for one in models]
    given = json.dumps({"sizes": SIZES, "configs": configs, "encoder": encoder})
    found = json.loads(environment.run(BUILD, given=given).splitlines()[-1])
    return {
        one.like: {int(size): held for size, held in sizes.items()}
        for one, sizes in zip(models, found, strict=True)
    }


def test_vllm_builds_what_the_table_of_families_says(environment: Environment) -> None:
    assert built(environment, HELD, "weights") == {one.like: one.built for one in HELD}


def test_vllm_builds_the_encoder_whole_on_each_rank_where_it_is_told_so(
    environment: Environment,
) -> None:
    models = [one for one in RELEASED if one.spread is not None]
    assert built(environment, models, "data") == {one.like: one.spread for one in models}
