"""A sample of what `make test-stories` tells whole; it is part of `make test`."""

from __future__ import annotations

from pathlib import Path

import pytest

from localcluster.cluster import Cluster
from stories.telling import killed_after, story

pytestmark = pytest.mark.xdist_group("stories")  # one cluster for them

SAMPLE = {
    # The first plan; the new plan of an edit; the status that says what was repaired.
    "test_another_image_rolls_to_another_vllm": 1,
    "test_an_edit_whose_engine_does_not_start_leaves_the_old_pod_serving": 5,
    "test_a_cache_that_is_too_small_is_repaired_by_shorter_requests": 6,
}


@pytest.mark.parametrize(
    ("name", "write"), SAMPLE.items(), ids=lambda value: str(value).removeprefix("test_")
)
def test_a_story_ends_the_same_when_the_operator_is_killed_after_a_write(
    name: str, write: int, cluster: Cluster, tmp_path: Path
) -> None:
    assert killed_after(cluster, tmp_path, story(name), write)
