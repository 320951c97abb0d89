"""Draw docs/images/entropy.svg: entropy and held-out pass@16 of finished runs, one line and one band (the range of seeds) per algorithm.

    pip install matplotlib
    python docs/entropy_curves.py runs/uec-0 runs/uec-1 runs/grpo-0 runs/grpo-1
"""

import json
import sys
from collections import defaultdict
from pathlib import Path

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
import numpy as np
import yaml

METRICS = (("policy/entropy", "entropy of the policy (nats)", 7), ("eval/pass@16", "held-out pass@16", 1))
COLOURS = {"uec": "#d9480f", "grpo": "#1971c2"}
NAMES = {"uec": "UEC-RL", "grpo": "GRPO"}
OUT = Path(__file__).parent / "images/entropy.svg"


def curve(run: Path, key: str, window: int) -> dict[int, float]:
    """Return the metric by step, as a mean over the last `window` steps."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    steps = [(line["step"], line[key]) for line in lines if key in line]
    values = [value for _, value in steps]
    return {step: float(np.mean(values[max(0, i - window + 1) : i + 1])) for i, (step, _) in enumerate(steps)}


def main(runs: list[Path]) -> None:
    """Draw the steps that all runs of an algorithm have."""
    by_algorithm = defaultdict(list)
    for run in runs:
        by_algorithm[yaml.safe_load((run / "config.yaml").read_text())["algorithm"]].append(run)
    plt.rcParams |= {"font.size": 9, "svg.fonttype": "path", "svg.hashsalt": "uec", "axes.spines.top": False, "axes.spines.right": False}
    figure, axes = plt.subplots(1, len(METRICS), figsize=(8, 3), layout="constrained")
    for axis, (key, label, window) in zip(axes, METRICS, strict=True):
        for algorithm, members in sorted(by_algorithm.items()):
            curves = [curve(run, key, window) for run in members]
            steps = sorted(set.intersection(*(set(one) for one in curves)))
            values = np.array([[one[step] for step in steps] for one in curves])
            axis.plot(steps, values.mean(0), color=COLOURS[algorithm], label=NAMES[algorithm])
            axis.fill_between(steps, values.min(0), values.max(0), color=COLOURS[algorithm], alpha=0.15, linewidth=0)
        axis.set(xlabel="step", title=label)
    axes[0].legend(frameon=False)
    figure.savefig(OUT, metadata={"Date": None}, facecolor="white")


if __name__ == "__main__":
    main([Path(name) for name in sys.argv[1:]])
