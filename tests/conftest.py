"""What holds for all tests, before any is imported."""

import os

import pytest
from hypothesis import settings

# Assertions of modules beside the tests explain themselves.
pytest.register_assert_rewrite("stories.life", "stories.table", "support.crowd")

# Seconds of a simulated engine take less than to compile it.
os.environ.setdefault("ENGINE_SIMULATOR_PLAIN", "1")

# Clusters that several modules share: one worker starts each, and has all of its tests.
SHARED = ("chart_cluster", "engines")

# How long an example takes says how busy the machine is, and a change should not fail for examples
# that it drew by luck: every run has the same. `--hypothesis-profile explore` draws others.
settings.register_profile("any machine", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None, derandomize=False)
settings.load_profile("any machine")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Folder after folder, in any order within: an idle cluster costs a twentieth of a processor,
    and a folder's ends with its last test."""
    items.sort(key=lambda item: item.path.parent)
    for item in items:
        for name in set(SHARED) & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.xdist_group(name))
