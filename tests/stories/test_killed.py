"""Every story again, with the operator killed after its writes: after all in one telling, and after
each single one in a telling of its own. See docs/stories.md."""

from __future__ import annotations

from pathlib import Path

import pytest

from localcluster.cluster import Cluster
from stories.telling import Story, killed_after_each, killed_after_every_write, stories

QUIET = {"test_a_service_of_somebody_else_s_is_left_alone"}


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("story", list(stories()), ids=str)
def test_a_story_ends_the_same_when_the_operator_is_killed_after_each_of_its_writes(
    story: Story, cluster: Cluster, tmp_path: Path
) -> None:
    assert killed_after_every_write(cluster, tmp_path, story) >= (1 if story.name in QUIET else 4)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("story", list(stories()), ids=str)
def test_a_story_ends_the_same_when_the_operator_is_killed_after_one_of_its_writes(
    story: Story, cluster: Cluster, tmp_path: Path
) -> None:
    writes = killed_after_each(cluster, tmp_path, story)
    assert writes >= (1 if story.name in QUIET else 4)
