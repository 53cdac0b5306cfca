"""``python -m vllm_operator``."""

from vllm_operator.cli.main import main

main(prog_name="vllm-operator")
