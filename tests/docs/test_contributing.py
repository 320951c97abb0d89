"""docs/contributing.md: its recipes work as they stand, and the files of its table exist."""

import asyncio
import importlib
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from actors.workers.rollout import RolloutActor
from tests.support.doc_commands import BLOCK, FILE
from tests.support.token_batches import by_ratio
from uec.algorithm.advantage import BUILTIN as ADVANTAGES
from uec.algorithm.advantage import load_estimator
from uec.algorithm.functions import check_functions
from uec.algorithm.losses.objective import StepSize, objective
from uec.algorithm.losses.policy import BUILTIN as LOSSES
from uec.algorithm.losses.policy import load_policy_loss
from uec.commands.cli import main
from uec.config.schema import Config, LossConfig
from uec.config.validate import validate
from uec.environments.base import Environment, Step
from uec.rewards.pool import GradingPool
from uec.rewards.reward_function import BUILTIN as REWARDS
from uec.rewards.wire import Task
from uec.types import Continuation, Kind, Prompt, Request, WeightUpdate

MakeConfig = Callable[..., Config]


@pytest.fixture
def page(project: Path) -> str:
    return (project / "docs/contributing.md").read_text()


@pytest.fixture
def recipe(page: str, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Writes the files of a recipe into an empty folder that holds configs and assets, and returns the recipe's text."""
    for name in ("configs", "assets"):
        (tmp_path / name).symlink_to(project / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)

    def write(title: str) -> str:
        text = page.partition(f"### {title}\n")[2].partition("\n##")[0]
        files = {name[1]: body for _, body in BLOCK.findall(text) if (name := FILE.match(body))}
        assert files, title
        for name, body in files.items():
            (tmp_path / name).write_text(body)
        return text

    return write


def overrides(text: str) -> list[str]:
    """The overrides of a recipe's command."""
    [command] = re.findall(r"^ {4}uec train configs/llm.yaml (.*)$", text, re.MULTILINE)
    return re.findall(r'"[^"]*"|\S+', command)


def test_the_recipe_of_an_advantage_works(recipe: Callable[[str], str], make_config: MakeConfig) -> None:
    cfg = make_config(*overrides(recipe("Add an advantage")))
    validate(cfg)
    check_functions(cfg)
    # R = 1, 0, 0, 0: mean 1/4, so 3/4, and half of -1/4
    found = load_estimator(cfg.advantage.estimator)([np.array([1.0, 0.0, 0.0, 0.0]), np.array([0.5, 0.5])])
    assert [a.tolist() for a in found] == [[0.75, -0.125, -0.125, -0.125], [0.0, 0.0]]


def test_the_recipe_of_a_loss_works(recipe: Callable[[str], str], make_config: MakeConfig) -> None:
    cfg = make_config(*overrides(recipe("Add a loss")))
    validate(cfg)
    check_functions(cfg)
    # The weight is 1 at rho = 1. At rho = e, with a range of .2, it is e^(1 - 1/.08) = e^-11.5
    batch = by_ratio([1.0, float(np.e)], [1.0, 1.0])
    loss, metrics = objective(batch, load_policy_loss(cfg.loss.policy), LossConfig(), StepSize(2, 2, 4))
    (slope_N,) = torch.autograd.grad(loss, batch.logprobs_N)
    assert slope_N.tolist() == pytest.approx([-0.5, -0.5 * np.exp(-11.5)])
    assert metrics["clip_frac"] == 1 and metrics["ratio_mean"].item() == pytest.approx(1 + np.e)


def test_the_recipe_of_a_reward_works_in_its_process(recipe: Callable[[str], str], make_config: MakeConfig) -> None:
    words = [word.strip('"') for word in overrides(recipe("Add a reward"))]
    pool = GradingPool(make_config(*words, "reward.processes=1").reward)
    pool.start()
    try:
        grades = asyncio.run(pool.grade([Task("so 6 * 3 = 18.1", "18", {}), Task("19", "18", {}), Task("none", "18", {})]))
    finally:
        pool.close()
    # "so 6 * 3 18.1" has five words, and .1 is .6 % of 18: 1 + .1 for the work
    assert [grade.reward for grade in grades] == pytest.approx([1.1, 0.0, 0.0])
    assert [grade.accuracy for grade in grades] == [1.0, 0.0, 0.0] and not any(grade.error for grade in grades)


def test_the_recipe_of_an_environment_works(recipe: Callable[[str], str]) -> None:
    recipe("Add an environment")
    game: Environment = importlib.import_module("guess").Guess()
    assert game.reset("5", {"guesses": 3}, seed=0) == "You have 3 guesses."
    assert [game.step(response) for response in ("3", "8", "5")] == [
        Step("higher", {}, False),
        Step("lower", {}, False),
        Step(None, {"accuracy": 1.0}, True),
    ]
    game.reset("5", {"guesses": 1}, seed=0)
    assert game.step("3") == Step(None, {"accuracy": 0.0}, True)


def test_the_recipe_of_an_engine_works_in_a_rollout_actor(recipe: Callable[[str], str], make_config: MakeConfig) -> None:
    cfg = make_config(*overrides(recipe("Add an engine")), "model.path=assets/countdown", "rollout.max_tokens=5")
    validate(cfg)
    prompt = Prompt(0, "1 , 2", np.array([3, 4], np.int32), "3", {})

    async def sample() -> None:
        actor = RolloutActor(cfg, 0)
        await actor.start([prompt])
        await actor.update_weights(WeightUpdate(1, "shm", [], [], [], 0))
        found = [t async for batch in actor.generate([Request(7, 0, 3, 1.0, Kind.REGULAR)]) for t in batch]
        assert sorted(t.index for t in found) == [0, 1, 2] and {t.group for t in found} == {7} and {t.version for t in found} == {1}
        for t in found:
            assert len(t.tokens) == 5 if t.truncated else 1 <= len(t.tokens) <= 5
            [logprobs_T] = await actor.logprobs([Continuation(0, prompt.tokens, t.tokens)])
            assert logprobs_T.tolist() == t.logprobs.tolist() and len(set(logprobs_T.tolist())) == 1
        await actor.stop()

    asyncio.run(sample())


@pytest.mark.parametrize("title", ["an advantage", "a loss", "a reward", "an engine"])
def test_the_command_of_a_recipe_takes_its_file(title: str, recipe: Callable[[str], str], capsys: pytest.CaptureFixture[str]) -> None:
    words = [word.strip('"') for word in overrides(recipe(f"Add {title}"))]
    assert main(["train", "configs/llm.yaml", *words, "--dry-run"]) == 0, capsys.readouterr().err


def test_the_tables_that_recipes_name_take_another_entry(make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ADVANTAGES, "another", ADVANTAGES["group"])
    monkeypatch.setitem(LOSSES, "another", LOSSES["ppo_clip"])
    monkeypatch.setattr("uec.config.validate_algorithm.POLICY_LOSSES", (*LOSSES,))
    monkeypatch.setitem(REWARDS, "another", REWARDS["exact"])
    cfg = make_config("advantage.estimator=another", "loss.policy=another", "reward.fn=another")
    validate(cfg)
    assert load_estimator("another") is ADVANTAGES["group"] and load_policy_loss("another") is LOSSES["ppo_clip"]


def test_every_row_of_the_table_names_one_file_that_exists(page: str, project: Path) -> None:
    table = page[page.index("## Where do I change X") : page.index("## Recipes")]
    rows = [row.split("|")[1:-1] for row in table.splitlines() if row.startswith("| ")][1:]
    assert len(rows) >= 15
    for what, file, follows in rows:
        [path] = re.findall(r"`([^`]+)`", file)
        assert (project / path.replace("NAME", "countdown")).exists(), what
        assert follows.count("`") in (0, 2), what


def test_every_file_and_table_that_it_names_exists(page: str, project: Path) -> None:
    for path in re.findall(r"\b(?:configs|actors|uec|tests|docs)/[\w/]+\.(?:py|yaml|md)\b", page):
        assert (project / path).exists(), path
    for table, path in re.findall(r"`([A-Z_]+)` (?:in|of)\s+`([\w/]+\.py)`", page):
        assert re.search(rf"^{table}\b", (project / path).read_text(), re.MULTILINE), table


@pytest.mark.e2e
def test_a_run_uses_an_advantage_a_loss_and_a_reward_of_the_recipes(
    recipe: Callable[[str], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["algorithm=grpo"]
    for title in ("Add an advantage", "Add a loss", "Add a reward"):
        words += [word.strip('"') for word in overrides(recipe(title)) if not word.startswith("algorithm=")]
    short = ("run.name=recipes", "train.steps=2", "train.prompts_per_step=4", "eval.prompts=4", "eval.every=100", "tracking=[jsonl]")
    assert main(["train", "configs/llm.yaml", *words, *short]) == 0, capsys.readouterr().err
    assert '"reward/work_mean"' in (tmp_path / "runs/recipes/metrics.jsonl").read_text()
