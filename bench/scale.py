"""Capacity of the Controller: it drives 64 simulated engines of 256 requests each and 8 simulated learner ranks.

The Controller with its stream, the DifficultyActor, the ReplayActor, Ray and every message between them are real. Engines, graders and
learner ranks are simulated (bench/simulated_engine.py, bench/simulated_actors.py): they compute nothing and only wait. Response lengths
are log-normal, 480 tokens on average and at most 4096; every third prompt is explored.

Saturated: latencies are zero, so the Controller never waits long; whole steps with 64 engines and with 8 take turns. The metric is the
CPU time of the driver, because on two cores the simulated actors use more CPU time than the driver. Skewed: a decoding step takes 2.5 ms, a
tenth of a GPU's time with such a batch. The step, one step ahead, is compared with the time that the slowest engine or the learners need
alone, and streamed exploration with a second phase.
"""

import asyncio
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean

from actors.driver.controller import Controller
from bench.metric import Metric, Target, compared
from bench.processes import heap_bytes
from bench.run_actors import explore, prompts_of, run_actors
from bench.simulated_actors import BUSY_S, Pace, hosted_engines, pace, simulated
from bench.simulated_engine import DIFFICULT_EVERY, LENGTHS, LONGEST, response_lengths
from bench.task import default_config
from bench.turns import Block, in_turns
from uec.config.schema import Config
from uec.types import Kind, Request

PLACES, GROUP = 256, 8
"""Concurrent requests of an engine; a step asks each engine for as many regular responses, in groups."""

AT_ONCE = Pace(LENGTHS, token_s=0.0)
SLOWER = 10.0
"""Factor by which a GPU is slower than SKEWED: 25 ms per decoding step, 11k tokens/s of learning per rank."""

SKEWED = Pace(replace(LENGTHS, step_s=0.025 / SLOWER), token_s=9e-5 / SLOWER)
WARM_UP = 2  # steps one ahead that are not counted
SAMPLE_EVERY_S = 0.1

GROUPS_PER_S, GROWTH, AHEAD, DRIVER_MIB = 2000.0, 1.15, 1.25, 20.0
LESS = Target(0.9)


@dataclass(frozen=True, slots=True)
class Size:
    """The size of the measurement; a test uses a smaller one."""

    engines: int = 64
    few: int = 8
    hosts: int = 2  # processes that the engines live in
    ranks: int = 8
    graders: int = 2
    pairs: int = 5
    ahead_steps: int = 4
    stream_pairs: int = 3
    skewed: Pace = SKEWED


@dataclass
class QueueDepths:
    """Lengths of queues, sampled while steps run."""

    outstanding: list[int] = field(default_factory=list)  # responses of the engine that has the most
    open_groups: list[int] = field(default_factory=list)

    async def watch(self, controller: Controller) -> None:
        while True:
            self.outstanding.append(max(engine.outstanding for engine in controller.supervisor.engines))
            self.open_groups.append(controller.rollouts.open_groups)
            await asyncio.sleep(SAMPLE_EVERY_S)


def measure(scratch: Path, size: Size = Size()) -> list[Metric]:  # noqa: B008
    return asyncio.run(_measure(scratch, size))


def settings(size: Size) -> Config:
    return default_config(
        f"rollout.engines={size.hosts}", f"rollout.n={GROUP}", f"rollout.max_num_seqs={PLACES}", f"rollout.max_tokens={LONGEST}",
        f"train.prompts_per_step={prompts_a_step(size.engines)}", f"learner.ranks={size.ranks}", f"reward.workers={size.graders}",
        "train.steps=1000000", "checkpoint.every=0", "cluster.object_store_mb=2000", "data.shuffle=false",
    )  # fmt: skip


def prompts_a_step(engines: int) -> int:
    return engines * PLACES // GROUP


async def _measure(scratch: Path, size: Size) -> list[Metric]:
    async with run_actors(settings(size), scratch, simulated) as controller:
        with hosted_engines(controller.supervisor, size.engines):
            return [*await _saturated(controller, size), *await _skewed(controller, size)]


def fresh_controller(controller: Controller) -> Controller:
    """Return a Controller at its first step, with the actors of another one."""
    return Controller(
        controller.cfg, controller.supervisor, controller.dataset, controller.weights, controller.log, controller.tracker
    )  # fmt: skip


async def step(controller: Controller) -> dict[str, float]:
    metrics = await controller.step(controller.steps_done + 1)
    controller.steps_done += 1
    return metrics


# --- saturated


async def _saturated(controller: Controller, size: Size) -> list[Metric]:
    cfg, supervisor = controller.cfg, controller.supervisor
    engines = supervisor.engines
    controllers = {}
    for count in (size.few, size.engines):
        supervisor.engines = engines[:count]
        controllers[count] = fresh_controller(controller)
    await pace(supervisor, AT_ONCE)
    thread_s = {size.few: 0.0, size.engines: 0.0}  # of the Controller's thread
    memory_mib = []  # of the driver, after each block of many engines

    async def steps(count: int, n: int) -> Block:
        """Return a block that counts groups in place of tokens; its CPU time is that of all threads of the driver."""
        supervisor.engines = engines[:count]
        cfg.train.prompts_per_step = prompts_a_step(count)
        await controller.weights.start()  # engines that were left out take the version of the others
        begin, cpu_begin = time.perf_counter(), time.process_time()
        done = [await step(controllers[count]) for _ in range(n)]
        cpu_s, seconds = time.process_time() - cpu_begin, time.perf_counter() - begin
        thread_s[count] += sum(metrics["time/controller_s"] for metrics in done)
        return Block(seconds, int(sum(metrics["rollout/prompts"] + metrics["explore/groups"] for metrics in done)), cpu_s)

    async def many(k: int) -> Block:
        block = await steps(size.engines, 1)
        memory_mib.append(heap_bytes() / 2**20)
        return block

    async def few(k: int) -> Block:
        return await steps(size.few, size.engines // size.few)

    ours, theirs = await in_turns(many, few, size.pairs)
    supervisor.engines = engines
    groups, cpu_s = sum(block.tokens for block in ours), sum(block.cpu_s for block in ours)
    half = len(memory_mib) // 2  # transient memory is no growth, so the minimum of each half counts
    thread_ms = 1e3 * thread_s[size.engines] / (groups + groups / size.pairs)  # includes the first block
    return [
        Metric(
            "groups/s that one core of the driver sustains",
            groups / cpu_s,
            "groups/s",
            Target(GROUPS_PER_S, at_most=False),
            note=f"{size.engines} engines, {groups // size.pairs} groups a step, steps 1 to 8 of the algorithm; all threads of its "
            f"process, {1e3 * cpu_s / groups:.2f} ms a group, of which the Controller's thread takes {thread_ms:.2f} ms; "
            f"by the clock {groups / sum(block.seconds for block in ours):.0f} groups/s, with the simulated actors on the same cores",
        ),
        compared(
            f"driver's CPU time a group, {size.engines} engines",
            ours,
            theirs,
            lambda block: 1e3 * block.cpu_s / block.tokens,
            "ms",
            f"{size.few} engines",
            Target(GROWTH),
        ),
        Metric(
            "driver's memory, growth from first to second half",
            min(memory_mib[half:]) - min(memory_mib[:half]),
            "MiB",
            Target(DRIVER_MIB),
            note=f"after every {2 * groups // size.pairs} groups: {', '.join(f'{mib:.0f}' for mib in memory_mib)} MiB, "
            "without the pages of the object store that it has mapped",
        ),
    ]


# --- skewed


async def _skewed(controller: Controller, size: Size) -> list[Metric]:
    cfg = controller.cfg
    cfg.train.max_staleness = 1
    cfg.train.prompts_per_step = prompts_a_step(size.engines)
    controller = fresh_controller(controller)
    await pace(controller.supervisor, size.skewed)
    await controller.weights.start()
    depths = QueueDepths()
    watching = asyncio.create_task(depths.watch(controller))
    done = [await step(controller) for _ in range(WARM_UP + size.ahead_steps)][WARM_UP:]
    watching.cancel()
    await _drain(controller)
    streamed, phased = await _streamed_and_phased(controller, size.stream_pairs)

    step_s, learners_s = fmean(metrics["time/step_s"] for metrics in done), fmean(metrics[BUSY_S] for metrics in done)
    prompts = [prompts_of(controller.dataset, WARM_UP + k, cfg.train.prompts_per_step) for k in range(size.ahead_steps)]
    engines_s = fmean(slowest_engine_s(one, cfg.exploration.n, size) for one in prompts)
    share = fmean(metrics["time/controller_s"] / metrics["time/step_s"] for metrics in done)
    return [
        Metric(
            "step one ahead, to the slower of engines and learners alone",
            step_s / max(engines_s, learners_s),
            "",
            Target(AHEAD),
            note=f"{step_s:.2f} s; the engines alone need {engines_s:.2f} s, the learners {learners_s:.2f} s; "
            f"{SLOWER:.0f} times as fast as GPUs",
        ),
        Metric("Controller's CPU time of that step", share, "of the step", note=f"{share / SLOWER:.4f} with GPUs"),
        Metric("responses outstanding on an engine, most", max(depths.outstanding), "", note=f"{PLACES} are at work at once"),
        Metric("groups open, most", max(depths.open_groups), "", note=f"{cfg.train.prompts_per_step} prompts a step"),
        compared(
            "streamed exploration",
            streamed,
            phased,
            lambda block: block.seconds,
            "s",
            "second phase",
            LESS,
            f"rollouts of a step, {streamed[0].tokens / 1e6:.1f}M tokens",
        ),
    ]


async def _drain(controller: Controller) -> None:
    """Cancel the step that was begun ahead, and wait until the engines have finished it."""
    controller.prefetcher.close()
    while any(engine.outstanding for engine in controller.supervisor.engines):
        await asyncio.sleep(SAMPLE_EVERY_S)


async def _streamed_and_phased(controller: Controller, pairs: int) -> tuple[list[Block], list[Block]]:
    cfg = controller.cfg

    async def rollouts(k: int, stream: bool) -> Block:
        cfg.exploration.stream = stream
        _, block = await explore(controller, prompts_of(controller.dataset, k, cfg.train.prompts_per_step))
        return block

    async def streamed(k: int) -> Block:
        return await rollouts(k, stream=True)

    async def phased(k: int) -> Block:
        return await rollouts(k, stream=False)

    return await in_turns(streamed, phased, pairs)


def slowest_engine_s(prompts: list[int], explored: int, size: Size) -> float:
    """Return a lower bound on the seconds of rollouts: the longest response with its prompt's exploration, or all tokens on all engines."""
    skew, longest, tokens = size.skewed.skew, 0, 0
    for prompt in prompts:
        regular = response_lengths(Request(0, prompt, GROUP, 1.0, Kind.REGULAR), LONGEST, skew)
        more = []
        if prompt % DIFFICULT_EVERY == 0:
            more = response_lengths(Request(0, prompt, explored, 1.0, Kind.EXPLORATION), LONGEST, skew)
        longest = max(longest, max(regular) + max(more, default=0))
        tokens += sum(regular) + sum(more)
    return skew.step_s * max(longest, tokens / (size.engines * PLACES))
