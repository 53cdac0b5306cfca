"""The curve of a server is learned from its intervals, and said to be known only where it is."""

import json
import math
import random
from dataclasses import replace
from statistics import median

import pytest

from unit.tuning.examples import hour, interval, load, shipped, wave
from vllm_operator.engine.versions import NEWEST_KNOWN
from vllm_operator.hardware.performance import find
from vllm_operator.models.architecture import architecture_from_config
from vllm_operator.sizing.performance.multipliers import Multipliers
from vllm_operator.sizing.performance.server import Server, server
from vllm_operator.sizing.performance.work import work_of
from vllm_operator.tuning.curve import UNSEEN, Posterior, fit, key, quantile
from vllm_operator.tuning.durations import Durations
from vllm_operator.tuning.points import lengths, point, seconds, spread

TRUTH = Multipliers(0.2, -0.15, 0.1, 0.3, 0.2)
SHIFT = 1_000_000.0


def learned(intervals, **given) -> Posterior:
    found = fit(intervals, shipped(), **given)
    assert found is not None
    return found


def error(found: Posterior, batch: float, truth: Multipliers = TRUTH) -> float:
    """ln of predicted over true seconds."""
    true = seconds(shipped().scaled(truth), load(batch))
    return math.log(found.latency(shipped(), load(batch)) / true)


TINY = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 32,
    "vocab_size": 2048,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}


def waiting_for_its_host(sequences: int) -> Server:
    """A model whose steps no GPU has anything to do for."""
    gpu = find("NVIDIA-L4")
    assert gpu is not None
    work = work_of(architecture_from_config(TINY))
    return server(
        work, gpu, version=NEWEST_KNOWN, max_num_batched_tokens=512, max_num_seqs=sequences
    )


def disturbed(number: int) -> float:
    """1.3 times as long in the middle twenty of sixty minutes."""
    return 1.3 if 80 <= number < 160 else 1.0


def feeding_back(number: int) -> float:
    """The batch grows with what slows the steps down, as Little's law has it."""
    return wave(number) * disturbed(number)


def test_a_step_without_prompts_is_one_step() -> None:
    at = load(32)._replace(prompt=0.0, starts=0.0)
    assert seconds(shipped(), at) == shipped().times.step(32, 920, 0, 0)


def test_steps_with_prompts_are_as_many_as_independent_starts_make() -> None:
    # 0.1 starts a step of a whole prompt of 800 tokens each: 1 - e^-0.1 = 9.5 % of steps carry
    # 840.7, with a deviation of 181.8 where prompts are equally long (0.1 * 1.1 * 800^2 / 0.0952).
    at = load(24)._replace(variation=0.0)
    alone = shipped().times.step(24, 920, 0, 0)
    mixed = [shipped().times.step(24, 920, 840.667 + one, 400) for one in (-181.839, 181.839)]
    assert at.starts == pytest.approx(0.1)
    expected = 0.904837 * alone + 0.095163 * sum(mixed) / 2
    assert seconds(shipped(), at) == pytest.approx(expected, rel=1e-5)


def test_a_prompt_that_is_cut_into_pieces_is_in_more_steps() -> None:
    # 0.1 starts of 800 tokens in pieces of 512 - 24: at least 16.4 % of steps have one.
    small = shipped(tokens=512)
    alone = small.times.step(24, 920, 0, 0)
    mixed = small.times.step(24, 920, 488, 400)
    assert pytest.approx(0.1639, abs=1e-4) == 80 / 488
    assert seconds(small, load(24)) == pytest.approx(alone + 80 / 488 * (mixed - alone))


def test_a_request_meets_one_more_than_the_mean_batch_unless_the_batch_is_full() -> None:
    half, full = interval(15, 16, 0.01), interval(15, 32, 0.01)
    mean = lengths([half])
    assert point(half, mean, 32).batch == pytest.approx(16.5)
    assert point(full, mean, 32).batch == pytest.approx(32.0)


def test_a_generated_token_attends_to_more_than_half_of_outputs_that_differ() -> None:
    # Outputs of 100 and 300 tokens: E[o^2] / 2 E[o] = 50000 / 400 = 125, and the prompt's 800.
    one = interval(
        15, 16, 0.01, finished=2.0, finished_output_tokens=400.0, finished_output_squares=100_000.0
    )
    assert lengths([one]).context == pytest.approx(925.0)


def test_what_four_times_the_batch_takes_is_predicted() -> None:
    found = learned(hour(TRUTH, wave))
    assert [abs(error(found, batch)) for batch in (16, 32, 64)] == pytest.approx(
        [0.0] * 3, abs=0.05
    )


def test_a_disturbance_that_swells_the_batch_does_not_bend_the_curve() -> None:
    found = learned(hour(TRUTH, feeding_back, disturbed))
    assert abs(error(found, 64)) < 0.08


def test_a_disturbance_within_a_block_splits_it() -> None:
    # Five minutes, twice as long, from the middle of one block to the middle of the next.
    def twice(number: int) -> float:
        return 2.0 if 110 <= number < 130 else 1.0

    found = learned(hour(TRUTH, lambda number: wave(number) * twice(number), twice))
    assert abs(error(found, 64)) < 0.08


def test_the_level_of_today_is_that_of_the_last_half_hour() -> None:
    quiet = learned(hour(TRUTH, wave))
    slow = learned(hour(TRUTH, wave, lambda number: 1.2 if number >= 120 else 1.0))
    today = math.log(slow.latency(shipped(), load(16)) / quiet.latency(shipped(), load(16)))
    assert today == pytest.approx(math.log(1.2), abs=0.02)
    assert slow.drift == pytest.approx(math.log(1.2), abs=0.02)
    assert quiet.drift == pytest.approx(0.0, abs=0.01)


def test_one_wild_interval_moves_nothing() -> None:
    calm = hour(TRUTH, wave)
    wild = [
        replace(one, gap_seconds=5 * one.gap_seconds) if n == 77 else one
        for n, one in enumerate(calm)
    ]
    assert learned(wild).latency(shipped(), load(64)) == pytest.approx(
        learned(calm).latency(shipped(), load(64)), rel=0.01
    )


def test_the_order_of_intervals_says_nothing() -> None:
    ones = hour(TRUTH, feeding_back, disturbed)
    mixed = list(ones)
    random.Random(3).shuffle(mixed)
    assert fit(mixed, shipped()) == fit(ones, shipped())


def test_the_day_says_nothing() -> None:
    ones = hour(TRUTH, feeding_back, disturbed)
    later = [replace(one, end=one.end + SHIFT) for one in ones]
    assert fit(later, shipped()) == fit(ones, shipped())


def test_a_second_is_whatever_the_intervals_make_it() -> None:
    # Intervals of one second in place of fifteen, as many steps in each: blocks are 40 of them.
    ones = hour(TRUTH, feeding_back, disturbed)
    quick = [replace(one, end=one.end / 15, seconds=1.0) for one in ones]
    assert fit(quick, shipped(), durations=Durations(1.0)) == fit(ones, shipped())


def test_two_pods_have_blocks_of_their_own() -> None:
    # One of them on a slower GPU: the blocks of an hour are six spans of time and no slope.
    both = hour(TRUTH, wave) + hour(TRUTH, lambda n: 1.2 * wave(n), lambda n: 1.2, pod="b")
    found = learned(both)
    assert (found.intervals, found.blocks) == (480, 6)
    assert found.unsteadiness == pytest.approx(math.log(1.2) / 2, abs=0.03)
    assert abs(error(found, 64) - math.log(1.2) / 2) < 0.08


def test_a_load_that_never_varies_teaches_no_slope() -> None:
    still = learned(hour(TRUTH, lambda number: 16.0))
    moving = learned(hour(TRUTH, wave))
    assert still.excitation == pytest.approx(0.0, abs=1e-9)
    assert moving.excitation == pytest.approx(0.16, abs=0.02)
    far = load(64)
    assert still.deviation(shipped(), far) > 1.2 * moving.deviation(shipped(), far)


def test_the_further_from_what_was_seen_the_less_is_known() -> None:
    found = learned(hour(TRUTH, wave))
    known = [found.deviation(shipped(), load(batch)) for batch in (16, 32, 64, 128)]
    assert known == sorted(known)
    assert known[0] < 0.05


def test_a_bend_that_the_curve_does_not_have_is_told() -> None:
    # Each time the batch passes 16 a step takes 1.4 times as long.
    def bent(number: int) -> float:
        return 1.4 if wave(number) > 16 else 1.0

    found = learned(hour(TRUTH, wave, bent))
    assert found.shape_wrong
    assert not learned(hour(TRUTH, wave)).shape_wrong


def test_equal_intervals_are_all_level() -> None:
    found = learned([interval(15.0 * n, 16.0, 0.02) for n in range(1, 101)])
    assert found.latency(shipped(), load(16)._replace(batch=16.9375)) == pytest.approx(
        0.02, rel=0.01
    )
    assert found.correlation == 0.0


def test_nothing_is_learned_from_nothing() -> None:
    assert fit([], shipped()) is None


@pytest.mark.parametrize("given", [{"steps": 19.0}, {"gaps": 49.0}])
def test_one_interval_that_says_little_is_left_out(given) -> None:
    assert fit([interval(15, 16, 0.01)], shipped())
    assert fit([interval(15, 16, 0.01, **given)], shipped()) is None


def test_short_intervals_are_learned_from_together() -> None:
    # Eleven steps each: two of them have enough.
    short = [interval(0.3 * n, 16.0, 0.3 / 11, seconds=0.3) for n in range(1, 101)]
    found = learned(short)
    assert found.intervals == 50
    assert found.latency(shipped(), load(16)._replace(batch=16.9375)) == pytest.approx(
        0.3 / 11, rel=0.01
    )


def test_what_is_learned_of_two_sizes_tells_a_sequence_s_work_from_that_of_a_step() -> None:
    """A host of which a step takes 20 ms and a sequence half of one, seen at 4 and at 16."""
    shorter = Durations(1.0)
    prior = UNSEEN
    for size in (4, 16):
        batches = [size * (1 - 0.01 * (n % 5)) for n in range(1, 61)]
        seen = [
            interval(float(n), batch, 0.020 + 0.0005 * batch, seconds=1.0)
            for n, batch in enumerate(batches, 1)
        ]
        found = fit(seen, waiting_for_its_host(size), prior, shorter)
        assert found is not None
        prior = found.prior()
    for size in (24, 32, 56):
        at = load(size)._replace(context=50.0)
        said = math.log(found.latency(waiting_for_its_host(size), at))
        wrong = abs(said - math.log(0.020 + 0.0005 * size))
        assert wrong < 1.3 * found.deviation(waiting_for_its_host(size), at)


def test_the_wait_of_preempted_requests_is_no_part_of_a_step() -> None:
    waited = interval(15, 16, 0.01, preemptions=4.0, gap_seconds=2400.0)
    assert waited.step_seconds == waited.seconds / waited.steps
    assert interval(15, 16, 0.01).step_seconds == 0.01


def test_a_prompt_is_computed_again_after_each_preemption() -> None:
    one = interval(15, 16, 0.01, preemptions=150.0)
    mean = lengths([one])
    plain = point(interval(15, 16, 0.01), mean, 256)
    again = point(one, mean, 256)
    assert again.starts == pytest.approx(plain.starts + 0.1)
    assert again.prompt == pytest.approx(plain.prompt + 0.1 * (mean.computed + mean.cached))


def test_steps_with_more_and_with_fewer_prompt_tokens_have_their_mean() -> None:
    low, high = spread(300.0, 1.0, 250.0, 1.0, 8192)
    assert (low + high) / 2 == pytest.approx(300)
    # E[x^2] = 250^2 * 3 / (1 - 1/e) = 296,600; the deviation is 454.5, and none is below 0.
    assert low == 0.0


def test_no_step_has_more_prompt_tokens_than_room() -> None:
    assert spread(4000.0, 1.0, 4000.0, 1.0, 4096) == (4000.0,)
    assert spread(3000.0, 1.0, 3000.0, 1.0, 4096) == (1904.0, 4096.0)


def test_what_is_remembered_is_plain_json() -> None:
    found = learned(hour(TRUTH, wave))
    again = Posterior.from_json_object(json.loads(json.dumps(found.to_json_object())))
    assert again == found


def test_what_was_learned_starts_the_next_fit_of_the_kind() -> None:
    # With 20 intervals of a load that does not vary the slope can only come from before.
    before = learned(hour(TRUTH, wave))
    few = hour(TRUTH, lambda number: 16.0, number=20)
    assert abs(error(learned(few, prior=before.prior()), 64)) < 0.03
    assert abs(error(learned(few), 64)) > 0.06


def test_a_key_is_one_of_a_config_map_and_differs_with_what_it_holds_for() -> None:
    one = key("Qwen/Qwen3-8B", "0.32.0", "NVIDIA-H100-80GB-HBM3", "tp1", "auto")
    assert one.startswith("latency.")
    assert all(letter.isalnum() or letter in "-._" for letter in one)
    assert one != key("Qwen/Qwen3-8B", "0.32.0", "NVIDIA-H100-80GB-HBM3", "tp2", "auto")


def test_a_quantile_lies_between_neighbours() -> None:
    assert quantile([1, 2, 3, 4], 0.5) == median([1, 2, 3, 4])
    assert quantile([0.0, 10.0], 0.95) == 9.5


@pytest.mark.parametrize("name", ["mean", "covariance", "centre"])
def test_a_curve_of_other_multipliers_is_not_read(name) -> None:
    document = learned(hour(TRUTH, wave, number=40)).to_json_object()
    with pytest.raises(ValueError, match="multipliers, not of overheads, bandwidth"):
        Posterior.from_json_object({**document, name: document[name][:-1]})
