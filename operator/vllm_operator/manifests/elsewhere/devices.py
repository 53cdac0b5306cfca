"""Which GPUs of the machine a server gets: their number is the plan's, the choice is the user's."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

from vllm_operator.errors import IllegalPin
from vllm_operator.hardware.vendors import hardware_of_product
from vllm_operator.manifests.planned import Planned

Vendor = Literal["NVIDIA", "AMD"]
VENDORS: Final[dict[str, Vendor]] = {"NVIDIA GPUs": "NVIDIA", "AMD GPUs": "AMD"}
VISIBLE: Final[dict[Vendor, str]] = {
    "NVIDIA": "CUDA_VISIBLE_DEVICES",
    "AMD": "HIP_VISIBLE_DEVICES",
}
"""Variables by which a process sees some GPUs alone: CUDA's own, and for ROCm that which vLLM reads
(``platforms/rocm.py``, ``HIP_VISIBLE_DEVICES``)."""
AMD_NODES: Final = ("/dev/kfd", "/dev/dri")
"""What a container needs of an AMD GPU (ROCm documentation, running ROCm Docker containers)."""
LISTING: Final[dict[Vendor, str]] = {"NVIDIA": "nvidia-smi -L", "AMD": "amd-smi list"}
DEVICE: Final = re.compile(r"[0-9]{1,3}|(GPU|MIG)-[0-9A-Za-z/-]+")
OPTION: Final = "--devices"


@dataclass(frozen=True, slots=True)
class Devices:
    """GPUs of one machine, by number or UUID, in the order that the engine sees them."""

    vendor: Vendor
    ids: tuple[str, ...]

    @property
    def listed(self) -> str:
        """As one value."""
        return ",".join(self.ids)

    @property
    def variable(self) -> str:
        """The variable by which a process sees these alone."""
        return VISIBLE[self.vendor]


def devices_of(planned: Planned, asked: str | None, target: str) -> Devices:
    """The GPUs that were asked for, as ``0,1``; by default the first ones of the machine.

    Raises IllegalPin for hardware that the targets cannot hand on, and where they are not as many
    as the plan takes.
    """
    placement, gpu = planned.plan.placement, planned.gpu
    hardware = hardware_of_product(placement.gpu, gpu.resource_name)
    vendor = VENDORS.get(hardware or "")
    if vendor is None:
        raise IllegalPin(
            "spec.gpu.resourceName",
            f"{gpu.resource_name} does not say how {target} hands the GPU on; nvidia.com/gpu and "
            "amd.com/gpu do, or render --target kubernetes",
        )
    count = placement.gpus_per_replica
    if asked is None:
        if gpu.is_partition:
            raise IllegalPin(
                OPTION,
                f"a slice has no number; name the {placement.gpu} by its UUID, as nvidia-smi -L "
                f"lists it: {OPTION} MIG-…",
            )
        return Devices(vendor, tuple(str(number) for number in range(count)))
    ids = tuple(one.strip() for one in asked.split(","))
    _check(ids, count, placement.gpu)
    return Devices(vendor, ids)


def _check(ids: tuple[str, ...], count: int, product: str) -> None:
    wrong = [one for one in ids if DEVICE.fullmatch(one) is None]
    if wrong:
        raise IllegalPin(
            OPTION, f"{wrong[0]!r} is no GPU; give numbers or UUIDs with commas between: 0,1"
        )
    if len(set(ids)) != len(ids):
        raise IllegalPin(OPTION, f"{','.join(ids)} names a GPU twice; name each once")
    if len(ids) != count:
        example = ",".join(str(number) for number in range(count))
        raise IllegalPin(
            OPTION,
            f"names {len(ids)}, and the plan takes {count} x {product}; name {count}, such as "
            f"{example}, or set spec.parallelism",
        )
