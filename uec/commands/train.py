"""`uec train CONFIG [section.field=value ...]`."""

import argparse

NAME = "train"
HELP = "train a policy"
DESCRIPTION = "Train a policy with the settings of a config file."
EXAMPLES = """examples:
  uec train configs/llm.yaml
  uec train configs/llm.yaml algorithm=grpo train.steps=50 run.name=baseline
  uec train configs/llm.yaml rollout.n=16 --print-config
  uec train configs/llm.yaml rollout.n=16 --dry-run
  uec train runs/baseline/config.yaml run.resume=auto
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `uec train`."""
    parser.add_argument("config", metavar="CONFIG", help="a YAML file, such as configs/llm.yaml or a run's config.yaml")
    parser.add_argument(
        "overrides",
        nargs="*",
        default=[],
        metavar="section.field=value",
        help="settings that override the file; `uec config` explains them",
    )
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--print-config", action="store_true", help="do not train: print all settings and their origins as a config file")
    instead.add_argument(
        "--dry-run",
        action="store_true",
        help="do not train: check everything, load data and tokenizer, count the tokens of a step and estimate the memory per device",
    )


def run(arguments: argparse.Namespace) -> int:
    """Check everything, then train."""
    from uec.algorithm.functions import check_functions
    from uec.config.file import load_config
    from uec.config.validate import validate
    from uec.system.process_env import prepare_driver

    if arguments.print_config:
        return _print_config(arguments.config, arguments.overrides)
    prepare_driver()
    cfg = load_config(arguments.config, arguments.overrides)
    validate(cfg)
    check_functions(cfg)
    if arguments.dry_run:
        from actors.programs.dry_run import dry_run

        return dry_run(cfg, arguments.config)
    from actors.programs.train import train

    return train(cfg, arguments.config)


def _print_config(path: str, overrides: list[str]) -> int:
    """Print the settings and their origins, then check them. An invalid config is printed before BadInput is raised."""
    from rich.text import Text

    from actors.engines import check_engine
    from uec.algorithm.functions import check_functions
    from uec.config.file import resolve_config
    from uec.config.print import DEFAULT, commented, lines
    from uec.config.validate import validate
    from uec.system.terminal import show

    resolved = resolve_config(path, overrides)
    text = Text(f"# All settings with their origins; {DEFAULT}: uec/config/schema.py. This output is a config file.\n", "dim")
    all_lines = list(lines(resolved))
    for line, (yaml, comment) in zip(all_lines, commented(all_lines), strict=True):
        is_set = line.origin not in (None, DEFAULT)
        text.append(yaml, "bold" if is_set or line.origin is None else "").append(f"{comment}\n", "cyan" if is_set else "dim")
    text.right_crop()
    show(text, wrap=False)
    validate(resolved.config)
    check_functions(resolved.config)
    check_engine(resolved.config.rollout.backend)
    return 0
