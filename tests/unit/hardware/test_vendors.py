"""Whose hardware an extended resource is."""

import csv
from importlib.resources import files

import pytest

from vllm_operator import hardware
from vllm_operator.engine.tables import rows
from vllm_operator.hardware import catalogue
from vllm_operator.hardware.vendors import hardware_of, hardware_of_product


@pytest.mark.parametrize(
    ("resource", "known"),
    [
        ("nvidia.com/gpu", "NVIDIA GPUs"),
        ("nvidia.com/mig-3g.40gb", "NVIDIA GPUs"),
        ("amd.com/gpu", "AMD GPUs"),
        ("gpu.intel.com/xe", "Intel GPUs"),
        ("aws.amazon.com/neuroncore", "AWS Neuron devices"),
        ("example.com/gpu", None),
        ("aws.amazon.com/efa", None),
    ],
)
def test_a_vendors_resource_is_told_and_any_other_is_left(resource: str, known: str | None):
    assert hardware_of(resource) == known


def test_a_resource_of_ones_own_leaves_a_catalogued_product_what_it_is():
    assert hardware_of_product("AMD_Instinct_MI300X_OAM", "example.com/gpu") == "AMD GPUs"
    assert hardware_of_product("Example-X100", "example.com/gpu") is None


def test_every_catalogued_product_has_a_known_vendor():
    assert all(hardware_of(product.resource_name) for product in catalogue.products())


def test_images_and_vendors_speak_of_the_same_hardware():
    text = files(hardware).joinpath("vendors.csv").read_text(encoding="utf-8")
    known = list(csv.DictReader(text.splitlines()))
    assert all(row["source"] for row in known)
    names = {row["hardware"] for row in known} | {"CPUs"}
    assert {row["hardware"] for row in rows("images.csv")} <= names
