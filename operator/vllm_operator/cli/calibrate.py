"""``vllm-operator calibrate``: measure the GPUs themselves, for plans that rest on them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import click
import yaml
from rich.console import Console
from rich.table import Table

from vllm_operator.api.conditions import timestamp
from vllm_operator.benchmark.calibration import Calibrated, calibration_job, read_log
from vllm_operator.benchmark.jobs import name_at
from vllm_operator.engine.images import built_for, official_image
from vllm_operator.engine.versions import DEFAULT_IMAGE, Version
from vllm_operator.errors import ApiError, InputError, TemporaryFailure
from vllm_operator.hardware import performance
from vllm_operator.hardware.catalogue import find, normalised
from vllm_operator.hardware.measured import MeasuredGPU
from vllm_operator.hardware.nodes import GPUOffer, inventory
from vllm_operator.hardware.vendors import hardware_of
from vllm_operator.lifecycle.kinds import CALIBRATION, CONFIG_MAPS, NODES

from .cluster import answer
from .jobs import Jobs
from .options import deadline_option, output_option, told

DEADLINE_MINUTES: Final = 20
OPERATORS_NAMESPACE: Final = "vllm-operator"
NEEDS: Final = (
    "Measuring GPUs needs list of nodes; create, get and delete of jobs.batch; list of pods and "
    "get of pods/log; get, create and patch of configmaps: docs/calibrating.md has the roles"
)
TROUBLE: Final = (InputError, ApiError, TemporaryFailure)
"""What may go wrong with one product and leaves the others' figures."""

Object = dict[str, Any]


class GPUs(Jobs):
    """A cluster whose GPUs are measured."""

    def __init__(self, client: Any, namespace: str) -> None:
        super().__init__(client, namespace, NEEDS)

    async def offers(self) -> tuple[GPUOffer, ...]:
        """What its nodes offer."""
        return inventory(await self.listed(NODES, None))

    async def keep_gpu(self, found: MeasuredGPU) -> None:
        """Put a measurement where the operator reads it; one of the product before it goes."""
        data = {found.key: json.dumps(found.to_json_object(), sort_keys=True)}
        if await self.get(CONFIG_MAPS, self.namespace, CALIBRATION) is None:
            metadata = {"name": CALIBRATION, "namespace": self.namespace}
            body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}
            await self.create(CONFIG_MAPS, body)
        else:
            await self.merge(CONFIG_MAPS, CALIBRATION, {"data": data})


@click.command("calibrate")
@click.argument("products", nargs=-1)
@click.option(
    "-n",
    "--namespace",
    default=OPERATORS_NAMESPACE,
    show_default=True,
    help="The operator's: the Jobs run there, and it reads the figures there.",
)
@click.option(
    "--gpus",
    type=click.IntRange(1, 16),
    default=1,
    show_default=True,
    help="GPUs of a node to take; several also tell how fast they are joined.",
)
@click.option(
    "--image",
    default=DEFAULT_IMAGE,
    show_default=True,
    help="An image of vLLM; products of hardware that it is not built for are left out.",
)
@deadline_option(
    240, DEADLINE_MINUTES, says="After which a Job is ended, also one that found no free GPU."
)
@output_option(
    *("table", "json", "yaml"),
    says="json prints what --measured of plan and render reads; yaml the Jobs, and runs nothing.",
)
def calibrate_command(
    products: tuple[str, ...],
    namespace: str,
    gpus: int,
    image: str,
    deadline_minutes: int,
    output: str,
) -> None:
    """Measure the GPUs of PRODUCTS, of all that the nodes offer unless some are named.

    A Job for each product takes a free GPU for minutes and measures matrix products, copies and,
    with several GPUs, all-reduces. Plans made later rest on these figures instead of the
    datasheet's; running servers stay as they are. Exit status: 0, or 2 where one was not measured.
    """

    async def question(cluster: GPUs) -> None:
        now = datetime.now(UTC)
        offers, left_out = runnable(named(await cluster.offers(), products), image)
        if left_out and (products or not offers):
            raise InputError("; ".join(left_out))
        for note in left_out:
            click.echo(note, err=True)
        jobs = [
            calibration_job(
                one,
                name_at(now),
                namespace,
                image=image,
                gpus=gpus,
                deadline_seconds=60 * deadline_minutes,
            )
            for one in offers
        ]
        if output == "yaml":
            click.echo(yaml.safe_dump_all(jobs, sort_keys=False, width=100), nl=False)
            return
        found, failures = await _measured(cluster, offers, jobs, timestamp(now), image)
        if output == "json":
            click.echo(json.dumps([one.to_json_object() for one in found], indent=2))
        elif found:
            Console(highlight=False).print(table(found))
        failures += await kept(cluster, found)
        if failures:
            raise InputError("; ".join(failures))

    with told():
        answer(lambda client: GPUs(client, namespace), question)


def named(offers: Sequence[GPUOffer], products: Sequence[str]) -> list[GPUOffer]:
    """The offers of whole GPUs that are asked for. Raises ``InputError`` for one that is none."""
    whole = [one for one in offers if not one.is_partition]
    there = ", ".join(one.product for one in whole) or "none"
    if not products:
        if not whole:
            raise InputError("no node offers a whole GPU")
        return whole
    found = []
    for product in products:
        known = find(product)
        values = {normalised(one) for one in (product, *(known.label_values if known else ()))}
        matching = [one for one in whole if normalised(one.product) in values]
        if not matching:
            raise InputError(f"no node offers a whole {product}; the nodes offer {there}")
        found += [one for one in matching if one not in found]
    return found


def runnable(offers: Sequence[GPUOffer], image: str) -> tuple[list[GPUOffer], list[str]]:
    """The offers that an image can run on, and of each other one why not. Of an image, or of
    hardware, that nobody knows nothing is said: it is tried."""
    of, fitting, left_out = built_for(image), [], []
    for one in offers:
        hardware = hardware_of(one.resource_name)
        if of is None or hardware in (None, of):
            fitting.append(one)
            continue
        other = official_image(str(hardware), Version.parse(DEFAULT_IMAGE.rpartition(":v")[2]))
        remedy = f"vllm-operator calibrate {one.product} --image {other or 'IMAGE'}"
        left_out.append(
            f"{one.product} is not measured: {image} is built for {of}, and these are {hardware}; "
            f"{remedy} measures them"
        )
    return fitting, left_out


async def kept(cluster: GPUs, found: Sequence[MeasuredGPU]) -> list[str]:
    """What went wrong with keeping each measurement; the others are kept."""
    failures = []
    for one in found:
        try:
            await cluster.keep_gpu(one)
        except TROUBLE as problem:
            failures.append(
                f"{one.product} was measured, and the cluster does not keep it: {problem}"
            )
    return failures


async def _measured(
    cluster: GPUs, offers: Sequence[GPUOffer], jobs: Sequence[Object], at: str, image: str
) -> tuple[list[MeasuredGPU], list[str]]:
    """What each Job measured, and what went wrong; an interrupt ends all of them."""
    console = Console(stderr=True, highlight=False)

    async def one(offer: GPUOffer, job: Object) -> MeasuredGPU:
        name, told = job["metadata"]["name"], [""]

        def watcher(log: str, waits: str) -> None:
            state = f"its pod waits: {waits}" if waits else read_log(log).state
            if told[-1] != state:
                console.print(f"{offer.product}: {state}", soft_wrap=True)
                told.append(state)

        await cluster.begin(job)
        try:
            text = await cluster.ended(name, watcher)
        except asyncio.CancelledError:
            await cluster.delete(name)
            raise
        read: Calibrated = read_log(text)
        for note in read.notes:
            console.print(f"{offer.product}: {note}", soft_wrap=True)
        return read.of(offer.product, at, image)

    pairs = zip(offers, jobs, strict=True)
    ended = await asyncio.gather(*(one(*pair) for pair in pairs), return_exceptions=True)
    for problem in ended:
        if isinstance(problem, BaseException) and not isinstance(problem, TROUBLE):
            raise problem
    found = [one for one in ended if isinstance(one, MeasuredGPU)]
    failures = [
        str(problem) if offer.product in str(problem) else f"{offer.product}: {problem}"
        for offer, problem in zip(offers, ended, strict=True)
        if isinstance(problem, TROUBLE)
    ]
    return found, failures


def table(found: Sequence[MeasuredGPU]) -> Table:
    """Each figure beside its share of the datasheet."""
    shown = Table(title="Measured, and its share of the datasheet's figure")
    shown.add_column("GPU", no_wrap=True)
    for name in ("16-bit TFLOP/s", "FP8 TFLOP/s", "copy GB/s", "all-reduce GB/s", "of 8 KiB"):
        shown.add_column(name, justify="right")
    for one in found:
        least = one.all_reduce_seconds
        sheet = performance.find(one.product)
        peaks: tuple[float | None, ...] = (None,) * 4
        if sheet is not None:
            peaks = (
                sheet.flops_16bit,
                sheet.flops_fp8,
                sheet.memory_bandwidth,
                sheet.link_bandwidth,
            )
        shown.add_row(
            one.product,
            _cell(one.flops_16bit, peaks[0], 1e12),
            _cell(one.flops_fp8, peaks[1], 1e12),
            _cell(one.copy_bandwidth, peaks[2], 1e9),
            _cell(one.all_reduce_bandwidth, peaks[3], 1e9),
            "-" if least is None else f"{least * 1e6:.0f} us",
        )
    return shown


def _cell(value: float | None, peak: float | None, unit: float) -> str:
    if value is None:
        return "-"
    return f"{value / unit:,.0f}" + (f" ({value / peak:.0%})" if peak else "")
