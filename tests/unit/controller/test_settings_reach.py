"""Each of the operator's settings reaches who acts by it, on and off."""

from __future__ import annotations

import pytest

from .test_process import operator


@pytest.mark.parametrize("watch", [True, False])
@pytest.mark.parametrize("calibration", [True, False])
def test_nodes_are_looked_at_where_they_may_be(watch: bool, calibration: bool) -> None:
    acting = operator(watch_nodes=watch, calibration=calibration)
    assert acting.nodes.visible is watch


@pytest.mark.parametrize("calibration", [True, False])
def test_what_was_measured_is_kept_where_engines_are_asked(calibration: bool) -> None:
    assert (operator(calibration=calibration).curves.shelf is not None) is calibration


@pytest.mark.parametrize("namespaces", [(), ("team-a", "team-b")])
def test_an_operator_acts_in_the_namespaces_of_its_settings(namespaces: tuple[str, ...]) -> None:
    assert operator(namespaces=namespaces).namespaces == namespaces
