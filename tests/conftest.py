"""What holds for all tests, before any is imported."""

import pytest
from hypothesis import settings

# Assertions of modules beside the tests explain themselves.
pytest.register_assert_rewrite("stories.life", "stories.table")

# How long an example takes says how busy the machine is.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")
