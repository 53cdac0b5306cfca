"""Many servers at once, on a cluster that has room for them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from .operating import OperatorProcess
from .world import World


def become_ready(world: World, operator: OperatorProcess, count: int) -> None:
    """Applies so many servers, and waits until each is Ready and no visit has failed."""
    for number in range(4):
        world.cluster.add_gpu_node(f"big-{number}", count=128, cpu="1024", memory="16Ti")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: world.apply(f"s{n}"), range(count)))

    def lines(start: str) -> list[str]:
        return [one for one in (operator.get("/metrics") or "").splitlines() if start in one]

    world.wait(lambda: len(lines('state="Ready"')) == count, f"{count} ready servers", timeout=150)
    assert len(world.list("Deployment")) == count
    failed = 'vllm_operator_reconciles_total{result="error"}'
    assert lines(failed) == [f"{failed} 0.0"]
