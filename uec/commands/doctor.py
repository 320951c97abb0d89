"""`uec doctor [CONFIG] [section.field=value ...]`."""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uec.config.schema import Config
    from uec.doctor.console import ConsoleReport

NAME = "doctor"
HELP = "check this machine, and the weight sync from learner to engine"
DESCRIPTION = (
    "Check versions, devices, memory, disks, hub and Ray, then test one round trip: engines generate, learners compute\n"
    "log-probabilities and update the policy, engines load the new weights. Each check prints one line; a red line says what\n"
    "to do. The exit status is 1 if a check fails.\n"
    "\n"
    "With --gpu, check the code that only GPUs run, in under ten minutes, with a random model and without network: attention\n"
    "kernels, weight sync, sleep, speed and memory; with several GPUs also NCCL, tensor parallelism and ZeRO-3."
)
EXAMPLES = """examples:
  uec doctor
  uec doctor --quick
  uec doctor my.yaml rollout.engines=2
  uec doctor --gpu --json gpu.json
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `uec doctor`."""
    parser.add_argument("config", nargs="?", metavar="CONFIG", help="config of the planned run; default: configs/llm.yaml")
    parser.add_argument("overrides", nargs="*", metavar="section.field=value", help="settings that override the file")
    parser.add_argument("--quick", action="store_true", help="skip the round trip")
    parser.add_argument("--gpu", action="store_true", help="check the GPU code with a random model instead")
    parser.add_argument("--json", metavar="FILE", help="with --gpu: write the results to a file that names no path, host or user")


def run(arguments: argparse.Namespace) -> int:
    """Run the checks and print the report; return 1 if a check fails."""
    from uec.system.process_env import prepare_driver

    prepare_driver()
    if arguments.gpu or arguments.json:
        return _check_gpu(arguments)
    from actors.engines import check_engine
    from uec.doctor.console import ConsoleReport
    from uec.doctor.machine import guarded, load_checked_config, machine_checks
    from uec.errors import EXIT_FAILURE

    cfg = load_checked_config(arguments.config, arguments.overrides)
    check_engine(cfg.rollout.backend)
    with ConsoleReport() as report:
        report.busy("looking at this machine")
        for check in machine_checks(cfg):
            report.add(check)
        for check in guarded("round trip", lambda: _with_ray(cfg, arguments.quick, report)):
            report.add(check)
        report.end()
    return EXIT_FAILURE if report.failed else 0


def _with_ray(cfg: "Config", quick: bool, report: "ConsoleReport") -> tuple[()]:
    from actors.programs.doctor import examine

    examine(cfg, quick, report)
    return ()


def _check_gpu(arguments: argparse.Namespace) -> int:
    os.environ["HF_HUB_OFFLINE"] = "1"  # before transformers is imported: nothing is downloaded
    from actors.programs.gpu.sequence import check_gpu
    from uec.doctor.console import ConsoleReport
    from uec.errors import EXIT_FAILURE, BadInput

    if not arguments.gpu:
        raise BadInput(f"--json {arguments.json} needs --gpu: only those checks write a file")
    if arguments.config or arguments.overrides or arguments.quick:
        raise BadInput("uec doctor --gpu takes no config, setting or --quick: its model and settings are fixed")
    with ConsoleReport() as report:
        passed = check_gpu(report, Path(arguments.json) if arguments.json else None)
        report.end()
    return 0 if passed else EXIT_FAILURE
