"""Which GPUs a plan may choose from: the specification's, or those that the nodes offer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from vllm_operator.api.quantity import GIBIBYTE
from vllm_operator.api.v1alpha1 import GPU
from vllm_operator.engine.images import built_for, official_image
from vllm_operator.engine.versions import Version
from vllm_operator.errors import IllegalPin, UnknownGPU
from vllm_operator.hardware import catalogue
from vllm_operator.hardware.nodes import SHARED_SUFFIX, GPUOffer
from vllm_operator.hardware.slices import nominal_gigabytes, profile_of, slice_of, split_product
from vllm_operator.hardware.vendors import hardware_of, hardware_of_product, unplanned

from .inputs import PlanningInputs

PRODUCT_FIELD: Final = "spec.gpu.product"
MEMORY_FIELD: Final = "spec.gpu.memoryGiB"
PER_NODE_FIELD: Final = "spec.gpu.perNode"
RESOURCE_FIELD: Final = "spec.gpu.resourceName"
LABEL_VALUE_LENGTH: Final = 63
"""Characters of a node label's value, and so of a product's name."""
OF_THE_SLICE: Final = "the slice's MiB in nvidia-smi divided by 1024, less 1: PyTorch sees less"
ASSUMED_PER_NODE: Final = 8
"""GPUs in a node that nobody has described: the largest usual server. The smallest layout that
fits is taken anyway, so a smaller node is only missed where it would not have been enough."""


@dataclass(frozen=True, slots=True)
class GPUCandidate:
    """A product that a replica could run on."""

    offer: GPUOffer
    per_node_known: bool
    why: str
    """Where the product comes from, for the ledger."""

    @property
    def largest_world(self) -> int:
        """GPUs that can serve one model together in one node; MIG slices cannot."""
        return 1 if self.offer.is_partition else self.offer.per_node


def gpu_candidates(gpu: GPU | None, inputs: PlanningInputs) -> tuple[GPUCandidate, ...]:
    """The products to choose from.

    Raises UnknownGPU where there are none, and IllegalPin for a resource that is not the product's.
    """
    gpu = gpu or GPU()
    _refuse_unplanned(gpu)
    if gpu.product is not None:
        _refuse_shared(gpu, gpu.product, inputs)
        return (_named(gpu, gpu.product, inputs.offers),)
    if not inputs.offers:
        raise UnknownGPU(PRODUCT_FIELD, _nothing_to_choose(inputs))
    found = [_offered(gpu, offer) for offer in inputs.offers]
    if gpu.resource_name is not None:
        asked = [c for c in found if c.offer.resource_name == gpu.resource_name]
        if not asked:
            offered = ", ".join(sorted({c.offer.resource_name for c in found}))
            raise UnknownGPU(
                RESOURCE_FIELD,
                f"no node offers {gpu.resource_name}; the nodes offer {offered}",
            )
        found = asked
    usable = tuple(candidate for candidate in found if candidate.offer.memory_bytes > 0)
    if not usable:
        raise UnknownGPU(
            MEMORY_FIELD,
            f"neither the catalogue nor a node label says how much memory "
            f"{', '.join(sorted(c.offer.product for c in found))} has; set {MEMORY_FIELD}",
        )
    return usable


def _refuse_unplanned(gpu: GPU) -> None:
    """Raise UnknownGPU for hardware whose memory no plan counts, by its name."""
    found = unplanned(gpu.product, gpu.resource_name)
    if found is None or (found.given_memory and gpu.memory_gib is not None):
        return
    by_name = unplanned(gpu.product, None) is not None
    field, name = (PRODUCT_FIELD, gpu.product) if by_name else (RESOURCE_FIELD, gpu.resource_name)
    raise UnknownGPU(field, f"{name} stands for {found.hardware}: {found.because}; {found.remedy}")


def image_refused(offer: GPUOffer, image: str, version: Version) -> str | None:
    """Why an image cannot run on such GPUs, or None: only what is known of both is judged."""
    needed, built = hardware_of_product(offer.product, offer.resource_name), built_for(image)
    if needed is None or built is None or needed == built:
        return None
    works = official_image(needed, version) or f"a build of vLLM {version} for {needed}"
    return (
        f"{image} is built for {built} and does not run on {needed} ({offer.product}); "
        f"set spec.engine.image to {works}"
    )


def _nothing_to_choose(inputs: PlanningInputs) -> str:
    if inputs.shared_products:
        return (
            f"the nodes offer only GPUs that pods share by time-slicing or MPS "
            f"({', '.join(inputs.shared_products[:4])}), whose memory is not one server's alone; "
            f"offer whole GPUs or MIG slices, or {_share_of(inputs.shared_products[0])}"
        )
    if inputs.nodes_visible:
        return (
            "no node offers a GPU (label nvidia.com/gpu.product or amd.com/gpu.product-name); "
            "add GPU nodes with GPU feature discovery, or set spec.gpu.product, for example H100"
        )
    return (
        "there are no nodes to choose a GPU from; set spec.gpu.product, for example H100, "
        "or give --gpu or --nodes on the command line"
    )


def _share_of(shared: str) -> str:
    """What to set to take a share of a GPU of that product."""
    card = catalogue.find(shared.removesuffix(SHARED_SUFFIX))
    figure = f" (at most {card.memory_bytes // (GIBIBYTE // 10) / 10:g})" if card else ""
    return (
        f"set {PRODUCT_FIELD} to {shared}, {MEMORY_FIELD} to the card's memory{figure} and "
        "spec.engine.gpuMemoryUtilization to this server's share of it: the shares on a card must "
        "stay below 1 together, as nothing else keeps them apart"
    )


def _refuse_shared(gpu: GPU, name: str, inputs: PlanningInputs) -> None:
    """Raise UnknownGPU where the nodes have a product only as GPUs that pods share.

    Who gives the memory means a share, and who gives the GPUs of a node means nodes to come.
    """
    if gpu.memory_gib is not None:
        return
    card = catalogue.find(name.removesuffix(SHARED_SUFFIX))
    values = {name.casefold(), *(v.casefold() for v in (card.label_values if card else ()))}
    if any(offer.product.casefold() in values for offer in inputs.offers):
        return
    for shared in inputs.shared_products:
        is_named = shared.casefold() == name.casefold()
        is_of_card = shared.removesuffix(SHARED_SUFFIX).casefold() in values
        if is_named or (is_of_card and gpu.per_node is None):
            whole = shared.removesuffix(SHARED_SUFFIX)
            had = f"{shared}," if is_named else f"{name} only as {shared},"
            named = f"{PRODUCT_FIELD} to {whole} and " if is_named else ""
            raise UnknownGPU(
                PRODUCT_FIELD,
                f"the nodes have {had} which pods share by time-slicing or MPS: each sees the "
                f"whole memory, and none has any for itself; {_share_of(shared)}; for whole GPUs "
                f"of nodes to come, set {named}{PER_NODE_FIELD}",
            )


def _memory(gpu: GPU, otherwise: int) -> int:
    return int(gpu.memory_gib * GIBIBYTE) if gpu.memory_gib is not None else otherwise


def _offered(gpu: GPU, offer: GPUOffer) -> GPUCandidate:
    adjusted = replace(
        offer,
        memory_bytes=_memory(gpu, offer.memory_bytes),
        per_node=gpu.per_node or offer.per_node,
    )
    return GPUCandidate(adjusted, per_node_known=True, why="offered by the nodes")


def _named(gpu: GPU, name: str, offers: Sequence[GPUOffer]) -> GPUCandidate:
    product = catalogue.find(name)
    folded = name.casefold()
    values = {value.casefold() for value in product.label_values} if product else set()
    exact = [offer for offer in offers if offer.product.casefold() == folded]
    matching = exact or [offer for offer in offers if offer.product.casefold() in values]
    _refuse_other_hardware(gpu, name, product, matching)
    if (profile := profile_of(gpu.resource_name)) is not None:
        return _sliced(gpu, name, profile, offers)
    if gpu.resource_name is not None:
        matching = [o for o in matching if o.resource_name == gpu.resource_name] or matching
    if matching:
        return _from_nodes(gpu, name, matching)
    if product is None and gpu.memory_gib is None:
        raise UnknownGPU(PRODUCT_FIELD, _unknown(name, offers))
    resource = gpu.resource_name or (
        product.resource_name if product else catalogue.NVIDIA_RESOURCE
    )
    card = product or catalogue.find(
        split_product(_label_value(name).removesuffix(SHARED_SUFFIX))[0]
    )
    offer = GPUOffer(
        product=product.name if product else _label_value(name),
        memory_bytes=_memory(gpu, product.memory_bytes if product else 0),
        per_node=gpu.per_node or ASSUMED_PER_NODE,
        nodes=0,
        resource_name=resource,
        node_labels=product.node_labels if product else _labels_of(name, resource),
        compute_capability=card.compute_capability if card else None,
    )
    return _not_offered(gpu, offer)


def _not_offered(gpu: GPU, offer: GPUOffer) -> GPUCandidate:
    return GPUCandidate(
        offer,
        per_node_known=gpu.per_node is not None,
        why=f"{PRODUCT_FIELD}; no node offers it yet",
    )


def _refuse_other_hardware(
    gpu: GPU, name: str, product: catalogue.GPUProduct | None, offered: Sequence[GPUOffer]
) -> None:
    """A known product never comes as another vendor's resource: its pods would stay Pending.

    Raises IllegalPin.
    """
    usual = product.resource_name if product else next((o.resource_name for o in offered), "")
    asked, real = hardware_of(gpu.resource_name or ""), hardware_of(usual)
    if asked is not None and real is not None and asked != real:
        raise IllegalPin(
            RESOURCE_FIELD,
            f"is {gpu.resource_name}, which stands for {asked}, and {name} is one of the {real}; "
            f"set it to {usual}, or remove it",
        )


def _sliced(gpu: GPU, name: str, profile: str, offers: Sequence[GPUOffer]) -> GPUCandidate:
    """A slice of the product, or the slice that the product names.

    Raises IllegalPin where the product is a slice of another size, and where the memory is more
    than the slice's; UnknownGPU where nothing says how much memory the slice has.
    """
    resource = str(gpu.resource_name)
    whole, own = split_product(_label_value(name))
    if own is not None and own.casefold() != profile:
        raise IllegalPin(
            RESOURCE_FIELD,
            f"is {resource}, and {name} is a slice of another size; set it to "
            f"nvidia.com/mig-{own}, or name the whole card in {PRODUCT_FIELD}",
        )
    card = catalogue.find(whole)
    values = tuple(slice_of(one, profile) for one in (card.label_values if card else (whole,)))
    folded = {value.casefold() for value in values}
    named = slice_of(card.name if card else whole, profile)[:LABEL_VALUE_LENGTH]
    _refuse_more_than_slice(gpu, resource)
    matching = [o for o in offers if o.resource_name == resource and o.product.casefold() in folded]
    if matching:
        return _from_nodes(gpu, named, matching)
    if gpu.memory_gib is None:
        raise UnknownGPU(
            MEMORY_FIELD,
            f"{resource} is a slice of {name}, and no node says how much memory it has; set "
            f"{MEMORY_FIELD} to {OF_THE_SLICE}",
        )
    offer = GPUOffer(
        product=named,
        memory_bytes=_memory(gpu, 0),
        per_node=gpu.per_node or ASSUMED_PER_NODE,
        nodes=0,
        resource_name=resource,
        node_labels={f"{resource}.product": values},
        compute_capability=card.compute_capability if card else None,
    )
    return _not_offered(gpu, offer)


def _refuse_more_than_slice(gpu: GPU, resource: str) -> None:
    """Raise IllegalPin where the memory given is the whole card's."""
    most = nominal_gigabytes(resource)
    if gpu.memory_gib is not None and gpu.memory_gib > most:
        raise IllegalPin(
            MEMORY_FIELD,
            f"is {gpu.memory_gib:g}, and a slice {resource} has at most {most}; set it to "
            f"{OF_THE_SLICE}",
        )


def _label_value(name: str) -> str:
    # GPU feature discovery writes the device's name with dashes for spaces.
    return name.replace(" ", "-")


def _labels_of(name: str, resource: str) -> Mapping[str, tuple[str, ...]]:
    amd = resource == catalogue.AMD_RESOURCE
    label = catalogue.AMD_PRODUCT_LABEL if amd else catalogue.PRODUCT_LABEL
    return {label: (_label_value(name),)}


def _from_nodes(gpu: GPU, name: str, matching: Sequence[GPUOffer]) -> GPUCandidate:
    first = matching[0]
    same = [offer for offer in matching if offer.resource_name == first.resource_name]
    labels: dict[str, tuple[str, ...]] = {}
    for offer in same:
        for label, values in offer.node_labels.items():
            labels[label] = tuple(sorted({*labels.get(label, ()), *values}))
    products = sorted({offer.product for offer in same})
    capabilities = [offer.compute_capability for offer in same if offer.compute_capability]
    memory = _memory(gpu, min(offer.memory_bytes for offer in same))
    if memory <= 0:
        raise UnknownGPU(
            MEMORY_FIELD,
            f"neither the catalogue nor a node label says how much memory {first.product} has; "
            f"set {MEMORY_FIELD}",
        )
    offer = GPUOffer(
        # Several labels behind one alias: the alias stays the name, the labels select the nodes.
        product=products[0] if len(products) == 1 else name,
        memory_bytes=memory,
        per_node=gpu.per_node or max(offer.per_node for offer in same),
        nodes=sum(offer.nodes for offer in same),
        resource_name=gpu.resource_name or first.resource_name,
        node_labels=labels,
        compute_capability=min(capabilities, default=None),
    )
    return GPUCandidate(offer, per_node_known=True, why=f"{PRODUCT_FIELD}; offered by the nodes")


def _unknown(name: str, offers: Sequence[GPUOffer]) -> str:
    # A whole card's name is near that of its slices, and would be planned with all its memory.
    near = None if "MIG" in name.upper() else catalogue.nearest(name, _names(offers))
    hint = f"did you mean {near}? Otherwise " if near else ""
    offered = ", ".join(offer.product for offer in offers[:8])
    nodes = f" The nodes offer {offered}." if offered else ""
    return f"{name} is in no catalogue and on no node; {hint}set {MEMORY_FIELD}.{nodes}"


def _names(offers: Sequence[GPUOffer]) -> list[str]:
    return [offer.product for offer in offers]
