"""Servers, curves and loads for the tests of forecasts and choices."""

from dataclasses import replace

from vllm_operator.engine.versions import Version
from vllm_operator.hardware import performance as gpus
from vllm_operator.models import catalogue
from vllm_operator.models.architecture import architecture_from_config
from vllm_operator.sizing.performance.multipliers import Multipliers
from vllm_operator.sizing.performance.server import Server, server
from vllm_operator.sizing.performance.work import work_of
from vllm_operator.tuning.curve import Posterior, assumed
from vllm_operator.tuning.load import Load


def llama(seqs: int = 256, tokens: int = 8192) -> Server:
    """Llama-3.1-8B on an H100."""
    return _served("meta-llama/Llama-3.1-8B-Instruct", seqs, tokens)


def experts(seqs: int = 256, tokens: int = 8192) -> Server:
    """Qwen3-30B-A3B on an H100: launching its kernels takes longer than most of its steps."""
    return _served("Qwen/Qwen3-30B-A3B", seqs, tokens)


def _served(model: str, seqs: int, tokens: int) -> Server:
    facts = catalogue.find(model)
    gpu = gpus.find("NVIDIA-H100-80GB-HBM3")
    assert facts is not None
    assert gpu is not None
    return server(
        work_of(architecture_from_config(facts.config)),
        gpu,
        version=Version((0, 32, 0)),
        max_num_batched_tokens=tokens,
        max_num_seqs=seqs,
    )


def learned(deviation: float = 0.01, batch: float = 64.0, **given: object) -> Posterior:
    """The coefficients as they are shipped, each multiplier known to ``deviation``."""
    square = deviation * deviation
    number = len(Multipliers._fields)
    covariance = tuple(
        tuple(square if row == column else 0.0 for column in range(number)) for row in range(number)
    )
    found = replace(
        assumed(batch=batch),
        covariance=covariance,
        noise=0.03,
        intervals=240,
        blocks=6,
        excitation=0.2,
        unsteadiness=0.02,
        identified=Multipliers._fields,
    )
    return replace(found, **given)


CHAT = Load(
    pods=1,
    rate=9.0,
    rates=((1.0, 9.0),),
    prompt=800.0,
    cached=0.0,
    output=250.0,
    output_square=90_000.0,
    prompt_variation=1.0,
    held=980.0,
    in_flight=28.0,
    dispersion=1.5,
    waiting=0.0,
    growth=0.0,
    population=None,
    disagreement=0.0,
    tokens_per_second=2250.0,
    latency=0.0125,
    preemptions=0.0,
    late_gaps=None,
    late_first_tokens=None,
    requests=16_200.0,
    seconds=1800.0,
)
"""9 requests a second of 800 and 250 tokens, which the server keeps up with."""


def offered(rate: float, **given: object) -> Load:
    """The same with another rate."""
    return replace(CHAT, rate=rate, rates=((1.0, rate),), **given)


def clients(number: float, **given: object) -> Load:
    """So many that ask again at once."""
    return replace(CHAT, population=number, in_flight=number, dispersion=0.0, **given)
