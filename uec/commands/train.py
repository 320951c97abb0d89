"""`uec train CONFIG [section.field=value ...]`."""

import argparse

NAME = "train"
HELP = "train a policy"
DESCRIPTION = "Train a policy as a config file says."
EXAMPLES = """examples:
  uec train configs/llm.yaml
  uec train configs/llm.yaml algorithm=grpo train.steps=50 run.name=baseline
  uec train runs/baseline/config.yaml run.resume=auto
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """What follows `uec train`."""
    parser.add_argument("config", metavar="CONFIG", help="a YAML file, such as configs/llm.yaml or a run's config.yaml")
    parser.add_argument("overrides", nargs="*", metavar="section.field=value", help="settings that win over the file's")


def run(arguments: argparse.Namespace) -> int:
    """Check everything, then train."""
    from uec.config_file import load_config
    from uec.surroundings import prepare_driver
    from uec.validate import validate

    prepare_driver()
    cfg = load_config(arguments.config, arguments.overrides)
    validate(cfg)
    from actors.run import train  # imports Ray, which bad input need not wait for

    return train(cfg, arguments.config)
