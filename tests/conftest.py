"""Modules beside the tests whose assertions explain themselves, registered before any import."""

import pytest

pytest.register_assert_rewrite("stories.life", "stories.table")
