"""`uec doctor [CONFIG] [section.field=value ...]`."""

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uec.config.schema import Config
    from uec.doctor.report import Report

NAME = "doctor"
HELP = "check this machine, and that weights go from learner to engine"
DESCRIPTION = (
    "Look at versions, devices, memory, disks, hub and Ray, then do a real round trip: engines generate, learners score\n"
    "and update, engines follow. A line each, with what to do where it is red; exit status 1 if one is."
)
EXAMPLES = """examples:
  uec doctor
  uec doctor --quick
  uec doctor my.yaml rollout.engines=2
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """What follows `uec doctor`."""
    parser.add_argument("config", nargs="?", metavar="CONFIG", help="the config that you mean to train; none: the default text run")
    parser.add_argument("overrides", nargs="*", metavar="section.field=value", help="settings that win over the file's")
    parser.add_argument("--quick", action="store_true", help="leave out the round trip")


def run(arguments: argparse.Namespace) -> int:
    """Report; returns 1 if a line is red."""
    from uec.system.process_env import prepare_driver

    prepare_driver()
    from uec.doctor.checks import guarded, machine_checks
    from uec.doctor.examined import examined
    from uec.doctor.report import Report
    from uec.errors import EXIT_FAILURE

    cfg = examined(arguments.config, arguments.overrides)
    with Report() as report:
        report.busy("looking at this machine")
        for check in machine_checks(cfg):
            report.add(check)
        for check in guarded("round trip", lambda: _with_ray(cfg, arguments.quick, report)):
            report.add(check)
        report.end()
    return EXIT_FAILURE if report.failed else 0


def _with_ray(cfg: "Config", quick: bool, report: "Report") -> tuple[()]:
    from actors.programs.doctor import examine

    examine(cfg, quick, report)
    return ()
