"""The arguments of ``vllm bench serve``, spelled for a version."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import takewhile
from typing import Any, Final

from vllm_operator.api.plan import Plan
from vllm_operator.engine.bench import COMPLETIONS, bench_flags
from vllm_operator.engine.versions import Version
from vllm_operator.errors import InputError

from .load import Load, Point, seed_of

PERCENTILES: Final = "50,90,99"
LATENCIES: Final = "ttft,tpot,itl,e2el"
POOLING: Final = ("pooling", "embed", "classify", "score", "reward")
"""What ``--runner`` or ``--task`` say of a server that generates nothing."""


def value_of(command: Sequence[str], flag: str) -> str | None:
    """The first value of a flag on a command line of vLLM; None where it is not there."""
    for place, argument in enumerate(command):
        name, equals, value = argument.partition("=")
        if name == flag and equals:
            return value
        if argument == flag and place + 1 < len(command):
            return command[place + 1]
    return None


def tokenizer_of(plan: Plan, given: str | None = None) -> dict[str, Any]:
    """Name and revision of what counts tokens: as given, else the one that the server has.

    Raises ``InputError`` where that lies in an object store, which is read by engines alone.
    """
    command = plan.engine.command
    model = command[2] if len(command) > 2 else plan.model.id
    named = given or value_of(command, "--tokenizer")
    name = named or model
    if "://" in name:
        raise InputError(
            f"the tokenizer lies in {name}, and object stores are read by engines alone; name the "
            "same one on the Hub with --tokenizer"
        )
    flag = "--tokenizer-revision" if named else "--revision"
    return {"name": name, "revision": None if given else value_of(command, flag)}


def refuse_pooling(plan: Plan) -> None:
    """Raises ``InputError`` for a server that generates nothing: there is no answer to time."""
    for flag in ("--runner", "--task"):
        said = value_of(plan.engine.command, flag)
        if said in POOLING:
            raise InputError(
                f"{plan.name} runs with {flag} {said} and generates nothing; what is measured here "
                "is generation"
            )


def bench_arguments(plan: Plan, base_url: str, load: Load, point: Point, seed: int) -> list[str]:
    """What follows ``vllm bench serve``, without tokenizer and result; what is of one run is last.

    Lengths do not vary in any version: the default of ``--random-range-ratio`` was 1.0 of a lowest
    share in 0.8.5, and is 0.0 of a spread since. Which API is asked is the default too (completions
    of OpenAI's), whose name changed.
    Raises ``UnsupportedEngineVersion``.
    """
    known = bench_flags(Version.parse(plan.engine.version))
    command = plan.engine.command
    at_once = {} if point.concurrency is None else {"--max-concurrency": str(point.concurrency)}
    mode = value_of(command, "--tokenizer-mode")
    values: Mapping[str, str] = {
        "--base-url": base_url,
        "--endpoint": COMPLETIONS,
        "--model": value_of(command, "--served-model-name") or plan.model.id,
        "--dataset-name": "random",
        "--random-input-len": str(load.prompt_tokens - load.shared_prefix_tokens),
        "--random-output-len": str(load.output_tokens),
        "--random-prefix-len": str(load.shared_prefix_tokens),
        "--percentile-metrics": LATENCIES,
        "--metric-percentiles": PERCENTILES,
        "--temperature": "0",
        **({} if mode is None else {"--tokenizer-mode": mode}),
    }
    switches = ["--ignore-eos", "--disable-tqdm"]
    switches += ["--trust-remote-code"] if "--trust-remote-code" in command else []
    own: Mapping[str, str] = {
        "--request-rate": "inf" if point.request_rate is None else f"{point.request_rate:g}",
        "--num-prompts": str(point.prompts),
        **at_once,
        "--seed": str(seed),
    }
    return [
        *_taken(values, known),
        *(switch for switch in switches if switch in known),
        *_taken(own, known),
    ]


def _taken(values: Mapping[str, str], known: Collection[str]) -> Iterator[str]:
    return (part for flag, value in values.items() if flag in known for part in (flag, value))


def runs_of(
    plan: Plan, base_url: str, load: Load, points: Sequence[Point], repeats: int, name: str
) -> list[dict[str, Any]]:
    """Each run as the script takes it: at each load one that warms up and is not kept, and repeats.

    The repeats of all loads go round, so that what drifts with time is in all of them alike.
    """
    runs: list[dict[str, Any]] = []

    def run(number: int, repeat: int | None, point: Point) -> None:
        seed = seed_of(name, len(runs))
        says = "warms up" if repeat is None else f"run {repeat + 1} of {repeats}"
        runs.append(
            {
                "point": number,
                "repeat": repeat,
                "says": f"{says} with {point}",
                "arguments": bench_arguments(plan, base_url, load, point, seed),
            }
        )

    for number, point in enumerate(points):
        few = min(point.prompts, point.concurrency or point.prompts)
        run(number, None, Point(few, point.concurrency, point.request_rate))
    for repeat in range(repeats):
        for number, point in enumerate(points):
            run(number, repeat, point)
    return runs


def shared(runs: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[dict[str, Any]]]:
    """The arguments with which all runs begin, and the runs without them: told once, hundreds of
    runs fit into one argument of a process."""
    columns = zip(*(run["arguments"] for run in runs), strict=False)
    first = [words[0] for words in takewhile(lambda words: len(set(words)) == 1, columns)]
    return first, [{**run, "arguments": run["arguments"][len(first) :]} for run in runs]
