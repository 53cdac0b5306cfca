"""Node objects tell which GPUs there are, whatever order they come in."""

import random
from typing import Any

import pytest

from vllm_operator import datafiles
from vllm_operator.hardware import catalogue
from vllm_operator.hardware.nodes import (
    GPUOffer,
    fingerprint,
    inventory,
    own_labels,
    shared_products,
)

GIBIBYTE = 1024**3
H100_BYTES = int(79.18 * GIBIBYTE)


def node(name: str, labels: dict[str, str], **resources: str) -> dict[str, Any]:
    counts = {key.replace("_", "/", 1): value for key, value in resources.items()}
    return {
        "kind": "Node",
        "metadata": {"name": name, "labels": labels},
        "spec": {},
        "status": {"capacity": {"cpu": "8", **counts}, "allocatable": {"cpu": "7", **counts}},
    }


def nvidia(name: str, product: str, count: int | str, **labels: str) -> dict[str, Any]:
    given = {f"nvidia.com/gpu.{key}": value for key, value in labels.items()}
    labels = {"nvidia.com/gpu.product": product, **given}
    return node(name, labels, **{"nvidia.com_gpu": str(count)})


def h100(name: str = "a", count: int = 8) -> dict[str, Any]:
    return nvidia(name, "NVIDIA-H100-80GB-HBM3", count, memory="81559")


def test_nodes_of_one_product_are_one_offer():
    assert inventory([h100("a", 8), h100("b", 4)]) == (
        GPUOffer(
            product="NVIDIA-H100-80GB-HBM3",
            memory_bytes=H100_BYTES,
            per_node=8,
            nodes=2,
            resource_name="nvidia.com/gpu",
            node_labels={"nvidia.com/gpu.product": ("NVIDIA-H100-80GB-HBM3",)},
            compute_capability=(9, 0),
        ),
    )


def test_the_order_of_the_nodes_does_not_matter():
    nodes = [h100("a"), nvidia("b", "NVIDIA-L4", 1), nvidia("c", "Tesla-T4", 4), h100("d", 2)]
    offers = inventory(nodes)
    random.Random(7).shuffle(nodes)
    assert inventory(nodes) == offers
    assert [offer.product for offer in offers] == sorted(offer.product for offer in offers)


def test_an_unknown_product_gets_less_than_its_label_says():
    (offer,) = inventory([nvidia("a", "NVIDIA-X100", 1, memory="81559")])
    assert offer.memory_bytes == 81559 * 2**20 - GIBIBYTE // 2 - 81559 * 2**20 // 200


def test_an_unknown_product_without_a_memory_label_has_no_memory():
    (offer,) = inventory([nvidia("a", "NVIDIA-X100", 1)])
    assert offer.memory_bytes == 0


def test_a_label_that_says_clearly_less_than_the_catalogue_wins():
    (offer,) = inventory([nvidia("a", "NVIDIA-RTX-A6000", 1, memory="46068")])
    assert offer.memory_bytes < 45 * GIBIBYTE


def test_the_smallest_memory_of_a_product_counts():
    nodes = [nvidia("a", "X", 1, memory="40000"), nvidia("b", "X", 1, memory="20000")]
    assert inventory(nodes) == inventory([nvidia("b", "X", 1, memory="20000")] * 2)


def test_the_compute_capability_is_read_from_the_labels():
    labels = {"compute.major": "12", "compute.minor": "1"}
    (offer,) = inventory([nvidia("a", "NVIDIA-X100", 1, memory="40000", **labels)])
    assert offer.compute_capability == (12, 1)


def test_cordoned_and_not_ready_nodes_still_tell_their_product():
    cordoned = h100()
    cordoned["spec"] = {"unschedulable": True}
    cordoned["status"]["allocatable"] = {"nvidia.com/gpu": "0"}
    assert inventory([cordoned])[0].per_node == 8


def test_time_sliced_gpus_are_left_out_and_named():
    nodes = [
        nvidia("a", "NVIDIA-A10G-SHARED", 8, memory="23028", replicas="4"),
        nvidia("b", "NVIDIA-L4", 4, memory="23034", replicas="2"),
        h100("c"),
    ]
    assert [offer.product for offer in inventory(nodes)] == ["NVIDIA-H100-80GB-HBM3"]
    assert shared_products(nodes) == ("NVIDIA-A10G-SHARED", "NVIDIA-L4")


GKE = "cloud.google.com/gke-accelerator"
EKS = "karpenter.k8s.aws/instance-gpu-name"


def test_a_node_that_only_its_cloud_labels_offers_the_product_that_the_label_means():
    gke = node("gke", {GKE: "nvidia-l4"}, **{"nvidia.com_gpu": "1"})
    (offer,) = inventory([gke])
    assert (offer.product, offer.per_node) == ("NVIDIA-L4", 1)
    assert offer.memory_bytes == catalogue.find("L4").memory_bytes
    assert offer.node_labels == {
        "nvidia.com/gpu.product": ("NVIDIA-L4",),
        GKE: ("nvidia-l4",),
    }


@pytest.mark.parametrize(
    ("label", "value", "product"),
    [
        (GKE, "nvidia-h100-mega-80gb", "NVIDIA-H100-80GB-HBM3"),
        (EKS, "a10g", "NVIDIA-A10G"),
        ("eks.amazonaws.com/instance-gpu-name", "l40s", "NVIDIA-L40S"),
        ("node.kubernetes.io/instance-type", "p4de.24xlarge", "NVIDIA-A100-SXM4-80GB"),
        ("node.kubernetes.io/instance-type", "Standard_NC40ads_H100_v5", "NVIDIA-H100-NVL"),
        ("node.kubernetes.io/instance-type", "BM.GPU.A100-v2.8", "NVIDIA-A100-SXM4-80GB"),
        ("doks.digitalocean.com/gpu-model", "h100", "NVIDIA-H100-80GB-HBM3"),
        ("gpu.nvidia.com/class", "A100_NVLINK_80GB", "NVIDIA-A100-SXM4-80GB"),
        ("gpu.nvidia.com/model", "H200", "NVIDIA-H200"),
        ("gpu.nvidia.com/class", "L40S", "NVIDIA-L40S"),
        ("aliyun.accelerator/nvidia_name", "NVIDIA-A10", "NVIDIA-A10"),
    ],
)
def test_each_cloud_names_its_gpus_in_its_own_way(label: str, value: str, product: str):
    (offer,) = inventory([node("a", {label: value}, **{"nvidia.com_gpu": "1"})])
    assert offer.product == product


@pytest.mark.parametrize(
    ("label", "value"),
    [
        ("node.kubernetes.io/instance-type", "Standard_ND96isr_MI300X_v5"),
        ("doks.digitalocean.com/gpu-model", "mi300x"),
    ],
)
def test_a_cloud_s_nodes_with_gpus_of_amd_offer_them(label: str, value: str):
    (offer,) = inventory([node("a", {label: value}, **{"amd.com_gpu": "8"})])
    assert (offer.product, offer.per_node) == ("AMD_Instinct_MI300X_OAM", 8)
    assert offer.resource_name == "amd.com/gpu"
    assert set(offer.node_labels) == {"amd.com/gpu.product-name", label}


def test_amd_s_labeller_knows_better_than_the_cloud():
    labels = {
        "amd.com/gpu.product-name": "AMD_Instinct_MI325_OAM",
        "node.kubernetes.io/instance-type": "Standard_ND96isr_MI300X_v5",
    }
    (offer,) = inventory([node("a", labels, **{"amd.com_gpu": "8"})])
    assert offer.product == "AMD_Instinct_MI325_OAM"
    assert offer.memory_bytes == catalogue.find("MI325X").memory_bytes


def test_feature_discovery_knows_better_than_the_cloud():
    both = nvidia("a", "NVIDIA-L4", 1)
    both["metadata"]["labels"][GKE] = "nvidia-tesla-t4"
    assert [offer.product for offer in inventory([both])] == ["NVIDIA-L4"]


def test_a_pool_that_gke_shares_is_shared_and_one_that_holds_parts_offers_nothing():
    strategy = {GKE: "nvidia-l4", "cloud.google.com/gke-gpu-sharing-strategy": "time-sharing"}
    parts = {GKE: "nvidia-tesla-a100", "cloud.google.com/gke-gpu-partition-size": "1g.5gb"}
    fraction = {EKS: "l4", "karpenter.k8s.aws/instance-family": "g6f"}
    nodes = [node("a", labels, **{"nvidia.com_gpu": "4"}) for labels in (strategy, parts, fraction)]
    assert inventory(nodes) == ()
    assert shared_products(nodes) == ("NVIDIA-L4-SHARED",)


@pytest.mark.parametrize(
    ("labels", "offered"),
    [
        ({EKS: "a10g", "karpenter.k8s.aws/instance-gpu-count": "1"}, 4),
        ({EKS: "h100", "karpenter.k8s.aws/instance-gpu-count": "8"}, 16),
        ({"node.kubernetes.io/instance-type": "g4dn.xlarge"}, 10),
    ],
    ids=["Karpenter's count", "of several GPUs", "a type that is known"],
)
def test_a_machine_that_offers_more_gpus_than_it_has_shares_them(
    labels: dict[str, str], offered: int
):
    nodes = [node("a", labels, **{"nvidia.com_gpu": str(offered)})]
    assert inventory(nodes) == ()
    assert len(shared_products(nodes)) == 1


@pytest.mark.parametrize(
    "labels",
    [
        {EKS: "a10g", "karpenter.k8s.aws/instance-gpu-count": "4"},
        {EKS: "a10g", "karpenter.k8s.aws/instance-gpu-count": "four"},
        {"node.kubernetes.io/instance-type": "g5.12xlarge"},
        {GKE: "nvidia-l4"},
    ],
)
def test_a_machine_that_offers_what_it_has_or_says_no_number_offers_whole_gpus(
    labels: dict[str, str],
):
    (offer,) = inventory([node("a", labels, **{"nvidia.com_gpu": "4"})])
    assert offer.per_node == 4


@pytest.mark.parametrize(
    ("instance", "product"),
    [
        ("p4d.24xlarge", "NVIDIA-A100-SXM4-40GB"),
        ("p4de.24xlarge", "NVIDIA-A100-SXM4-80GB"),
        ("p3.2xlarge", "Tesla-V100-SXM2-16GB"),
        ("p3dn.24xlarge", "Tesla-V100-SXM2-32GB"),
    ],
)
def test_a_name_that_karpenter_gives_two_products_is_told_apart_by_the_instance_type(
    instance: str, product: str
):
    labels = {
        EKS: "v100" if instance.startswith("p3") else "a100",
        "node.kubernetes.io/instance-type": instance,
    }
    (offer,) = inventory([node("a", labels, **{"nvidia.com_gpu": "1"})])
    assert offer.product == product


def test_a_value_that_nobody_has_described_offers_nothing():
    assert inventory([node("a", {GKE: "nvidia-x100"}, **{"nvidia.com_gpu": "1"})]) == ()


def test_every_product_that_a_cloud_s_label_means_is_catalogued():
    for row in datafiles.rows("vllm_operator.hardware", "cloud_labels.csv"):
        known = catalogue.find(row["product"])
        assert known is not None, row["product"]
        assert known.name == row["product"]


def test_no_value_of_a_cloud_s_label_means_two_products():
    rows = datafiles.rows("vllm_operator.hardware", "cloud_labels.csv")
    meant = [
        (label, v) for r in rows for label in r["label"].split(";") for v in r["values"].split(";")
    ]
    assert len(meant) == len(set(meant))


def test_a_slice_of_the_single_mig_strategy_is_a_product_of_its_own():
    product = "NVIDIA-A100-SXM4-80GB-MIG-3g.40gb"
    (offer,) = inventory([nvidia("a", product, 2, memory="40192")])
    assert (offer.product, offer.per_node, offer.is_partition) == (product, 2, True)
    assert 38 * GIBIBYTE < offer.memory_bytes < 39.25 * GIBIBYTE


def test_slices_of_the_mixed_mig_strategy_have_their_own_resource_and_label():
    labels = {
        "nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB",
        "nvidia.com/gpu.memory": "81920",
        "nvidia.com/mig-3g.40gb.product": "NVIDIA-A100-SXM4-80GB-MIG-3g.40gb",
        "nvidia.com/mig-3g.40gb.memory": "40192",
        "nvidia.com/mig-3g.40gb.count": "2",
    }
    offers = inventory([node("a", labels, **{"nvidia.com_mig-3g.40gb": "2"})])
    (offer,) = offers
    assert offer.resource_name == "nvidia.com/mig-3g.40gb"
    assert list(offer.node_labels) == ["nvidia.com/mig-3g.40gb.product"]


def test_amd_nodes_are_read_from_their_own_labels():
    labels = {"amd.com/gpu.product-name": "AMD_Instinct_MI300X_OAM", "amd.com/gpu.vram": "192G"}
    (offer,) = inventory([node("a", labels, **{"amd.com_gpu": "8"})])
    assert (offer.resource_name, offer.per_node) == ("amd.com/gpu", 8)
    assert 189 * GIBIBYTE < offer.memory_bytes < 192 * GIBIBYTE


@pytest.mark.parametrize(
    ("vram", "mebibytes"), [("64G", 65536), ("65536M", 65536), ("64", 0), ("64T", 0), (None, 0)]
)
def test_the_memory_of_an_unknown_amd_product_is_its_label_s(vram: str | None, mebibytes: int):
    labels = {"amd.com/gpu.product-name": "X", **({"amd.com/gpu.vram": vram} if vram else {})}
    (found,) = inventory([node("a", labels, **{"amd.com_gpu": "1"})])
    (expected,) = inventory([nvidia("a", "X", 1, memory=str(mebibytes))])
    assert found.memory_bytes == expected.memory_bytes
    assert found.compute_capability is None


@pytest.mark.parametrize(
    ("text", "count"),
    [("7", 7), ("1024", 1024), ("1025", 1024), ("999999", 1024), ("1000000", 0), ("many", 0)],
)
def test_a_count_is_a_small_whole_number(text: str, count: int):
    found = inventory([nvidia("a", "NVIDIA-L4", text)])
    assert [offer.per_node for offer in found] == ([count] if count else [])


def test_of_two_compute_capabilities_of_a_product_the_older_counts():
    newer = nvidia("a", "X", 1, **{"compute.major": "9", "compute.minor": "0"})
    older = nvidia("b", "X", 1, **{"compute.major": "8", "compute.minor": "6"})
    assert inventory([newer, older])[0].compute_capability == (8, 6)


def test_gpus_that_are_not_allocatable_now_are_counted_by_capacity_and_then_by_label():
    labels = {"nvidia.com/gpu.product": "NVIDIA-L4", "nvidia.com/gpu.count": "2"}
    assert inventory([node("a", labels)])[0].per_node == 2
    broken = node("a", labels, **{"nvidia.com_gpu": "4"})
    assert inventory([broken])[0].per_node == 4
    broken["status"]["allocatable"]["nvidia.com/gpu"] = "3"
    assert inventory([broken])[0].per_node == 3


def test_the_newer_of_amd_s_two_labels_wins():
    labels = {"beta.amd.com/gpu.product-name": "old", "amd.com/gpu.product-name": "new"}
    found = inventory([node("a", labels, **{"amd.com_gpu": "1"})])
    assert [(offer.product, list(offer.node_labels)) for offer in found] == [
        ("new", ["amd.com/gpu.product-name"])
    ]
    del labels["amd.com/gpu.product-name"]
    assert inventory([node("a", labels, **{"amd.com_gpu": "1"})])[0].product == "old"


@pytest.mark.parametrize("less", [0.98, 0.995])
def test_a_label_that_says_hardly_less_than_the_catalogue_does_not_win(less: float):
    (known,) = inventory([nvidia("a", "NVIDIA-RTX-A6000", 1)])
    (labelled,) = inventory([nvidia("a", "NVIDIA-RTX-A6000", 1, memory=str(int(49140 * less)))])
    assert (labelled.memory_bytes < known.memory_bytes) is (less < 0.99)


@pytest.mark.parametrize(
    "strange",
    [
        {},
        {"metadata": None},
        {"metadata": {"labels": {"nvidia.com/gpu.product": "X"}}, "status": None},
        {"metadata": {"labels": {"nvidia.com/gpu.product": "X", "nvidia.com/gpu.memory": "lots"}}},
        {"metadata": {"labels": []}, "spec": "none", "status": []},
    ],
)
def test_strange_nodes_offer_nothing(strange: dict):
    assert inventory([strange]) == ()
    assert fingerprint(strange)


def test_a_heartbeat_leaves_the_fingerprint_as_it_is():
    before, after = h100(), h100()
    after["metadata"]["resourceVersion"] = "7"
    after["metadata"]["labels"]["kubernetes.io/hostname"] = "a"
    after["status"]["conditions"] = [{"type": "Ready", "lastHeartbeatTime": "now"}]
    after["status"]["allocatable"]["cpu"] = "6"
    assert fingerprint(before) == fingerprint(after)


@pytest.mark.parametrize(
    "change",
    [
        lambda node: node["status"]["allocatable"].update({"nvidia.com/gpu": "7"}),
        lambda node: node["metadata"]["labels"].update({"nvidia.com/gpu.product": "L4"}),
        lambda node: node["spec"].update({"unschedulable": True}),
        lambda node: node["spec"].update({"taints": [{"key": "a", "effect": "NoSchedule"}]}),
    ],
)
def test_what_matters_for_gpus_changes_the_fingerprint(change: Any):
    changed = h100()
    change(changed)
    assert fingerprint(changed) != fingerprint(h100())


def test_offers_survive_a_round_trip_through_json():
    for offer in inventory([h100(), nvidia("b", "NVIDIA-X100", 1)]):
        assert GPUOffer.from_json_object(offer.to_json_object()) == offer


NVIDIA = ("nvidia.com/gpu.product",)
AMD = ("amd.com/gpu.product-name", "beta.amd.com/gpu.product-name")


@pytest.mark.parametrize(
    ("labels", "own"),
    [
        (NVIDIA, NVIDIA),
        (AMD[:1], AMD),
        (AMD[1:], AMD),
        ((*NVIDIA, "pool"), NVIDIA),
        (("pool", *AMD), AMD),
        (("pool",), ()),
        ((), ()),
    ],
)
def test_labels_of_a_vendor_s_discovery_stand_for_all_of_its_own(
    labels: tuple[str, ...], own: tuple[str, ...]
):
    assert own_labels(labels) == own
