"""The GPU checks: each drives the project's actors, and returns its lines with the numbers behind them."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial

from actors.programs.gpu.stage import Cast, Stage
from actors.runtime.slots import Role
from uec.doctor import verdicts
from uec.doctor.check import Status
from uec.doctor.gpu import Measured
from uec.memory.gpus import gpu_estimates
from uec.memory.shape import shape_of
from uec.memory.workload import worst_case
from uec.models.logprob_gap import Gap
from uec.system.platform import detect

VERSIONS = 6
UPDATES = 2  # timed, after one that warms up
COMPARED = 2  # prompts whose responses the attention check takes
PAIR = (Role.ENGINE, Role.LEARNER, Role.GRADER)
HALF = "model.dtype=bfloat16"


@dataclass(frozen=True, slots=True)
class Step:
    """A check: the names of its lines, its time limit, the GPUs that it needs, and the function that returns the lines."""

    names: tuple[str, ...]
    limit_s: float
    gpus: int
    run: Callable[[], Awaitable[list[Measured]]]


class Checks:
    """The checks in their order. Each starts the actors that it needs, so that it runs whatever became of the others."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.rig = stage.rig
        self._update_s: dict[str, float] = {}  # seconds of an update, by the kind of packed rows

    def steps(self) -> list[Step]:
        split = (f"rollout.tensor_parallel={self.rig.tensor_parallel}", "cluster.placement=separate")
        sharded = ("learner.zero_stage=3", "learner.ranks=2", "rollout.engines=2")
        found = [
            *(Step((f"{kind} rows",), 120, 1, partial(self.attention, kind)) for kind in self.rig.kinds),
            Step(("packed rows",), 90, 1, self.packed_rows),
            Step(("tokens/s",), 210, 1, self.generation),
            Step(("weight sync", "probe gaps", "peak memory"), 150, 1, self.weight_sync),
            Step(("sleep",), 180, 1, self.sleep),
            Step(("nccl",), 180, 2, partial(self.follow, "nccl", "cluster.placement=separate")),
            Step(("tensor split",), 180, 2, partial(self.tensor_parallel, *split)),
            Step(("zero-3",), 180, 2, partial(self.follow, "zero-3", *sharded)),
        ]
        return [replace(step, limit_s=step.limit_s * self.rig.patience) for step in found]

    async def attention(self, kind: str) -> list[Measured]:
        """Compare loss and gradient of packed rows with those of padded rows in bfloat16, and time updates of packed rows."""
        settings = (HALF, f"learner.attention={kind}")
        cast = await self.stage.of((Role.LEARNER,), *settings, learner=self.rig.attention_learner)
        few = self.rig.made_up(cast.dataset.train[:COMPARED])
        [numbers] = await cast.ask(Role.LEARNER, "compare", few)
        numbers["update_s"] = await _update_seconds(cast)
        check = verdicts.attention(f"{kind} rows", kind, numbers)
        if check.status is Status.OK:
            self._update_s[kind] = numbers["update_s"]
        return [Measured(check, numbers)]

    async def packed_rows(self) -> list[Measured]:
        """Compare the seconds of an update with padded rows with those of packed rows."""
        cast = await self.stage.of((Role.LEARNER,), HALF, "learner.shared_prefix=false")
        padded_s = await _update_seconds(cast)
        numbers = {"padded_s": padded_s, **{f"{kind}_s": seconds for kind, seconds in self._update_s.items()}}
        return [Measured(verdicts.speed("packed rows", padded_s, self._update_s, self.rig.judges_speed), numbers)]

    async def generation(self) -> list[Measured]:
        """Sample from the engine, and count tokens per second."""
        cast = await self.stage.of(PAIR)
        await cast.start_weights()
        samples, seconds = await cast.sample()
        await cast.memory()
        tokens = sum(sample.response_tokens for sample in samples)
        rate = tokens / seconds
        numbers = {"tokens_per_s": rate, "tokens": float(tokens), "responses": float(len(samples)), "sampling_s": seconds}
        found = f"{rate:.0f} tokens/s: {len(samples)} responses of {tokens} tokens in {seconds:.1f} s"
        return [Measured(verdicts.tokens("tokens/s", rate, found, self.rig.least_tokens_per_s), numbers)]

    async def weight_sync(self) -> list[Measured]:
        """Bring six versions from learner to engine: seconds, growth of memory, probe gaps, and the peak of memory."""
        cast = await self.stage.of(PAIR)
        await cast.start_weights()
        return [await self._sync(cast, "weight sync", VERSIONS), await self._gaps(cast, "probe gaps"), self._peak(cast)]

    async def sleep(self) -> list[Measured]:
        """Let the engine sleep and wake, then update and sync as a run does: memory freed and restored, and the gap after each wake."""
        cast = await self.stage.of(PAIR, "rollout.sleep=1")
        await cast.start_weights()
        awake = await cast.memory()
        begin = time.perf_counter()
        await cast.ask(Role.ENGINE, "sleep")
        slept_s, asleep = time.perf_counter() - begin, await cast.memory()
        begin = time.perf_counter()
        for part in ("weights", "kv_cache"):
            await cast.ask(Role.ENGINE, "wake", part)
        woke_s, restored = time.perf_counter() - begin, await cast.memory()
        woken = (await cast.probe()).gap
        await cast.update(0)
        await cast.weights.sync()
        gap = woken.or_worse((await cast.probe()).gap)
        numbers = {
            "awake_bytes": float(awake), "asleep_bytes": float(asleep), "restored_bytes": float(restored),
            "sleep_s": slept_s, "wake_s": woke_s, "gap_mean": gap.mean, "gap_largest": gap.largest,
        }  # fmt: skip
        device = self.rig.device_bytes
        engine = cast.cfg.rollout.gpu_memory * device
        within = gap.within(cast.tolerance)
        return [Measured(verdicts.sleep("sleep", awake, asleep, restored, engine, device, gap, within), numbers)]

    async def follow(self, name: str, *overrides: str) -> list[Measured]:
        """Bring versions from learners to engines with other settings, on more GPUs; the line is that of the first fault."""
        cast = await self.stage.of(PAIR, *overrides)
        await cast.start_weights()
        found = [await self._sync(cast, name, VERSIONS // 2), await self._gaps(cast, name)]
        worst = next((one for one in found if one.check.status is Status.FAIL), found[0])
        return [Measured(worst.check, found[0].numbers | found[1].numbers)]

    async def tensor_parallel(self, *overrides: str) -> list[Measured]:
        """Compare an engine over several GPUs with a learner that starts after the engine has ended."""
        cast = await self.stage.of((Role.ENGINE, Role.GRADER), *overrides)
        sequences = cast.sequences
        [sampled] = await cast.ask(Role.ENGINE, "logprobs", sequences)
        samples, seconds = await cast.sample()
        cast = await self.stage.of((Role.LEARNER,))
        [(learned, _)] = await cast.ask(Role.LEARNER, "logprobs", sequences)
        gap, rate = Gap.of(learned, sampled), sum(sample.response_tokens for sample in samples) / seconds
        numbers = {"gap_mean": gap.mean, "gap_largest": gap.largest, "tokens_per_s": rate}
        found = f"{rate:.0f} tokens/s over {self.rig.tensor_parallel} GPUs"
        return [Measured(verdicts.parallel("tensor split", gap, gap.within(cast.tolerance), found), numbers)]

    async def _sync(self, cast: Cast, name: str, versions: int) -> Measured:
        publish_s, take_s, used = [], [], []
        for version in range(versions):
            await cast.update(version)
            result = await cast.weights.sync()
            publish_s.append(await cast.publish_seconds())
            take_s.append(result.seconds - publish_s[-1])
            used.append(await cast.memory())
        grown = used[-1] - used[1]  # the first update allocates
        numbers = {
            "bytes": float(result.nbytes), "versions": float(versions), "publish_s": min(publish_s), "take_s": min(take_s),
            "slowest_publish_s": max(publish_s), "slowest_take_s": max(take_s), "grown_bytes": float(grown),
        }  # fmt: skip
        return Measured(verdicts.sync(name, versions, result.nbytes, min(publish_s), min(take_s), grown), numbers)

    async def _gaps(self, cast: Cast, name: str) -> Measured:
        """Compare engine and learner before and after an update, which has to move both by the same amount."""
        before = await cast.probe()
        await cast.update(VERSIONS)
        await cast.weights.sync()
        after = await cast.probe()
        gap = before.gap.or_worse(after.gap)
        moved, followed = Gap.of(before.learner, after.learner).mean, Gap.of(before.engine, after.engine).mean
        numbers = {"gap_mean": gap.mean, "gap_largest": gap.largest, "learner_moved": moved, "engine_moved": followed}
        return Measured(verdicts.gaps(name, gap, gap.within(cast.tolerance), moved, followed), numbers)

    def _peak(self, cast: Cast) -> Measured:
        cfg, longest = cast.cfg, max(len(prompt.tokens) for prompt in cast.dataset.train)
        platform, device = detect(cfg, "cuda"), float(self.rig.device_bytes)
        estimates = gpu_estimates(cfg, shape_of(cfg.model, cfg.lora), platform, worst_case(longest), device)
        used, estimate = float(max(cast.used)), max(one.bytes for one in estimates)
        return Measured(verdicts.peak("peak memory", used, estimate), {"peak_bytes": used, "estimate_bytes": estimate})


async def _update_seconds(cast: Cast) -> float:
    """Return the seconds of the fastest of some updates, after one that warms up."""
    seconds = []
    for number in range(1 + UPDATES):
        begin = time.perf_counter()
        await cast.update(number)
        seconds.append(time.perf_counter() - begin)
    return min(seconds[1:])
