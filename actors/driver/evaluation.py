"""Held-out evaluation in a training run, by its engines and graders: pass@k, entropy and length."""

import asyncio
from statistics import fmean

from actors.driver.learner_group import LearnerGroup
from actors.driver.rollouts import RolloutStream
from uec.config.schema import Config
from uec.eval.pass_at_k import mean_pass_at_k
from uec.eval.predictions import RIGHT
from uec.tracking.tracker import Tracker
from uec.types import Kind, Prompt, TrainingSample


class Evaluation:
    """A run's held-out evaluations, one at a time."""

    def __init__(self, cfg: Config, prompts: list[Prompt], stream: RolloutStream, learners: LearnerGroup, tracker: Tracker) -> None:
        self.cfg = cfg
        self.prompts = prompts
        self.stream = stream
        self.learners = learners
        self.tracker = tracker
        self._stopped = False
        self._running: asyncio.Future[dict[str, float]] | None = None

    async def run(self, step: int) -> None:
        """Compute and report the held-out metrics of the current weights. Does nothing without prompts, or once stopped."""
        if not self.prompts or self._stopped:
            return
        self._running = asyncio.ensure_future(evaluate(self.cfg, self.prompts, self.stream, self.learners, self.tracker))
        await asyncio.wait([self._running])
        if not self._running.cancelled():
            self.tracker.evaluation(step, self._running.result())

    def stop(self) -> None:
        """Cancel the running evaluation, and start no other."""
        self._stopped = True
        if self._running is not None:
            self._running.cancel()


async def evaluate(
    cfg: Config, prompts: list[Prompt], stream: RolloutStream, learners: LearnerGroup, tracker: Tracker
) -> dict[str, float]:
    """Return the `eval/` metrics over all held-out prompts, with n responses each."""
    settings = cfg.eval
    done = 0

    async def sample(prompt: Prompt) -> list[TrainingSample]:
        nonlocal done
        group = await stream.sample(prompt.index, settings.n, settings.temperature, Kind.EVAL)
        done += 1
        tracker.progress("evaluating", done, len(prompts))
        return group

    groups = await asyncio.gather(*(sample(prompt) for prompt in prompts))
    right = [sum(sample.accuracy >= RIGHT for sample in group) for group in groups]
    samples = [sample for group in groups for sample in group]
    metrics = {
        "eval/response_len_mean": fmean(sample.response_tokens for sample in samples),
        "eval/truncated_frac": fmean(sample.truncated for sample in samples),
        # One response a prompt shows the entropy on the policy's responses; all n would cost n times as much.
        "eval/entropy": await learners.entropy([group[0] for group in groups]),
    }
    for part in sorted({part for sample in samples for part in sample.parts}):
        metrics[f"eval/{part}_mean"] = fmean(sample.parts[part] for sample in samples if part in sample.parts)
    for k in settings.k:
        passed = mean_pass_at_k(right, [settings.n] * len(groups), k)
        metrics |= {f"eval/pass@{k}": passed.value, f"eval/pass@{k}_low": passed.low, f"eval/pass@{k}_high": passed.high}
    return metrics
