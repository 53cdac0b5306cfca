"""A trial is judged at equal load, on evidence, and by nothing that the load alone makes."""

import math
import random
from dataclasses import replace
from functools import lru_cache

import pytest

from support.stepping import Disturbances, Engine, Pod, Traffic
from unit.tuning.examples import exact, hour, interval, load, shipped, wave
from vllm_operator.sizing.performance.multipliers import Multipliers
from vllm_operator.tuning.curve import Posterior, fit
from vllm_operator.tuning.durations import Durations
from vllm_operator.tuning.intervals import Between
from vllm_operator.tuning.judge import Judgement, Verdict, judge
from vllm_operator.tuning.knobs import Knobs, Objective
from vllm_operator.tuning.objectives import Kept
from vllm_operator.tuning.points import seconds
from vllm_operator.tuning.trial import Promise, Side, Trial

READY = 15.0 * 244
SAME = Knobs(256, 8192, 0.9)
LARGER = Knobs(256, 8192, 0.9, max_num_active_seqs=128)


@lru_cache
def known() -> Posterior:
    found = fit(hour(Multipliers(), wave), shipped())
    assert found is not None
    return found


def pod(
    name: str, batch: float, slower: float = 1.0, number: int = 60, start: float = READY, **given
) -> list:
    """Intervals since ``start`` on the curve that ``known`` has learned, a little noisy."""
    draw = random.Random(name)
    found = []
    for one in range(number):
        shared = 1.2 if 20 <= one < 30 else 1.0
        here = batch * math.exp(draw.gauss(0, 0.1))
        at = load(here)._replace(batch=here + 1 - here / 256)
        took = seconds(shipped(), at) * slower * shared * math.exp(draw.gauss(0, 0.01))
        found.append(interval(start + 15.0 * (one + 1), here, took, name, **given))
    return found


def told(
    candidate: list,
    stable: list,
    *,
    minutes: float | None = None,
    failure: str | None = None,
    **given,
) -> Judgement:
    knobs = given.pop("knobs", SAME)
    trial = Trial(
        candidate=Side(shipped(), knobs, candidate),
        stable=Side(shipped(), SAME, stable),
        ready=READY,
        posterior=known(),
        **given,
    )
    last = candidate[-1].end if candidate else READY
    now = last if minutes is None else READY + 60 * minutes
    return judge(trial, now, failure=failure)


SATURATED = {"waiting": 9.0}
ASKED = Objective(inter_token_latency=0.025)


def test_what_fails_ends_the_trial_at_once() -> None:
    found = told([], [], failure="its container ran out of memory")
    assert (found.verdict, found.reason) == (Verdict.BAD, "its container ran out of memory")


def test_a_candidate_is_not_judged_while_it_warms_up() -> None:
    # 120 s are 8 intervals; requests stay 240 x 16 ms = 4 s, so twice that is less.
    found = told(pod("b", 16, number=20), pod("a", 16, number=20))
    assert (found.verdict, found.intervals) == (Verdict.GO_ON, 12)
    assert found.reason == "12 of 16 intervals"


@pytest.mark.parametrize(("number", "judged"), [(23, False), (24, True)])
def test_sixteen_intervals_in_which_both_are_warm_are_judged(number: int, judged: bool) -> None:
    found = told(pod("b", 16, number=number), pod("a", 16, number=number))
    assert (found.slower is not None) is judged
    assert found.intervals == number - 8


def test_requests_that_stay_long_lengthen_the_warm_up() -> None:
    # 1,000 s for each: nothing of the first 2,000 s counts.
    slow = [replace(one, request_seconds=1000.0 * one.finished) for one in pod("a", 16)]
    assert told(pod("b", 16), slow).intervals == 0


def test_fifty_requests_are_no_evidence_yet() -> None:
    few = pod("b", 16, finished=1.0)
    assert told(few, pod("a", 16)).intervals == 10
    assert told(few, pod("a", 16)).reason == "10 of 16 intervals"


def test_a_cold_prefix_cache_is_waited_for_but_not_for_ever() -> None:
    warm = pod("a", 16, number=120, cached_tokens=70_000.0)
    cold = pod("b", 16, number=120)
    assert told(cold, warm).intervals == 60
    assert told(pod("b", 16, number=120, cached_tokens=70_000.0), warm).intervals == 112


def test_an_equal_pod_is_the_same_and_gains_nothing() -> None:
    found = told(pod("b", 16), pod("a", 16))
    assert found.verdict is Verdict.GO_ON
    assert found.same
    assert abs(found.slower) < 0.02
    assert found.reason.endswith("no gain is shown")


def test_a_tenth_slower_is_found_at_equal_load() -> None:
    found = told(pod("b", 16, 1.1), pod("a", 16))
    assert found.verdict is Verdict.BAD
    assert found.slower == pytest.approx(math.log(1.1), abs=0.015)
    assert "slower at equal load" in found.reason


def test_a_tenth_slower_is_found_with_less_than_half_of_the_load() -> None:
    # 10 against 24 sequences: its raw latency is the lower one.
    candidate, stable = pod("b", 10, 1.1), pod("a", 24)
    assert candidate[5].latency < stable[5].latency
    assert told(candidate, stable).verdict is Verdict.BAD


def test_an_equal_pod_with_most_of_the_load_is_not_blamed_for_it() -> None:
    candidate, stable = pod("b", 40), pod("a", 10)
    assert candidate[5].latency > 1.25 * stable[5].latency
    found = told(candidate, stable)
    assert found.verdict is Verdict.GO_ON
    assert abs(found.slower) < 0.02


def test_different_loads_widen_the_bounds_by_a_tenth_of_the_correction() -> None:
    even, uneven = told(pod("b", 16), pod("a", 16)), told(pod("b", 40), pod("a", 10))
    ratio = seconds(shipped(), load(40)) / seconds(shipped(), load(10))
    assert uneven.half_width - even.half_width == pytest.approx(0.1 * math.log(ratio), abs=0.015)


def test_what_slows_both_is_nobody_s() -> None:
    # Twice as long for both since the trial began: the curve from before does not count against it.
    found = told(pod("b", 16, 2.0), pod("a", 16, 2.0))
    assert abs(found.slower) < 0.02


def test_a_candidate_is_not_blamed_for_what_stable_pods_differ_by() -> None:
    # Two stable pods a sixth apart; the candidate is as the slower of them.
    found = told(pod("b", 16, 1.08), pod("a", 16, 0.93) + pod("c", 16, 1.08))
    assert found.verdict is not Verdict.BAD
    assert told(pod("b", 16, 1.08), pod("a", 16) + pod("c", 16)).verdict is Verdict.BAD


def test_more_tokens_under_saturation_are_promoted() -> None:
    found = told(pod("b", 16, 1 / 1.1, **SATURATED), pod("a", 16, **SATURATED))
    assert found.verdict is Verdict.GOOD
    assert found.tokens.value == pytest.approx(math.log(1.1), abs=0.05)
    assert "more tokens a second" in found.reason


def test_as_many_tokens_under_saturation_are_no_gain_and_end_the_trial() -> None:
    both = (pod("b", 16, number=400, **SATURATED), pod("a", 16, number=400, **SATURATED))
    found = told(*both, minutes=100.0)
    assert found.verdict in (Verdict.GO_ON, Verdict.INCONCLUSIVE)
    assert told(*both, minutes=121.0).verdict is Verdict.INCONCLUSIVE


def test_more_tokens_because_the_other_pod_idles_are_no_gain() -> None:
    found = told(pod("b", 32), pod("a", 8))
    assert found.tokens is None
    assert found.verdict is Verdict.GO_ON


def test_a_larger_cap_is_good_where_the_curve_holds_at_its_batches_and_tokens_rise() -> None:
    found = told(pod("b", 64, **SATURATED), pod("a", 16, **SATURATED), knobs=LARGER)
    assert found.verdict is Verdict.GOOD


def test_an_objective_that_is_not_kept_ends_it_however_many_tokens_rise() -> None:
    # 20 % of the gaps are slow, 5 % are allowed, 1 % of the stable pod's are.
    candidate = [replace(one, slow_gaps=exact(0.2 * one.gaps)) for one in pod("b", 64, **SATURATED)]
    stable = [replace(one, slow_gaps=exact(0.01 * one.gaps)) for one in pod("a", 16, **SATURATED)]
    found = told(candidate, stable, knobs=LARGER, objective=ASKED)
    assert found.verdict is Verdict.BAD
    assert found.reason.startswith("20.0% of gaps between tokens are slow, 1.0% of the stable")


def test_an_objective_that_is_kept_where_it_was_broken_is_a_gain() -> None:
    candidate = [replace(one, slow_gaps=exact(0.01 * one.gaps)) for one in pod("b", 16)]
    stable = [replace(one, slow_gaps=exact(0.3 * one.gaps)) for one in pod("a", 16)]
    found = told(candidate, stable, objective=ASKED)
    assert found.verdict is Verdict.GOOD
    assert found.slow_gaps.better


def test_more_tokens_than_pods_that_are_full_are_a_gain_also_of_one_that_is_not() -> None:
    found = told(pod("b", 64), pod("a", 16, **SATURATED), knobs=LARGER)
    assert found.verdict is Verdict.GOOD
    assert "more tokens a second" in found.reason


def test_fewer_tokens_of_a_candidate_that_is_not_full_end_nothing() -> None:
    found = told(pod("b", 8), pod("a", 16, **SATURATED))
    assert found.verdict is Verdict.GO_ON


@pytest.mark.parametrize(("own", "verdict"), [(1.0, Verdict.GOOD), (0.9, Verdict.BAD)])
def test_an_objective_that_stable_pods_break_alike_does_not_stand_against_more_tokens(
    own, verdict
) -> None:
    slow = {"b": own, "a": own - (0.0 if verdict is Verdict.GOOD else 0.3)}
    candidate, stable = (
        [
            replace(one, slow_gaps=exact(slow[name] * one.gaps))
            for one in pod(name, batch, **SATURATED)
        ]
        for name, batch in (("b", 64), ("a", 16))
    )
    assert told(candidate, stable, knobs=LARGER, objective=ASKED).verdict is verdict


def test_calmer_gaps_are_no_gain_where_first_tokens_stay_as_late() -> None:
    def late(ones, gaps):
        return [
            replace(
                one, slow_gaps=exact(gaps * one.gaps), slow_first_tokens=exact(one.first_tokens)
            )
            for one in ones
        ]

    both = Objective(time_to_first_token=0.3, inter_token_latency=0.025)
    found = told(late(pod("b", 16), 0.01), late(pod("a", 16), 0.3), objective=both)
    assert found.verdict is Verdict.GO_ON
    assert found.slow_gaps.better


def test_the_wait_in_a_queue_that_grows_is_no_part_of_the_warm_up() -> None:
    queued = [
        replace(one, request_seconds=1000.0 * one.finished, queue_seconds=996.0 * one.finished)
        for one in pod("a", 16)
    ]
    assert told(pod("b", 16), queued).intervals == 52


def test_an_objective_that_is_kept_with_half_of_the_load_shows_nothing() -> None:
    candidate = [replace(one, slow_gaps=exact(0.01 * one.gaps)) for one in pod("b", 10)]
    stable = [replace(one, slow_gaps=exact(0.3 * one.gaps)) for one in pod("a", 24)]
    assert told(candidate, stable, objective=ASKED).verdict is Verdict.GO_ON


def unclear(ones: list) -> list:
    """Between 1 % and 30 % are slow: the edges of the bucket lie on both sides of the objective."""
    return [replace(one, slow_gaps=Between(0.01 * one.gaps, 0.3 * one.gaps)) for one in ones]


@pytest.mark.parametrize(
    ("milliseconds", "promised", "verdict"),
    [
        # Steps take 14.5 ms: the candidate's own curve says that 25 ms are kept and 14 are not,
        (25, None, Verdict.GOOD),
        (25, 0.2, Verdict.GOOD),
        (14, None, Verdict.GO_ON),
        # where the forecast from before the trial did not say so already.
        (14, 0.02, Verdict.GOOD),
    ],
)
def test_where_buckets_cannot_tell_the_curve_does(milliseconds, promised, verdict) -> None:
    found = told(
        unclear(pod("b", 16, 1 / 1.1, **SATURATED)),
        unclear(pod("a", 16, **SATURATED)),
        objective=Objective(inter_token_latency=milliseconds / 1000),
        promise=Promise(slow_gaps=promised),
    )
    assert found.verdict is verdict


def test_by_the_curve_it_is_better_where_the_others_surely_break_the_objective() -> None:
    broken = [
        replace(one, slow_gaps=Between(0.2 * one.gaps, 0.9 * one.gaps)) for one in pod("a", 16)
    ]
    found = told(unclear(pod("b", 16, 1 / 1.1)), broken, objective=ASKED)
    assert (found.verdict, found.slow_gaps.kept) == (Verdict.GOOD, Kept.BY_MODEL)
    assert found.reason.split("; ")[1].startswith("better: 1.0% to 30.0% of gaps")


def test_a_larger_cache_is_not_blamed_for_the_larger_batches_that_it_lets_run() -> None:
    candidate, stable = pod("b", 120, 1.04, **SATURATED), pod("a", 60, **SATURATED)
    larger = replace(SAME, gpu_memory_utilization=0.95)
    assert told(candidate, stable, knobs=larger).verdict is Verdict.GOOD
    assert told(pod("b", 60, 1.3, **SATURATED), stable, knobs=larger).verdict is Verdict.BAD


def relieved(share: float, promised: float, **given) -> Judgement:
    """Of all gaps ``share`` were slow until the trial's pod was ready, and hardly any are since."""

    def late(ones: list, share: float) -> list:
        return [replace(one, slow_gaps=exact(share * one.gaps)) for one in ones]

    before = pod("a", 40, start=READY - 15.0 * 60)
    given = {"objective": ASKED, "promise": Promise(slow_gaps=promised), "number": 160} | given
    number = given.pop("number")
    since = pod("a", 16, number=number)
    return told(
        late(pod("b", 16, number=number), 0.01),
        [*late(before, share), *late(since, 0.01)],
        knobs=Knobs(256, 8192, 0.9, max_num_active_seqs=32),
        **given,
    )


def test_what_the_trials_own_pod_has_eased_is_decided_by_the_curve_that_it_confirmed() -> None:
    found = relieved(0.3, 0.02)
    assert found.verdict is Verdict.GOOD
    said = "30.0% of gaps between tokens were slow before the trial's pod took its share"
    assert f"{said}, and 2.0% would be with this setting" in found.reason


def test_half_of_what_was_too_much_is_eased_too_as_settings_are_chosen_by_it() -> None:
    # 30 % were slow and 5 % may be: 17.5 % is half way.
    assert relieved(0.3, 0.17).verdict is Verdict.GOOD


@pytest.mark.parametrize(
    ("knobs", "verdict"),
    [
        (Knobs(256, 8192, 0.9, max_num_active_seqs=32), Verdict.GO_ON),
        (replace(SAME, gpu_memory_utilization=0.95), Verdict.GOOD),
    ],
)
def test_more_memory_is_promoted_for_what_was_seen_to_be_slow_surely_or_not(knobs, verdict) -> None:
    # Of the half hour the second part is slow: 9 %, give or take more than 3.
    before = pod("a", 40, start=READY - 15.0 * 120, number=120)
    slow = [replace(one, slow_gaps=exact((place >= 60) * 0.18 * one.gaps)) for place, one in
            enumerate(before)]  # fmt: skip
    own, since = (
        [replace(one, slow_gaps=exact(0.01 * one.gaps)) for one in pod(name, 16, number=160)]
        for name in ("b", "a")
    )
    found = told(
        own, [*slow, *since], knobs=knobs, objective=ASKED, promise=Promise(slow_gaps=0.065)
    )
    assert found.verdict is verdict


SMALL = Knobs(256, 512, 0.9)


def smaller(batch: float, slower: float, *, before: float = 16.0, **given) -> Judgement:
    """A candidate whose steps have 512 tokens in place of 8,192, so that prompts come in pieces."""
    since = READY - 15.0 * 60
    stable = [*pod("a", before, start=since, **given), *pod("a", batch, **given)]
    late = [replace(one, slow_gaps=exact(0.3 * one.gaps)) for one in stable]
    candidate = [
        replace(one, slow_gaps=exact(0.01 * one.gaps)) for one in pod("b", batch, slower, **given)
    ]
    return told(candidate, late, knobs=SMALL, objective=ASKED)


def test_other_steps_are_not_blamed_for_what_the_curve_never_saw_of_them() -> None:
    found = smaller(16, 1.14)
    assert found.verdict is Verdict.GOOD
    assert found.reason.split("; ")[1].startswith("better: 1.0% of gaps between tokens are slow")


def test_other_steps_that_take_half_as_long_again_are_blamed() -> None:
    found = smaller(16, 1.5)
    assert found.verdict is Verdict.BAD
    assert "slower at equal load" in found.reason


def test_steps_that_would_not_keep_up_with_the_load_of_before_are_not_promoted() -> None:
    # 512 tokens in 18 ms are 28,000 a second; prompts of 800 come 100 times in it.
    found = smaller(16, 1.14, before=400.0)
    assert found.verdict is Verdict.BAD
    assert found.reason.startswith("by the steps that it has shown it would answer ")
    assert found.reason.endswith(" came to each pod before the trial")


@pytest.mark.parametrize(
    "given",
    [
        pytest.param({"share": 0.03}, id="where nothing was slow before"),
        pytest.param({"promised": 0.18}, id="where the curve does not promise half of it"),
        pytest.param({"number": 100}, id="before half an hour was seen"),
    ],
)
def test_nothing_is_eased(given) -> None:
    assert relieved(**({"share": 0.3, "promised": 0.02} | given)).verdict is Verdict.GO_ON


def test_errors_of_the_candidate_alone_are_bad() -> None:
    candidate = [replace(one, failed=0.2) for one in pod("b", 16)]
    found = told(candidate, pod("a", 16))
    assert found.verdict is Verdict.BAD
    assert "failed requests are its" in found.reason


def test_errors_of_all_alike_are_not() -> None:
    candidate = [replace(one, failed=0.2) for one in pod("b", 16)]
    stable = [replace(one, failed=0.2) for one in pod("a", 16)]
    assert told(candidate, stable).verdict is Verdict.GO_ON


def test_latency_may_not_double_where_nobody_gave_an_objective() -> None:
    found = told(pod("b", 200, **SATURATED), pod("a", 16, **SATURATED), knobs=LARGER)
    assert found.verdict is Verdict.BAD
    assert "ms between tokens in place of" in found.reason


def test_nothing_seen_promotes_nothing() -> None:
    for minutes in (1.0, 60.0, 119.0):
        assert told([], [], minutes=minutes).verdict is Verdict.GO_ON
    # Less than one request in four intervals: eight hours.
    assert told([], [], minutes=479.0).verdict is Verdict.GO_ON
    assert told([], [], minutes=480.0).verdict is Verdict.INCONCLUSIVE


def test_time_is_over_after_two_hours_with_what_was_missing() -> None:
    found = told(pod("b", 16, number=20), pod("a", 16, number=20), minutes=120.0)
    assert found.verdict is Verdict.INCONCLUSIVE
    assert found.reason == "time is over: 12 of 16 intervals"


def test_a_candidate_that_gets_no_requests_is_said_to_starve() -> None:
    candidate, stable = pod("b", 2, number=80), pod("a", 16, number=80)
    assert told(candidate, stable).starved
    assert not told(pod("b", 10, number=80), stable).starved
    found = told(candidate, stable, minutes=120.0)
    assert "less than 30 % of a fair share" in found.reason


def before(number: int = 240) -> list:
    return hour(Multipliers(), wave, number=number)


def test_in_place_a_third_slower_is_found_and_a_twenty_fifth_is_not() -> None:
    assert told(pod("a", 16, 1.33, number=130), before(), in_place=True).verdict is Verdict.BAD
    assert told(pod("a", 16, 1.04, number=130), before(), in_place=True).verdict is Verdict.GO_ON


def test_in_place_half_an_hour_of_either_side_is_too_little() -> None:
    assert told(pod("a", 16, 1.33, number=100), before(), in_place=True).reason == (
        "2 of 3 blocks of time in the trial"
    )
    assert told(pod("a", 16, 1.33, number=130), before(200), in_place=True).reason == (
        "5 of 6 blocks of time before the trial"
    )


def test_bounds_in_place_are_wider() -> None:
    beside = told(pod("b", 16, number=130), pod("a", 16, number=130))
    alone = told(pod("a", 16, number=130), before(), in_place=True)
    assert alone.half_width > beside.half_width


@pytest.mark.parametrize("slower", [1.0, 1.1])
def test_time_has_no_unit(slower) -> None:
    def play(unit: float) -> Judgement:
        draw, durations = random.Random(7), Durations(15.0 * unit)
        engine, every = Engine(unit=unit), durations.interval
        shared = Disturbances(draw, unit)
        pods = [Pod(name, draw, Traffic(6.0), engine) for name in ("old", "a", "b")]
        pods[2].slower = slower
        seen = [
            [one.interval(number * every, every, shared) for number in range(start, stop)]
            for one, start, stop in ((pods[0], 1, 241), (pods[1], 245, 295), (pods[2], 245, 295))
        ]
        server = shipped().scaled(Multipliers().shifted(math.log(unit)))
        posterior = fit(seen[0], server, durations=durations)
        assert posterior is not None
        trial = Trial(
            Side(server, SAME, seen[2]), Side(server, SAME, seen[1]), 244 * every, posterior
        )
        return judge(trial, 294 * every, durations)

    slow, quick = play(1.0), play(1 / 15)
    assert (slow.verdict, slow.intervals) == (quick.verdict, quick.intervals)
    assert slow.slower == pytest.approx(quick.slower, abs=1e-6)
    assert slow.half_width == pytest.approx(quick.half_width, abs=1e-6)
