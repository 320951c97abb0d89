"""`python -m uec.tasks.countdown.make`: make the initial model of configs/llm.yaml, its data and its model card."""

import sys
import time
from pathlib import Path

from rich.console import Console

from uec.tasks.countdown.card import Provenance, write_card
from uec.tasks.countdown.data import problems, write_jsonl
from uec.tasks.countdown.demonstrations import demonstrations
from uec.tasks.countdown.measure import Metrics, measure
from uec.tasks.countdown.recipe import Recipe, train
from uec.tasks.countdown.tokenizer import build, save
from uec.tasks.loop import be_deterministic, command_line, progress, sha256

OUT = Path("assets/countdown")
HELD_OUT_SEED, HELD_OUT_PROBLEMS = 20261124, 512
DEV_SEED, DEV_PROBLEMS = 20261125, 256
"""Other unseen problems, for measurements and choices, so that the held-out ones stay unused."""
TRAIN_SEED, TRAIN_PROBLEMS = 20261126, 2048


def make(out: Path, recipe: Recipe, console: Console) -> Metrics:
    """Train and measure the model, and write the whole folder; existing files are replaced. Return the metrics.

    It uses one thread, so that the result is the same each time.
    """
    be_deterministic()
    held_out = problems(HELD_OUT_SEED, HELD_OUT_PROBLEMS, avoid=set())
    held_out_keys = {problem.key for problem in held_out}
    dev = problems(DEV_SEED, DEV_PROBLEMS, avoid=held_out_keys)
    unseen = held_out_keys | {problem.key for problem in dev}
    training = problems(TRAIN_SEED, TRAIN_PROBLEMS, avoid=unseen)

    tokenizer = build()
    begin = time.process_time()
    with progress(console, recipe.steps) as on_step:
        shown = demonstrations(recipe.seed, lambda number: recipe.rare_share_at(number // recipe.batch), unseen)
        model = train(recipe, shown, tokenizer, on_step)
    seconds = time.process_time() - begin
    console.print(f"measuring on {len(dev)} other unseen problems")
    metrics = measure(model, tokenizer, dev)

    out.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(out)
    save(out)
    write_jsonl(out / "data" / "train.jsonl", training)
    write_jsonl(out / "data" / "eval.jsonl", held_out)
    provenance = Provenance(
        command=f"python -m uec.tasks.countdown.make --out {out} --steps {recipe.steps} --seed {recipe.seed}",
        seconds=seconds,
        parameters=model.num_parameters(),
        sha256=sha256(out / "model.safetensors"),
        train_problems=len(training),
        eval_problems=len(held_out),
    )
    (out / "README.md").write_text(write_card(recipe, provenance, metrics), encoding="utf-8")
    console.print(f"{provenance.sha256}  {out / 'model.safetensors'}  ({seconds:.0f} CPU s of training)")
    return metrics


def show(metrics: Metrics, console: Console) -> None:
    """Print the metrics."""
    for name, values in (("all", metrics.pass_at), *metrics.pass_at_by_kind.items()):
        console.print(f"{name:5} " + "  ".join(f"pass@{k} {value:.3f}" for k, value in values.items()))
    console.print(f"entropy {metrics.entropy:.3f}  difficult prompts {metrics.difficult:.3f}")
    for t, share in metrics.mode.items():
        console.print(f"T = {t:g}: P(?) {share:.4f} where multiplication is needed, then right {metrics.mode_success[t]:.3f}")


def main(argv: list[str] | None = None) -> int:
    """Run the command. Return its exit status."""
    return command_line("Countdown", OUT, Recipe(), lambda out, recipe, console: show(make(out, recipe, console), console), argv)


if __name__ == "__main__":
    sys.exit(main())
