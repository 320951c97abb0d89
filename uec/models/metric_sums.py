"""The metrics of a policy update: sums over tokens, added over micro-batches and ranks before any division."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor

from uec.algorithm.entropy import covariance

BELOW = (0.01, 0.1, 0.3, 1.0, 2.0, 4.0)
"""Thresholds in nats: `entropy/below_X` is the fraction of tokens below X. 0.01 is a nearly certain token, log 2 = 0.69 a coin toss."""

SLICES = ("regular", "exploration", "right", "wrong")
ENTROPY_NAMES = tuple(f"{what}_{name}" for name in SLICES for what in ("entropy", "tokens")) + tuple(f"below_{edge:g}" for edge in BELOW)
COVARIANCE = ("cov_n", "cov_l", "cov_a", "cov_la")  # the order of uec.algorithm.entropy.covariance_sums
TOKEN_MEANS = ("entropy", "ratio_mean", "clip_frac", "dual_clip_frac", "kl", "behaviour_weight", "behaviour_clip_frac", "marked_frac")
SUMS = (
    "loss", *TOKEN_MEANS, "gap", "compared", *COVARIANCE, *ENTROPY_NAMES, "rows", "response_tokens", "tokens", "padded_tokens",
)  # fmt: skip
PEAKS = ("gap_max", "forward_s", "backward_s", "optimizer_s")


class MetricSums:
    """One rank's sums, and peaks of which the maximum over ranks counts. All ranks have the same names, whatever their data."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._sums = {name: torch.zeros((), dtype=torch.float64, device=device) for name in SUMS}
        self._peaks = {name: torch.zeros((), dtype=torch.float64, device=device) for name in PEAKS}
        self._seen: set[str] = set()

    def add(self, **values: Tensor | float) -> None:
        for name, value in values.items():
            self._sums[name] += value
            self._seen.add(name)

    def raise_to(self, name: str, value: Tensor) -> None:
        self._peaks[name] = torch.maximum(self._peaks[name], value.double())

    @contextmanager
    def clock(self, name: str) -> Iterator[None]:
        """Add the seconds of a block; on CUDA until the device has finished its work."""
        begin = time.perf_counter()
        yield
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self._peaks[name] += time.perf_counter() - begin

    def over_ranks(self) -> "Totals":
        """Return the totals, by a single collective that sends every rank's vector to every rank."""
        mine = torch.stack([*self._sums.values(), *self._peaks.values()])
        every = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
        dist.all_gather(every, mine)
        table = torch.stack(every).cpu()
        sums = table[:, : len(SUMS)].sum(0).tolist()
        peaks = table[:, len(SUMS) :].max(0).values.tolist()
        return Totals(dict(zip(SUMS, sums, strict=True)), dict(zip(PEAKS, peaks, strict=True)), self._seen)


class Totals:
    """Sums and maxima over all ranks."""

    def __init__(self, sums: dict[str, float], peaks: dict[str, float], seen: set[str]) -> None:
        self.sums = sums
        self.peaks = peaks
        self.seen = seen  # names that this loss adds, the same on every rank

    def metrics(self, optimizer_steps: int) -> dict[str, float]:
        """Return the metrics (uec.tracking.metrics) of the update; metrics without data are absent."""
        sums, peaks = self.sums, self.peaks
        count = max(1.0, sums["response_tokens"])
        found = {f"policy/{name}": sums[name] / count for name in TOKEN_MEANS if name in self.seen}
        found["policy/loss"] = sums["loss"] / optimizer_steps
        found["policy/entropy_cov"] = covariance(torch.tensor([sums[name] for name in COVARIANCE], dtype=torch.float64))
        found |= entropy_metrics(sums, sums["response_tokens"])
        if sums["compared"]:
            found["policy/rollout_logprob_gap_max"] = peaks["gap_max"]
            found["policy/rollout_logprob_gap_mean"] = sums["gap"] / sums["compared"]
        found["learner/rows"] = sums["rows"]
        found["learner/tokens"] = sums["tokens"]
        found["learner/padding_frac"] = 1 - sums["tokens"] / max(1.0, sums["padded_tokens"])
        return found | {f"learner/{name}": peaks[name] for name in ("forward_s", "backward_s", "optimizer_s")}


def entropy_sums(entropies_N: Tensor, exploration_N: Tensor, right_N: Tensor) -> dict[str, Tensor]:
    """Return sums over N tokens under ENTROPY_NAMES, and their total `entropy`; to be added over micro-batches and ranks."""
    entropies_N = entropies_N.detach()
    sums = {"entropy": entropies_N.sum()}
    for name, member_N in (("regular", ~exploration_N), ("exploration", exploration_N), ("right", right_N), ("wrong", ~right_N)):
        sums[f"entropy_{name}"] = torch.where(member_N, entropies_N, 0.0).sum()
        sums[f"tokens_{name}"] = member_N.sum()
    for edge in BELOW:
        sums[f"below_{edge:g}"] = (entropies_N < edge).sum()
    return sums


def entropy_metrics(sums: dict[str, float], tokens: float) -> dict[str, float]:
    """Return the entropy metrics of summed values; a mean over no tokens is absent."""
    found = {f"entropy/{name}": sums[f"entropy_{name}"] / sums[f"tokens_{name}"] for name in SLICES if sums[f"tokens_{name}"]}
    if tokens:
        found |= {f"entropy/below_{edge:g}": sums[f"below_{edge:g}"] / tokens for edge in BELOW}
    return found
