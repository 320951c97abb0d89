"""Held-out evaluation by the same engines and graders: pass@k, entropy and length."""

import asyncio
from statistics import fmean

from actors.driver.learner_group import LearnerGroup, example
from actors.driver.rollouts import RolloutStream
from uec.config.schema import Config
from uec.eval.figures import RIGHT
from uec.eval.pass_at_k import mean_pass_at_k
from uec.tracking.tracker import Tracker
from uec.types import Group, Kind, Prompt


class Evaluation:
    """A run's held-out evaluations, one at a time."""

    def __init__(self, cfg: Config, prompts: list[Prompt], stream: RolloutStream, learners: LearnerGroup, tracker: Tracker) -> None:
        self.cfg = cfg
        self.prompts = prompts
        self.stream = stream
        self.learners = learners
        self.tracker = tracker
        self._stopped = False
        self._going_on: asyncio.Future[dict[str, float]] | None = None

    async def run(self, step: int) -> None:
        """Report the held-out metrics of the current weights; nothing without prompts, or once stopped."""
        if not self.prompts or self._stopped:
            return
        self._going_on = asyncio.ensure_future(evaluate(self.cfg, self.prompts, self.stream, self.learners, self.tracker))
        await asyncio.wait([self._going_on])
        if not self._going_on.cancelled():
            self.tracker.evaluation(step, self._going_on.result())

    def stop(self) -> None:
        """Cut short the one that goes on, and begin no other."""
        self._stopped = True
        if self._going_on is not None:
            self._going_on.cancel()


async def evaluate(
    cfg: Config, prompts: list[Prompt], stream: RolloutStream, learners: LearnerGroup, tracker: Tracker
) -> dict[str, float]:
    """`eval/` metrics over all held-out prompts, n responses each (algorithm.md, section 3)."""
    settings = cfg.eval
    done = 0

    async def sample(prompt: Prompt) -> Group:
        nonlocal done
        group = await stream.sample(prompt.index, settings.n, settings.temperature, Kind.EVAL)
        done += 1
        tracker.progress("evaluating", done, len(prompts))
        return group

    groups = await asyncio.gather(*(sample(prompt) for prompt in prompts))
    right = [sum(t.score.accuracy >= RIGHT for t in group.trajectories) for group in groups]
    scores = [t.score for group in groups for t in group.trajectories]
    metrics = {
        "eval/response_len_mean": fmean(score.response_tokens for score in scores),
        "eval/truncated_frac": fmean(score.truncated for score in scores),
        # One response a prompt shows the policy's entropy where it goes; scoring all n would cost n times as much.
        "eval/entropy": await learners.entropy([example(group.trajectories[0], cfg.difficulty.solved_at) for group in groups]),
    }
    for part in sorted({part for score in scores for part in score.parts}):
        metrics[f"eval/{part}_mean"] = fmean(score.parts[part] for score in scores if part in score.parts)
    for k in settings.k:
        passed = mean_pass_at_k(right, [settings.n] * len(groups), k)
        metrics |= {f"eval/pass@{k}": passed.value, f"eval/pass@{k}_low": passed.low, f"eval/pass@{k}_high": passed.high}
    return metrics
