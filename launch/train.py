"""The entry of `ray job submit --working-dir . -- python -m launch.train configs/llm.yaml`: the same as `uec train`."""

import sys

from uec.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
