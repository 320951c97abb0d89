"""The environment contract: a game of several turns, and the reward function as the case of one turn."""

import random
import subprocess
import sys
from typing import Any

import pytest

from uec.config.schema import RewardConfig
from uec.environments.base import Environment, Step
from uec.environments.single_turn import SingleTurn
from uec.rewards.reward_function import GradingError, load_reward


class GuessingGame:
    """Find a number from 0 to 9 within `row["guesses"]` guesses; each wrong guess is answered with a direction."""

    def reset(self, answer: str, row: dict[str, Any], seed: int) -> str | None:
        self.number = random.Random(seed).randrange(10) if answer == "random" else int(answer)
        self.left = row["guesses"]
        return f"You have {self.left} guesses."

    def step(self, response: str) -> Step:
        self.left -= 1
        guess = int(response)
        if guess == self.number:
            return Step(None, {"accuracy": 1.0}, True)
        if not self.left:
            return Step(None, {"accuracy": 0.0}, True)
        return Step("higher" if guess < self.number else "lower", {}, False)


def play(
    environment: Environment, responses: list[str], answer: str, row: dict[str, Any], seed: int = 0
) -> tuple[list[str], dict[str, float]]:
    """Observations and reward parts of one episode."""
    first = environment.reset(answer, row, seed)
    observations = [] if first is None else [first]
    parts: dict[str, float] = {}
    for response in responses:
        step = environment.step(response)
        parts |= step.parts
        if step.observation is not None:
            observations.append(step.observation)
        if step.done:
            return observations, parts
    raise AssertionError("the responses ended before the episode")


def test_a_game_of_several_turns_fits_the_contract() -> None:
    game = GuessingGame()
    assert play(game, ["3", "8", "5"], "5", {"guesses": 3}) == (["You have 3 guesses.", "higher", "lower"], {"accuracy": 1.0})
    assert play(game, ["3", "8"], "5", {"guesses": 2}) == (["You have 2 guesses.", "higher"], {"accuracy": 0.0})


def test_the_same_seed_begins_the_same_episode() -> None:
    games = [GuessingGame() for _ in range(20)]
    for seed, game in enumerate(games):
        game.reset("random", {"guesses": 1}, seed // 2)
    numbers = [game.number for game in games]
    assert numbers[::2] == numbers[1::2] and len(set(numbers)) > 2


def test_a_reward_function_is_an_environment_of_one_turn() -> None:
    reward = load_reward(RewardConfig(fn=["exact", "format"]))
    environment = SingleTurn(reward)
    for response in ("<think>6 * 3</think> \\boxed{18}", "17", "18"):
        assert play(environment, [response], "18", {}) == ([], reward(response, "18", {}))
    assert environment.reset("18", {}, 0) is None
    assert environment.step("18") == Step(None, {"accuracy": 1.0, "format": 0.0}, True)


def test_a_result_that_is_no_reward_raises_from_the_step() -> None:
    environment = SingleTurn(load_reward(RewardConfig(fn=["exact", "boxed"])))
    environment.reset("5", {}, 0)
    with pytest.raises(GradingError, match="both return the part accuracy"):
        environment.step("5")


def test_environments_import_nothing_else_of_the_project_and_nothing_heavy() -> None:
    program = "import sys, uec.environments.single_turn; print(*sorted(m for m in sys.modules if m.startswith(('uec', 'numpy', 'torch'))))"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["uec", "uec.environments", "uec.environments.base", "uec.environments.single_turn"]
