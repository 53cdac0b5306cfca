"""The packages that the image holds are all that the operator takes."""

from pathlib import Path

from support.fixtures import StartOperator
from support.pruned import pruned_site
from support.world import World


def test_an_operator_with_the_images_packages_leads_and_serves(
    world: World, start_operator: StartOperator, tmp_path: Path
) -> None:
    # In place of all others (-S): this interpreter's have what was pruned.
    operator = start_operator(
        world,
        environment={"PYTHONPATH": str(pruned_site(tmp_path))},
        python=["-S"],
        leader_election=True,
        lease_namespace=world.namespace,
    )
    world.apply()
    world.wait_ready()
    assert operator.metric("vllm_operator_leader") == 1
    assert operator.terminate() == 0
