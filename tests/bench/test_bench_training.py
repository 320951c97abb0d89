"""Benches of whole training steps: their blocks, their reference, and the random model."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from actors.driver.schedule import next_checkpoint
from bench.algorithms import responses
from bench.memory import PeakMemory
from bench.processes import memory_bytes
from bench.steps import in_blocks_of, train_steps
from bench.task import default_config
from bench.trl import coin
from bench.trl.judge import Judge
from bench.trl.skewed import LONGEST, PROMPTS, skewed_config
from bench.trl_solve import EVERY, Contender, climb, held_out
from bench.trl_solve import PROMPTS as HELD_OUT
from bench.turns import Block


def test_no_rollouts_are_begun_beyond_the_last_step_of_a_block():
    cfg = default_config(*in_blocks_of(10))
    assert [next_checkpoint(done, cfg) for done in (0, 9, 10, 19, 995)] == [10, 10, 20, 20, 1000]


def test_a_block_of_steps_has_all_their_tokens_and_goes_on_where_the_last_one_ended():
    asked = []

    async def step(number: int) -> dict[str, float]:
        asked.append(number)
        return {"rollout/tokens": 100.0}

    controller = SimpleNamespace(step=step, steps_done=0)
    blocks = [asyncio.run(train_steps(controller, 2)) for _ in range(2)]
    assert asked == [1, 2, 3, 4] and controller.steps_done == 4
    assert [block.tokens for block in blocks] == [200, 200] and all(block.seconds > 0 for block in blocks)


def test_grpo_is_given_as_many_responses_as_uec_sampled():
    # 2,000 responses in five steps of 32 prompts: 12.5 a prompt at first, then what is left over.
    left, chosen = 2000, []
    for steps in range(5, 0, -1):
        chosen.append(responses(left, steps, 32, cost=1))
        left -= 32 * chosen[-1]
    assert chosen == [12, 13, 12, 13, 12] and left == 16


def test_grpo_is_given_as_many_tokens_as_uec_sampled():
    assert responses(6000, steps=1, prompts=32, cost=15.0) == 12  # 6000 / (32 * 15) = 12.5, and Python rounds to even
    assert responses(6500, steps=1, prompts=32, cost=15.0) == 14
    assert responses(0, steps=1, prompts=32, cost=15.0) == 2


# --- seconds to a pass@16


def climbing(*passed: float, cap: int = 3 * EVERY):
    """Run `climb` to 0.85 with these values of pass@16 and two seconds for EVERY steps."""
    left = list(passed)

    async def train() -> Block:
        return Block(2.0, 100)

    async def judged(contender: Contender) -> float:
        return left.pop(0)

    return asyncio.run(climb(Contender("ours", train, None), judged, 0.85, cap))


def test_the_seconds_to_a_pass_rate_are_those_up_to_the_first_evaluation_that_has_it():
    metric = climbing(0.7, 0.8, 0.86, 0.9)
    assert (metric.what, metric.value, metric.unit) == ("ours: pass@16 of 0.85", 4.0, "s")
    assert metric.note == f"{2 * EVERY} steps; pass@16 every {EVERY} steps: 0.700 0.800 0.860"


def test_a_side_that_does_not_get_there_says_so():
    metric = climbing(0.7, 0.66, 0.64, 0.6)
    assert (metric.what, metric.value) == ("ours: pass@16 of 0.85 not reached", 6.0)


@pytest.mark.e2e
def test_the_evaluator_judges_the_initial_model_the_same_each_time_and_finds_some_right(tmp_path: Path):
    cfg = default_config("eval.n=4")
    prompts = held_out(tmp_path)
    assert len(prompts) == HELD_OUT
    judge = Judge(cfg, prompts[:32], threads=1)
    right = judge.right(cfg.model.path)
    assert len(right) == 32 and set(right) <= set(range(5)) and judge.right(cfg.model.path) == right
    assert 0.15 < sum(right) / (32 * 4) < 0.5  # about .30 in many more


# --- the random model


def test_the_random_model_of_skewed_lengths_has_1_7_million_parameters_and_is_reproducible(tmp_path: Path):
    from safetensors.torch import load_file

    cfg = skewed_config(tmp_path / "model")
    again = skewed_config(tmp_path / "again")
    one, other = (load_file(Path(c.model.path) / "model.safetensors") for c in (cfg, again))
    assert round(sum(tensor.numel() for tensor in one.values()) / 1e6, 1) == 1.7
    assert all(tensor.equal(other[name]) for name, tensor in one.items())
    assert (cfg.train.prompts_per_step, cfg.rollout.n, cfg.rollout.max_tokens) == (PROMPTS, 8, LONGEST)
    assert cfg.replay.enabled is cfg.exploration.enabled is cfg.retention.drop_overlong_positive is False


def test_the_coin_gives_about_half_of_all_texts_a_reward_and_always_the_same():
    scores = [coin.score(str(i), "", kind="any") for i in range(1000)]
    assert set(scores) == {0.0, 1.0} and 450 < sum(scores) < 550
    assert scores == [coin.score(str(i), "") for i in range(1000)]


# --- memory


def test_a_branch_of_a_process_tree_can_be_left_out_of_its_memory():
    leaf = "x = bytearray(b'x') * (64 << 20)\nprint(1, flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", leaf], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        assert memory_bytes(os.getpid()) - memory_bytes(os.getpid(), without=process.pid) > 64 << 20
        with PeakMemory(os.getpid(), without=process.pid, interval_s=0.01) as memory:
            process.communicate(b"\n")
    assert 0 < memory.peak < memory_bytes(os.getpid()) + (64 << 20)
