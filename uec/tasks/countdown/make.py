"""`python -m uec.tasks.countdown.make`: make the start checkpoint of configs/llm.yaml with its data and its model card."""

import sys
import time
from pathlib import Path

from rich.console import Console

from uec.tasks.countdown.card import Making, write_card
from uec.tasks.countdown.data import problems, write_jsonl
from uec.tasks.countdown.demonstrations import demonstrations
from uec.tasks.countdown.measure import Figures, measure
from uec.tasks.countdown.recipe import Recipe, train
from uec.tasks.loop import be_deterministic, command_line, progress, sha256
from uec.tasks.tokenizer import build, save

OUT = Path("assets/countdown")
HELD_OUT_SEED, HELD_OUT_PROBLEMS = 20261124, 512
DEV_SEED, DEV_PROBLEMS = 20261125, 256
"""Other unseen problems: figures and choices come from these, so that the held-out ones stay unused."""
TRAIN_SEED, TRAIN_PROBLEMS = 20261126, 2048


def make(out: Path, recipe: Recipe, console: Console) -> Figures:
    """Train, measure, and write the whole folder; over what is there. One thread, so that the result is the same each time."""
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
    figures = measure(model, tokenizer, dev)

    out.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(out)
    save(out)
    write_jsonl(out / "data" / "train.jsonl", training)
    write_jsonl(out / "data" / "eval.jsonl", held_out)
    making = Making(
        command=f"python -m uec.tasks.countdown.make --out {out} --steps {recipe.steps} --seed {recipe.seed}",
        seconds=seconds,
        parameters=model.num_parameters(),
        sha256=sha256(out / "model.safetensors"),
        train_problems=len(training),
        eval_problems=len(held_out),
    )
    (out / "README.md").write_text(write_card(recipe, making, figures), encoding="utf-8")
    console.print(f"{making.sha256}  {out / 'model.safetensors'}  ({seconds:.0f} CPU s of training)")
    return figures


def show(figures: Figures, console: Console) -> None:
    for name, values in (("all", figures.pass_at), *figures.pass_at_by_kind.items()):
        console.print(f"{name:5} " + "  ".join(f"pass@{k} {value:.3f}" for k, value in values.items()))
    console.print(f"entropy {figures.entropy:.3f}  difficult prompts {figures.difficult:.3f}")
    for t, share in figures.mode.items():
        console.print(f"T = {t:g}: P(?) {share:.4f} where multiplication is needed, then right {figures.mode_success[t]:.3f}")


def main(argv: list[str] | None = None) -> int:
    return command_line("Countdown", OUT, Recipe(), lambda out, recipe, console: show(make(out, recipe, console), console), argv)


if __name__ == "__main__":
    sys.exit(main())
