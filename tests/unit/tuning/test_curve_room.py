"""The curve where prompts queue for the tokens of steps."""

import pytest

from support.served import llama
from vllm_operator.tuning.points import Point, seconds


def test_where_prompts_take_all_room_every_step_is_a_full_one():
    # 0.5 prompts of 824 tokens start in a step, which has room for 412 beside 100 generated tokens.
    server = llama(tokens=512)
    full = server.times.step(100, 1000, 412, 400)
    assert seconds(server, Point(100, 412, 0.5, 1000, 400)) == pytest.approx(full)
