"""The benchmark of verdicts: it plays trials on engines that tuning does not know."""

from __future__ import annotations

from tuning_judge import Case, play, row, table

from support.stepping import Engine
from vllm_operator.tuning.judge import Verdict


def test_a_seed_plays_the_same_trial_again() -> None:
    case = Case("10 % slower", 1.1, 50)
    assert play(case, 3) == play(case, 3)


def test_steps_are_padded_to_graphs_as_no_formula_of_tuning_has_them() -> None:
    engine = Engine()
    assert engine.step(41, 0.0, 0.0) == engine.step(48, 0.0, 0.0)
    assert engine.step(48, 0.0, 0.0) < engine.step(49, 0.0, 0.0)


def test_the_table_counts_verdicts() -> None:
    case = Case("10 % slower", 1.1, 50)
    told = [play(case, seed) for seed in (3, 4)]
    found = row(case, told)
    assert found.share(Verdict.BAD) == 1.0
    assert found.slower == 2
    assert table([found]).row_count == 1
