"""`uec train CONFIG [section.field=value ...]`."""

import argparse

NAME = "train"
HELP = "train a policy"
DESCRIPTION = "Train a policy as a config file says."
EXAMPLES = """examples:
  uec train configs/llm.yaml
  uec train configs/llm.yaml algorithm=grpo train.steps=50 run.name=baseline
  uec train configs/llm.yaml rollout.n=16 --print-config
  uec train configs/llm.yaml rollout.n=16 --dry-run
  uec train runs/baseline/config.yaml run.resume=auto
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """What follows `uec train`."""
    parser.add_argument("config", metavar="CONFIG", help="a YAML file, such as configs/llm.yaml or a run's config.yaml")
    parser.add_argument(
        "overrides",
        nargs="*",
        default=[],
        metavar="section.field=value",
        help="settings that win over the file's; uec config explains them",
    )
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument(
        "--print-config", action="store_true", help="do not train: print all settings, and where each comes from, as a config file"
    )
    instead.add_argument(
        "--dry-run",
        action="store_true",
        help="do not train: check everything, load data and tokenizer, count a step's tokens, estimate memory per device; start no actor",
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
    """What is refused is printed, too: the origins tell where it comes from. BadInput follows then."""
    from rich.text import Text

    from uec.algorithm.functions import check_functions
    from uec.config.file import resolve_config
    from uec.config.print import DEFAULT, commented, lines
    from uec.config.validate import validate
    from uec.system.terminal import show

    resolved = resolve_config(path, overrides)
    text = Text(f"# All settings, and where each comes from; {DEFAULT}: uec/config/schema.py. A config file itself.\n", "dim")
    all_lines = list(lines(resolved))
    for line, (yaml, comment) in zip(all_lines, commented(all_lines), strict=True):
        given = line.origin not in (None, DEFAULT)
        text.append(yaml, "bold" if given or line.origin is None else "").append(f"{comment}\n", "cyan" if given else "dim")
    text.right_crop()
    show(text, wrap=False)
    validate(resolved.config)
    check_functions(resolved.config)
    return 0
