"""Every raise and assert of a release's configuration is found, and its row says who refuses it."""

from pathlib import Path

import pytest

from realengine import raises
from realengine.raises import Raise
from vllm_operator.engine.arguments import rules
from vllm_operator.engine.versions import NEWEST_KNOWN, Version

ENGINE = Path(raises.__file__).parents[2] / "operator" / "vllm_operator"

CACHE = """\
class CacheConfig:
    def check(self):
        assert self.size > 0, "no size"
        if self.size > 9:
            raise ValueError(f"{self.size} is too large")
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "vllm" / "config").mkdir(parents=True)
    (tmp_path / "vllm" / "config" / "cache.py").write_text(CACHE)
    return tmp_path


def test_raises_and_asserts_are_found_with_what_is_around_them(tree: Path):
    assert raises.found(tree) == [
        Raise("config/cache.py", "CacheConfig.check", "self.size > 0"),
        Raise("config/cache.py", "CacheConfig.check", "ValueError(f'{self.size} is too large')"),
    ]


def test_one_without_a_row_is_told_and_a_row_without_one(tree: Path):
    told = list(raises.differences(tree, NEWEST_KNOWN))
    new = "config/cache.py CacheConfig.check: self.size > 0 has no row of"
    assert [one for one in told if one.startswith(new)] != []
    assert len([one for one in told if one.endswith("not here")]) == len(raises.rows())


def test_a_release_that_was_not_read_is_not_judged(tree: Path):
    assert list(raises.differences(tree, Version.parse("0.32.0"))) == []


def test_each_row_is_reached_in_one_of_three_ways_and_says_why_where_it_is_not():
    for row in raises.rows():
        assert row["reach"] in ("spec", "refused", "never")
        assert row["by"] or row["reach"] == "spec"


def test_what_only_refused_flags_reach_is_refused():
    flags = {
        word.rstrip(",")
        for row in raises.rows()
        if row["reach"] == "refused"
        for word in row["by"].split()
        if word.startswith("--") and not row["by"].startswith("a key of")
    }
    assert len(flags) > 20
    assert [flag for flag in sorted(flags) if not rules()[flag].refused] == []


def test_each_table_that_a_row_names_is_there():
    words = {word.strip("(),;") for row in raises.rows() for word in row["by"].split()}
    named = {word for word in words if word.endswith((".csv", ".py"))}
    assert [name for name in sorted(named) if not list(ENGINE.rglob(Path(name).name))] == []
