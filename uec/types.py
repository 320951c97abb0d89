"""The types that cross process borders.

Shapes: P prompt tokens, T tokens after the prompt, G responses in a group. Token ids are int32, log-probabilities are float32 in nats.
Nothing here imports Ray: a reference to bulk data has the type `Any`. A response batch is a `list[Trajectory]` in the object store.
"""

from copy import copy
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

Tokens = NDArray[np.int32]
Logprobs = NDArray[np.float32]
Mask = NDArray[np.bool_]
Answer = str | list[str]
"""A reference answer: one text, or all texts that are accepted."""


class Kind(StrEnum):
    """Why a response was sampled."""

    REGULAR = "regular"
    EXPLORATION = "exploration"
    EVAL = "eval"


@dataclass(frozen=True)
class Prompt:
    """One row of a data set, templated and tokenised."""

    index: int  # position in train + eval; names the prompt for the whole run
    text: str  # what the model reads, chat template applied
    tokens: Tokens  # [P], with as many image tokens as its images have features
    answer: Answer
    row: dict[str, Any]  # the row's other columns, for the reward function
    images: tuple[str, ...] = ()  # absolute paths, in the order of their placeholders
    spans: tuple[tuple[int, int], ...] = ()  # for each image: its first image token in `tokens`, and the one behind its last


@dataclass(frozen=True)
class ImageFeatures:
    """A prompt's images after the model's processor, computed once for engine and learner."""

    prompt: int
    inputs: dict[str, NDArray[Any]]  # by the processor's names, one image after the other: pixel_values [patches, ...], ...
    digests: tuple[str, ...]  # one for each image: equal for equal features
    tokens: int  # image tokens that they stand for
    half: tuple[str, ...] = ()  # inputs that hold bfloat16, as uint16 (uec/models/image_features.py)


@dataclass(frozen=True)
class Sampling:
    """The sampling parameters of all responses of a run, without the temperature, which each request has."""

    max_tokens: int  # of one turn
    vocabulary: int  # token ids below it exist; an embedding may be padded beyond them, and padding must have no probability
    never: tuple[int, ...] = ()  # token ids that must have no probability, such as image tokens
    top_p: float = 1.0
    top_k: int = -1  # -1: all tokens
    min_p: float = 0.0
    stop: tuple[str, ...] = ()  # texts that end a response
    stop_tokens: tuple[int, ...] = ()  # token ids that end a response


@dataclass(frozen=True)
class Request:
    """A request for n responses to one prompt. The engine knows the prompt by its index."""

    group: int  # unique in a run, also across restarts of an engine
    prompt: int
    n: int
    temperature: float
    kind: Kind
    behind: Tokens | None = None  # earlier turns and observations, which stand behind the prompt's tokens; None: the first turn


@dataclass(frozen=True)
class Completion:
    """One response, or turn, that an engine has finished."""

    request: int  # position in the requests of this call
    index: int  # 0 .. n-1 within its request
    tokens: Tokens  # [T], with the end-of-text token if there was one
    logprobs: Logprobs  # [T], of the behaviour policy: temperature, top_p, top_k and min_p applied
    truncated: bool  # ended by `Sampling.max_tokens`
    version: int  # of the weights that sampled its first token


@dataclass(frozen=True)
class Trajectory:
    """One response with all its turns: what the policy generated, and the observations between."""

    group: int
    index: int  # 0 .. n-1 within its group
    prompt: int
    kind: Kind
    temperature: float
    prompt_tokens: Tokens  # [P]
    tokens: Tokens  # [T], with the end-of-text token if there was one
    logprobs: Logprobs  # [T], of the behaviour policy: temperature, top_p, top_k and min_p applied; 0 for observations
    truncated: bool  # ended by max_tokens
    versions: tuple[int, ...]  # of the weights that sampled each turn
    generated: Mask | None = None  # [T], False for observations, which are not trained on; None: one turn, all True
    parts: dict[str, float] = field(default_factory=dict)  # reward parts that an environment gave; empty: a RewardActor grades it
    old_logprobs: Logprobs | None = None  # [T], the learner's at T = 1 when this was first trained on (replay)

    @property
    def version(self) -> int:
        """Return the oldest version of the weights that sampled a turn."""
        return min(self.versions)

    @property
    def generated_tokens(self) -> int:
        """Return the number of tokens that the policy generated."""
        return len(self.tokens) if self.generated is None else int(self.generated.sum())

    def version_T(self) -> NDArray[np.int64]:
        """Return the version that sampled each token, [T]; an observation has that of the turn before it."""
        if self.generated is None:
            return np.full(len(self.tokens), self.versions[0], np.int64)
        begins_T = self.generated & ~np.concatenate([[False], self.generated[:-1]])
        return np.asarray(self.versions, np.int64)[np.maximum(np.cumsum(begins_T) - 1, 0)]


@dataclass
class TrainingSample:
    """The Controller's record of a trajectory: its reward and size, and references to its tokens.

    The same record goes from the grader to the replay store. It is not frozen, because the driver sets the references in place.
    """

    prompt: int
    slot: int  # position in its response batch
    prompt_tokens: int
    response_tokens: int  # that the policy generated
    observation_tokens: int = 0  # between its turns
    kind: Kind = Kind.EVAL
    temperature: float = 1.0
    group: int = 0
    index: int = 0  # within its group
    reward: float = 0.0  # weighted sum of parts
    accuracy: float = 0.0  # the part that difficulty reads
    parts: dict[str, float] = field(default_factory=dict)
    error: str | None = None  # why grading failed, or None
    timed_out: bool = False
    truncated: bool = False
    version: int = 0  # of the oldest weights that sampled it
    advantage: float = 0.0
    admitted: int | None = None  # step at which it entered the replay store
    batch: Any = None  # reference to its response batch, or the batch's position among the data of a message
    graded: Any = None  # reference to the list[TrainingSample] that a grader returned for the response batch

    @classmethod
    def of(cls, trajectory: Trajectory, slot: int, **known: Any) -> "TrainingSample":
        """Return the record of a trajectory at `slot` of its response batch; `known`: further fields, such as the reward."""
        response_tokens = trajectory.generated_tokens
        return cls(
            prompt=trajectory.prompt,
            slot=slot,
            prompt_tokens=len(trajectory.prompt_tokens),
            response_tokens=response_tokens,
            observation_tokens=len(trajectory.tokens) - response_tokens,
            kind=trajectory.kind,
            temperature=trajectory.temperature,
            group=trajectory.group,
            index=trajectory.index,
            truncated=trajectory.truncated,
            version=trajectory.version,
            **known,
        )

    def right(self, solved_at: float) -> bool:
        """Return whether the accuracy reaches `difficulty.solved_at`. A bonus for format does not count."""
        return self.accuracy >= solved_at

    def with_advantage(self, advantage: float) -> "TrainingSample":
        """Return a copy with this advantage."""
        sample = copy(self)
        sample.advantage = advantage
        return sample

    def placed(self, batch: Any, slot: int) -> "TrainingSample":
        """Return a copy for a message: its response batch by position, and no reference."""
        sample = copy(self)
        sample.batch, sample.graded, sample.slot = batch, None, slot
        return sample


@dataclass(frozen=True, slots=True)
class PromptRollouts:
    """All responses sampled for one prompt in a step, and those that are kept."""

    regular: list[TrainingSample]
    exploration: list[TrainingSample] | None
    difficult: bool
    kept: list[TrainingSample] = field(default_factory=list)  # trained on, with advantages; regular ones first, in their groups' order
    overlong_dropped: int = 0  # responses that would have been kept, but are truncated with A > 0

    @property
    def samples(self) -> list[TrainingSample]:
        """Return the regular and the exploration responses."""
        return [*self.regular, *(self.exploration or ())]

    @property
    def uninformative(self) -> bool:
        """Return whether every response has the same reward, so that there is no learning signal."""
        return uniform(self.samples)


def uniform(samples: list[TrainingSample]) -> bool:
    """Return whether every sample has the same reward."""
    return len({sample.reward for sample in samples}) == 1


@dataclass(frozen=True, slots=True)
class EngineUse:
    """The work of one engine."""

    seconds: float  # in which it had work, evaluation included
    tokens: int  # response tokens that it made in this time

    @property
    def tokens_per_s(self) -> float | None:
        """Return the tokens per second of work; None without work."""
        return self.tokens / self.seconds if self.seconds and self.tokens else None

    def __sub__(self, earlier: "EngineUse") -> "EngineUse":
        return EngineUse(self.seconds - earlier.seconds, self.tokens - earlier.tokens)


@dataclass(frozen=True, slots=True)
class RolloutTime:
    """Seconds of rollouts since the start; subtract two to get the time between them. `generate`, `explore` and `reward` never overlap."""

    clock: float  # `time.perf_counter`; in a difference: the seconds between
    generate: float  # a regular request was at an engine
    explore: float  # only exploration was at the engines
    reward: float  # nothing was at the engines, and gradings were awaited
    busy: float  # an engine had work, evaluation included
    engines: tuple[EngineUse, ...]

    def __sub__(self, earlier: "RolloutTime") -> "RolloutTime":
        return RolloutTime(
            self.clock - earlier.clock,
            self.generate - earlier.generate,
            self.explore - earlier.explore,
            self.reward - earlier.reward,
            self.busy - earlier.busy,
            tuple(now - then for now, then in zip(self.engines, earlier.engines, strict=True)),
        )


@dataclass(frozen=True, slots=True)
class StepRollouts:
    """All rollouts of a step: steps 1 to 4 of the algorithm."""

    prompts: list[PromptRollouts]
    exploring: bool
    time: RolloutTime


@dataclass(frozen=True)
class Outcome:
    """A finished group as the DifficultyActor reads it."""

    prompt: int
    kind: Kind
    n: int
    right: int  # responses of the n whose accuracy is at least difficulty.solved_at
    mean_accuracy: float


@dataclass(frozen=True)
class ScheduleState:
    """The state of the exploration schedule when a group is classified."""

    done: float  # share of the run's steps
    exploring: bool
    entropy: float | None = None  # of the last step's regular responses, in nats
    first_entropy: float | None = None  # of the first step's


@dataclass(frozen=True)
class Verdict:
    """The DifficultyActor's answer: whether the prompt is difficult, and how to explore it."""

    difficult: bool
    n: int  # G'
    temperature: float  # t'


@dataclass(frozen=True)
class Continuation:
    """Tokens after a prompt, whose log-probabilities are requested."""

    prompt: int
    prompt_tokens: Tokens  # [P]
    tokens: Tokens  # [T]
    generated: Mask | None = None  # [T], as a trajectory's


@dataclass(frozen=True)
class UpdatePlan:
    """One rank's share of a policy update: optimizer steps of micro-batches of rows. A row is a prompt with its responses.

    Every rank has the same number of optimizer steps and, in each, of micro-batches; an empty one runs with weight 0.
    The columns describe the rank's responses in the order in which it forwards them; rows hold positions in them.
    """

    responses: list[int]  # numbers in the whole batch, each once over all ranks
    steps: list[list[list[list[int]]]]
    tokens: list[int]  # response tokens of each optimizer step, over all ranks
    counts: list[int]  # responses of each optimizer step, over all ranks
    places: list[tuple[int, int]] = field(default_factory=list)  # response batch among those sent with the plan, and slot in it
    advantages: list[float] = field(default_factory=list)
    right: list[bool] = field(default_factory=list)  # for the entropy by outcome
    admitted: frozenset[int] = frozenset()  # positions that enter the replay store: their old log-probabilities are returned


@dataclass(frozen=True)
class WeightUpdate:
    """A version of the weights, ready for every engine to load."""

    version: int
    backend: str  # shm, nccl or ipc
    names: list[str]
    dtypes: list[str]
    shapes: list[list[int]]
    nbytes: int
    kind: str = "whole"  # whole: every trained parameter; adapter: the tensors of an adapter
    location: str = ""  # shm: the file
    digest: str = ""  # shm: of the bytes in the file
    handles: dict[str, Any] = field(default_factory=dict)  # nccl: how to join the group; ipc: CUDA handles

    @property
    def is_kept(self) -> bool:
        """Return whether an engine can load it at any time; if not, the learners send it once, to all engines together."""
        return self.backend not in ("nccl", "ipc")


@dataclass(frozen=True)
class Interrupted:
    """A signal asked the run to end."""

    signum: int
