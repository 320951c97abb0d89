"""Run `uec train` in a Ray job: `ray job submit --working-dir . -- python -m launch.train configs/llm.yaml`."""

import sys

from uec.commands.cli import script

if __name__ == "__main__":
    sys.exit(script(["train", *sys.argv[1:]]))
