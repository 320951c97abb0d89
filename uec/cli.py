"""`uec train CONFIG [section.field=value ...]` and `uec bench`."""

import argparse
import os
import sys

from uec import caches
from uec.errors import EXIT_BAD_INPUT, EXIT_FAILURE, EXIT_SIGINT, BadInput, RunFailed

EXAMPLES = """examples:
  uec train configs/llm.yaml
  uec train configs/llm.yaml algorithm=grpo train.steps=50 run.name=baseline
  uec train runs/baseline/config.yaml run.resume=auto
"""
STATUSES = "exit status: 0 done, 2 bad input, 1 a failure that was named, 130 and 143 stopped by Ctrl-C and SIGTERM after a checkpoint"


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    arguments = _parser().parse_args(argv)
    try:
        return arguments.run(arguments)
    except BadInput as error:
        return _complain(error, EXIT_BAD_INPUT)
    except RunFailed as error:
        return _complain(error, EXIT_FAILURE)
    except KeyboardInterrupt:
        print("uec: stopped before training began; nothing was changed", file=sys.stderr)
        return EXIT_SIGINT


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="uec", description="RL for reasoning models with unified entropy control", epilog=STATUSES)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    train = commands.add_parser(
        "train", help="train a policy", description="Train a policy as a config file says.", epilog=f"{EXAMPLES}\n{STATUSES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    train.add_argument("config", metavar="CONFIG", help="a YAML file, such as configs/llm.yaml or a run's config.yaml")
    train.add_argument("overrides", nargs="*", metavar="section.field=value", help="settings that win over the file's")
    train.set_defaults(run=_train)
    bench = commands.add_parser(
        "bench",
        help="measure the parts against their bounds",
        description="Measure rollout, learner, exchange and the step against bare vLLM and bare torch, as ratios of one run.",
    )
    bench.add_argument("names", nargs="*", metavar="BENCH", help="which to run; none: all")
    bench.add_argument(
        "--quick", action="store_true", help="a few minutes: ratios to the last committed results, status 1 if one fell by 15 %%"
    )
    bench.add_argument("--record", action="store_true", help="with --quick: write these ratios as the results to commit")
    bench.set_defaults(run=_bench)
    return parser


def _train(arguments: argparse.Namespace) -> int:
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # the driver computes next to nothing; each actor has a setting of its own
    os.environ.update(caches.environment())  # before Ray starts: its workers inherit it
    from uec.config_file import load_config
    from uec.validate import validate

    cfg = load_config(arguments.config, arguments.overrides)
    validate(cfg)
    from actors.run import train  # imports Ray, which bad input need not wait for

    return train(cfg, arguments.config)


def _bench(arguments: argparse.Namespace) -> int:
    if arguments.record and not arguments.quick:
        raise BadInput("--record goes with --quick: it writes the ratios of the quick benches as the results to commit")
    if arguments.quick:
        if arguments.names:
            raise BadInput(
                f"--quick runs benches of its own; leave out {' '.join(arguments.names)}, or leave out --quick to run just these"
            )
        from bench import quick

        return quick.run(arguments.record)
    from bench.run import run

    return run(arguments.names)


def _complain(error: Exception, status: int) -> int:
    lines = str(error).splitlines() or [type(error).__name__]
    print("\n".join([f"uec: {lines[0]}", *(f"     {line}" for line in lines[1:])]), file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
