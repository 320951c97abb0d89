"""What crosses a process border.

Shapes: P prompt tokens, T response tokens, G responses in a group. Token ids are int32, log-probabilities
float32 in nats. Nothing here imports Ray: a reference to bulk data is typed `Any` and called a bundle.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

Tokens = NDArray[np.int32]
Logprobs = NDArray[np.float32]


class Kind(StrEnum):
    """Why a response was sampled."""

    REGULAR = "regular"
    EXPLORATION = "exploration"
    EVAL = "eval"


@dataclass(frozen=True)
class Prompt:
    """One row of a data set, templated and tokenised."""

    index: int  # position in train + eval, the prompt's name for the whole run
    text: str  # what the model reads, chat template applied
    tokens: Tokens  # [P], with as many image tokens as its images have features
    answer: str
    row: dict[str, Any]  # the row's other columns, handed to the reward function
    images: tuple[str, ...] = ()  # absolute paths, in the order of their placeholders
    spans: tuple[tuple[int, int], ...] = ()  # of each image: its first image token in `tokens`, and the one behind its last


@dataclass(frozen=True)
class ImageFeatures:
    """What the model's processor makes of a prompt's images, once for engine and learner."""

    prompt: int
    inputs: dict[str, NDArray[Any]]  # by the processor's names, the images one after the other: pixel_values [patches, ...], ...
    digests: tuple[str, ...]  # of each image: equal for equal features
    tokens: int  # image tokens that they stand for


@dataclass(frozen=True)
class Request:
    """n responses wanted for one prompt; the engine knows the prompt by its index."""

    group: int  # unique in a run, also across restarts of an engine
    prompt: int
    n: int
    temperature: float
    kind: Kind


@dataclass(frozen=True)
class Rollout:
    """One finished response, as the engine made it."""

    group: int
    index: int  # 0 .. n-1 within its group
    prompt: int
    kind: Kind
    temperature: float
    prompt_tokens: Tokens  # [P]
    tokens: Tokens  # [T], with the end-of-text token if there was one
    logprobs: Logprobs  # [T], of the behaviour policy: temperature and top_p applied
    truncated: bool  # ended by max_tokens
    version: int  # of the weights that sampled it
    old_logprobs: Logprobs | None = None  # [T], the learner's at T = 1 when this was first trained on (replay)


@dataclass(frozen=True)
class Score:
    """All that the Controller learns of a response: its reward and its size, not its tokens."""

    group: int
    index: int
    slot: int  # position in the bundle that was graded
    reward: float  # weighted sum of parts
    accuracy: float  # the part that difficulty reads
    parts: dict[str, float]
    error: str | None  # why grading failed, or None
    timed_out: bool
    prompt_tokens: int
    response_tokens: int
    truncated: bool
    version: int

    def right(self, solved_at: float) -> bool:
        """By the accuracy part alone: a bonus for format must not make a prompt look solved."""
        return self.accuracy >= solved_at


@dataclass(frozen=True)
class Trajectory:
    """A scored response with its place in the data plane and, once known, its advantage."""

    prompt: int
    kind: Kind
    temperature: float
    score: Score
    bundle: Any  # reference to a list[Rollout]; the tokens are at [score.slot]
    scores: Any = None  # reference to the bundle's list[Score]
    advantage: float = 0.0


@dataclass(frozen=True)
class Group:
    """The G (or G') scored responses to one request."""

    request: Request
    trajectories: list[Trajectory]

    def right(self, solved_at: float) -> int:
        """Responses whose accuracy reaches `difficulty.solved_at`."""
        return sum(t.score.right(solved_at) for t in self.trajectories)


@dataclass(frozen=True)
class Outcome:
    """What the DifficultyActor reads of a finished group."""

    prompt: int
    kind: Kind
    n: int
    right: int  # of the n: accuracy of at least difficulty.solved_at
    mean_accuracy: float


@dataclass(frozen=True)
class Progress:
    """Where the run stands when a group is judged."""

    done: float  # share of the run's steps
    exploring: bool
    entropy: float | None = None  # of the last step's regular responses, in nats
    first_entropy: float | None = None  # of the first step's


@dataclass(frozen=True)
class Verdict:
    """The DifficultyActor's answer: is the prompt difficult, and how to explore it."""

    difficult: bool
    n: int  # G'
    temperature: float  # t'


@dataclass(frozen=True)
class Continuation:
    """Tokens to be scored behind a prompt's."""

    prompt: int
    prompt_tokens: Tokens  # [P]
    tokens: Tokens  # [T]


@dataclass(frozen=True)
class Sample:
    """One response of a training batch: where its tokens are, and what they are worth."""

    bundle: int  # index into the bundles handed over with the plan
    slot: int
    advantage: float
    right: bool = False  # for the entropy by outcome
    admit: bool = False  # return its old log-probabilities: it goes to the replay store


@dataclass(frozen=True)
class Plan:
    """One rank's share of a policy update: optimizer steps of micro-batches of rows, a row being a prompt with its responses, which are
    indices into `samples`.

    Every rank has the same number of optimizer steps and, in each, of micro-batches; an empty one is run with weight 0.
    """

    samples: list[Sample]
    steps: list[list[list[list[int]]]]
    tokens: list[int]  # response tokens of each optimizer step, over all ranks
    responses: list[int]  # responses of each, over all ranks


@dataclass(frozen=True)
class WeightUpdate:
    """A version of the weights, ready to be taken by every engine."""

    version: int
    backend: str  # shm, nccl or ipc
    names: list[str]
    dtypes: list[str]
    shapes: list[list[int]]
    nbytes: int
    location: str = ""  # shm: the file
    digest: str = ""  # shm: of the bytes in the file
    handles: dict[str, Any] = field(default_factory=dict)  # ipc: CUDA handles


@dataclass(frozen=True)
class Interrupted:
    """A signal asked the run to end."""

    signum: int


@dataclass(frozen=True)
class Admission:
    """A kept response that enters the replay store; positions count in the data handed over with it."""

    bundle: int  # position of its list[Rollout]
    slot: int  # in that bundle
    advantage: float
    logprobs: int | None = None  # position of a rank's old log-probabilities, dict[int, Logprobs]; none: recomputed when replayed
    sample: int = 0  # its key in that dict: the index in that rank's Plan.samples


@dataclass(frozen=True)
class Replayed:
    """What the Controller learns of a response drawn from the replay store."""

    slot: int  # position in the rollouts drawn with it
    advantage: float
    prompt: int
    kind: Kind
    group: int
    index: int  # within its group
    age: int  # steps since it was admitted
    prompt_tokens: int
    response_tokens: int


@dataclass(frozen=True, slots=True)
class EngineUse:
    """Of one engine."""

    seconds: float  # it had something to do, evaluation included
    tokens: int  # response tokens that it made meanwhile

    @property
    def tokens_per_s(self) -> float | None:
        """None where it had nothing to do."""
        return self.tokens / self.seconds if self.seconds and self.tokens else None

    def __sub__(self, earlier: "EngineUse") -> "EngineUse":
        return EngineUse(self.seconds - earlier.seconds, self.tokens - earlier.tokens)


@dataclass(frozen=True, slots=True)
class Spent:
    """Up to a moment; the difference of two is what lies between them. `generate`, `explore` and `reward` never overlap."""

    clock: float  # of `time.perf_counter`; in a difference: how long it was
    generate: float  # a message with a regular request was at an engine
    explore: float  # only exploration was at the engines
    reward: float  # nothing was at the engines, and gradings were waited for
    busy: float  # an engine had something to do, evaluation included
    engines: tuple[EngineUse, ...]

    def __sub__(self, earlier: "Spent") -> "Spent":
        return Spent(
            self.clock - earlier.clock,
            self.generate - earlier.generate,
            self.explore - earlier.explore,
            self.reward - earlier.reward,
            self.busy - earlier.busy,
            tuple(now - then for now, then in zip(self.engines, earlier.engines, strict=True)),
        )
