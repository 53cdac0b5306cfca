"""What a real node is made of, as far as no node is needed to say it."""

import ipaddress
from pathlib import Path

import pytest

from localcluster.errors import StartError
from localcluster.realnode import cgroups, configuration
from localcluster.realnode.configuration import Files
from localcluster.realnode.network import MOST_NODES, Addresses, free

V1 = """\
tmpfs /sys/fs/cgroup tmpfs rw,mode=755 0 0
cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,cpu,cpuacct 0 0
cgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0
cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0
"""
V2 = "cgroup2 /sys/fs/cgroup cgroup2 rw,nsdelegate 0 0\n"
HYBRID = V1.replace("cgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0\n", "")


def test_a_range_that_the_machine_routes_elsewhere_is_not_taken() -> None:
    assert free(["default", "172.17.0.0/16"]).x == 201
    assert free(["10.201.3.0/24", "10.202.0.0/15"]).x == 204
    assert free(["192.168.0.1"], taken=[201]).x == 202


def test_a_machine_that_routes_all_of_them_is_told_so() -> None:
    with pytest.raises(StartError, match=r"no range of 10\.201\.0\.0/16 to 10\.232\.0\.0/16"):
        free(["10.0.0.0/8"])


def test_no_two_things_of_a_cluster_share_an_address_range() -> None:
    addresses = Addresses(201)
    pods = [ipaddress.ip_network(addresses.node_pods(n + 1)) for n in range(MOST_NODES)]
    services = ipaddress.ip_network(addresses.services)
    machines = [addresses.host, *(addresses.node(n + 1) for n in range(MOST_NODES))]
    assert len(set(machines)) == MOST_NODES + 1
    for one in pods:
        assert one.subnet_of(ipaddress.ip_network(addresses.pods))
        assert not one.overlaps(services)
        assert not any(ipaddress.ip_address(machine) in one for machine in machines)
    assert len(set(pods)) == MOST_NODES


def test_the_control_groups_that_rule_are_those_that_have_the_memory_controller() -> None:
    both = [Path("/sys/fs/cgroup/cpu,cpuacct"), Path("/sys/fs/cgroup/memory")]
    assert cgroups.hierarchies(V1) == (1, both)
    assert cgroups.hierarchies(V2) == (2, [Path("/sys/fs/cgroup")])
    assert cgroups.hierarchies(HYBRID) == (2, [Path("/sys/fs/cgroup/unified")])
    assert cgroups.all_hierarchies(V1) == [*both, Path("/sys/fs/cgroup/unified")]
    assert cgroups.hierarchies("proc /proc proc rw 0 0\n") == (2, [])


def test_the_kubelet_is_told_that_cgroup_v1_will_do_only_where_it_rules(tmp_path: Path) -> None:
    addresses = Addresses(201)
    first = configuration.kubelet(Files(tmp_path), "group", 1, addresses)
    second = configuration.kubelet(Files(tmp_path), "group", 2, addresses)
    assert first["failCgroupV1"] is False
    assert "failCgroupV1" not in second
    assert second["cgroupRoot"] == "/group"


def test_every_node_routes_the_pods_of_all_others_and_not_its_own(tmp_path: Path) -> None:
    addresses = Addresses(201)
    commands = configuration.preparation("node-2", 2, Files(tmp_path), addresses)
    routed = {
        command[3]: command[5] for command in commands if command[:3] == ["ip", "route", "add"]
    }
    assert routed == {
        "default": "10.201.0.1",
        "10.201.1.0/24": "10.201.0.11",
        "10.201.3.0/24": "10.201.0.13",
        "10.201.4.0/24": "10.201.0.14",
    }
