"""Stories of trials: one pod of another setting, taken back or promoted.

The tuner does what it is told: ``test_tuning.py`` has those of one that decides by itself.
"""

from __future__ import annotations

from stories.life import Life
from support.trials import STABLE, TRIED, direct, pods, trials, try_out, uids, wait_over


def tried(life: Life) -> tuple[list[str], str]:
    """A server of two replicas with a trial: its pods' uids, and the trial's."""
    life.obeys()
    life.serve(replicas=2, autotune={"mode": "Auto"})
    life.ready()
    before = uids(life.world)
    return before, try_out(life.world, life.patience)["metadata"]["uid"]


def test_a_setting_that_is_taken_back_leaves_the_pods_before_it(life: Life) -> None:
    before, _ = tried(life)
    direct(life.world, "STABLE")
    wait_over(life.world, life.patience)
    assert uids(life.world) == before
    life.ends_as_told()
    assert len(trials(life.world)) == 1


def test_a_setting_that_is_promoted_goes_on_from_its_pod_to_all(life: Life) -> None:
    _, pod = tried(life)
    direct(life.world, "PROMOTED")
    life.world.wait(
        lambda: len(pods(life.world, TRIED)) == 2 and not pods(life.world, STABLE),
        "all replicas to have the setting",
        life.patience,
    )
    assert pod in uids(life.world, TRIED)
    life.ends_as_told()
    assert len(trials(life.world)) == 1
