"""Computed step time of a 7B model on 8, 64 and 512 GPUs: nothing is measured, and this file holds all assumptions.

    python -m bench.paper        prints the table of docs/performance.md

The workload is that of `uec bench scale`: groups of 8 with 16 more for every third prompt, responses of 480 tokens on average. Half of the
GPUs generate, one step ahead, and half learn.
"""

import math
from dataclasses import dataclass
from pathlib import Path

from bench.metric import Metric
from bench.simulated_engine import DIFFICULT_EVERY, LENGTHS, LONGEST, response_lengths
from uec.types import Kind, Request


@dataclass(frozen=True, slots=True)
class Gpu:
    """H100 SXM, from NVIDIA's data sheet, each rate with the share that is assumed to be reached."""

    flops: float = 989e12  # bf16, dense, a second
    memory: float = 3.35e12  # bytes a second
    network: float = 50e9  # bytes a second between nodes: 400 Gbit/s a GPU
    mfu: float = 0.4  # of flops, learning
    prefill: float = 0.5  # of flops
    reached: float = 0.7  # of memory and network


@dataclass(frozen=True, slots=True)
class Model:
    """Qwen2.5-7B, from its config.json: 28 layers, 4 key-value heads of 128."""

    parameters: float = 7.6e9
    cache: float = 2 * 28 * 4 * 128 * 2  # bytes a token, bf16

    @property
    def weights(self) -> float:
        """Bytes, bf16."""
        return 2 * self.parameters


@dataclass(frozen=True, slots=True)
class Work:
    """A step's work for each prompt. All assumed; lengths and kept share as in `uec bench scale`."""

    prompt: int = 512  # tokens
    response: int = 480  # tokens, on average
    responses: float = 8 + 16 / 3
    kept: float = 0.6  # of the responses
    groups: float = 4 / 3


STEP_OVERHEAD = 3e-3
"""Seconds of an engine's decoding step outside the GPU. Assumed."""

TAIL = 8
"""Responses that run on an engine while the longest chain ends. Assumed."""

MICRO_BATCH = 16384  # tokens: learner.micro_batch_tokens of configs/paper
GROUP_S = 0.25e-3
"""Seconds of the Controller's thread for a group, measured by `uec bench scale`."""


@dataclass(frozen=True, slots=True)
class Split:
    """Seconds of each part of a step."""

    gpus: int
    prompts: int
    generate: float
    learn: float
    weight_sync: float
    controller: float

    @property
    def step(self) -> float:
        """Seconds of the step: generation and learning overlap, the Controller works meanwhile, and the weight sync stops both."""
        return max(self.generate, self.learn, self.controller) + self.weight_sync


def longest_chain(prompts: int) -> int:
    """Return the most tokens of a prompt's longest response and its longest exploration after it, as `uec bench scale` draws them."""
    chains = []
    for prompt in range(prompts):
        regular = response_lengths(Request(0, prompt, 8, 1.0, Kind.REGULAR), LONGEST, LENGTHS)
        explored = response_lengths(Request(0, prompt, 16, 1.2, Kind.EXPLORATION), LONGEST, LENGTHS)
        chains.append(max(regular) + (max(explored) if prompt % DIFFICULT_EVERY == 0 else 0))
    return max(chains)


def decode_s(batch: float, gpu: Gpu, model: Model, work: Work) -> float:
    """Return seconds of a decoding step: reading weights and cache once, or the arithmetic if it takes longer."""
    context = work.prompt + work.response / 2
    read = (model.weights + batch * context * model.cache) / (gpu.memory * gpu.reached)
    return max(read, 2 * model.parameters * batch / (gpu.flops * gpu.prefill)) + STEP_OVERHEAD


def generate_s(engines: int, prompts: int, gpu: Gpu, model: Model, work: Work, places: int = 256) -> float:
    """Return seconds of prefill, of all tokens at a full batch, and of the rest of the longest chain at a small batch."""
    prefill = 2 * model.parameters * prompts * work.groups * work.prompt / (engines * gpu.flops * gpu.prefill)
    batch = min(places, prompts * work.responses / engines)
    full = prompts * work.responses * work.response / (engines * batch)  # decoding steps
    return prefill + full * decode_s(batch, gpu, model, work) + max(0.0, longest_chain(prompts) - full) * decode_s(TAIL, gpu, model, work)


def learn_s(ranks: int, prompts: int, gpu: Gpu, model: Model, work: Work) -> float:
    """Return seconds of forward, backward and recomputation, with a prompt once per group, or of ZeRO-3's traffic if that is longer.

    The traffic gathers the weights twice and reduces the gradients.
    """
    tokens = prompts * (work.groups * work.prompt + work.responses * work.kept * work.response) / ranks
    compute = 8 * model.parameters * tokens / (gpu.flops * gpu.mfu)
    traffic = math.ceil(tokens / MICRO_BATCH) * 3 * model.weights / (gpu.network * gpu.reached)
    return max(compute, traffic)


def weight_sync_s(gpu: Gpu, model: Model) -> float:
    """Return seconds to gather ZeRO-3's weights and to broadcast them in a pipeline: neither grows with the number of engines."""
    return 2 * model.weights / (gpu.network * gpu.reached)


def split(gpus: int, prompts: int, gpu: Gpu = Gpu(), model: Model = Model(), work: Work = Work()) -> Split:  # noqa: B008
    half = gpus // 2
    return Split(
        gpus,
        prompts,
        generate_s(half, prompts, gpu, model, work),
        learn_s(half, prompts, gpu, model, work),
        weight_sync_s(gpu, model),
        prompts * work.groups * GROUP_S,
    )


CASES = [(8, 128), (64, 1024), (512, 8192), (512, 1024)]
"""GPUs and prompts per step: first as many prompts as fill the engines, and last a batch on eight times the GPUs."""


def table() -> str:
    """Return the Markdown table of all cases."""
    lines = ["| GPUs | prompts a step | generate | learn | weight sync | Controller's thread | step | groups/s |", "|" + "---|" * 8]
    for one in (split(*case) for case in CASES):
        seconds = " | ".join(f"{part:.1f} s" for part in (one.generate, one.learn, one.weight_sync, one.controller, one.step))
        lines.append(f"| {one.gpus} | {one.prompts} | {seconds} | {one.prompts * Work().groups / one.step:.0f} |")
    return "\n".join(lines)


def measure(scratch: Path) -> list[Metric]:
    """Compute a metric for each case; the name `measure` is that of the other benches."""
    splits = [split(*case) for case in CASES]
    return [
        Metric(
            f"7B on {one.gpus} GPUs, {one.prompts} prompts a step",
            one.step,
            "s",
            note=f"on paper: generate {one.generate:.1f} s, learn {one.learn:.1f} s, weight sync {one.weight_sync:.2f} s, "
            f"Controller's thread {one.controller:.2f} s",
        )
        for one in splits
    ]


if __name__ == "__main__":
    print(table())
