"""All settings of a run. Each field has a docstring, and a range or a list of choices in its metadata.

`file.py` reads YAML files and overrides into these classes, `validate.py` checks the values, and `docs.py` generates docs/config.md from
the docstrings. This module imports nothing heavy.
"""

from dataclasses import dataclass, field
from typing import Any


def number(default: Any, *, ge: float | None = None, gt: float | None = None, le: float | None = None, lt: float | None = None) -> Any:
    """Return a numeric field with its range."""
    return field(default=default, metadata={"ge": ge, "gt": gt, "le": le, "lt": lt})


def choice(choices: dict[str, str]) -> Any:
    """Return a field that takes one of these values; `choices` gives the meaning of each, and the first is the default."""
    return field(default=next(iter(choices)), metadata={"choices": choices})


def open_choice(default: Any, choices: dict[str, str], *, takes: str, path: bool = False) -> Any:
    """Return a field that takes one of these values or another one, which `takes` describes. `path`: it may be a file or a folder."""
    return field(default=default, metadata={"open_choices": choices, "takes": takes, "path": path})


def location(default: str | None) -> Any:
    """Return a text field that can name a file or a folder."""
    return field(default=default, metadata={"path": True})


def items(*default: Any, ge: float | None = None, lt: float | None = None, choices: dict[str, str] | None = None) -> Any:
    """Return a list field with the range or the choices of its items."""
    return field(default_factory=lambda: list(default), metadata={"ge": ge, "lt": lt, "choices": choices})


@dataclass
class RunConfig:
    """Run folder, seed and start."""

    name: str | None = None
    """Name of the run folder in `run.dir`; null: config name, algorithm and time."""
    dir: str = location("runs")
    """Folder that contains the run folders."""
    seed: int = number(0, ge=0)
    """Seed of the data order, the replay draws, the learners and the engines."""
    overwrite: bool = False
    """Delete an existing run folder of the same name first."""
    resume: str = open_choice(
        "never",
        {"never": "start from the initial model", "auto": "from the newest checkpoint of `run.name`, or else from the initial model"},
        takes="the path of a checkpoint",
        path=True,
    )
    """Checkpoint that the run resumes from."""
    save_rollouts: bool = True
    """Write every response with its reward parts to rollouts/step_NNNNNN.jsonl in the run folder."""


@dataclass
class ModelConfig:
    """The policy."""

    path: str = location("???")
    """Initial model: a folder in Hugging Face format, or a hub name."""
    dtype: str = choice({"auto": "float32 on CPU, bfloat16 on CUDA", "float32": "", "bfloat16": "", "float16": ""})
    """Number format of the weights in engine and learner."""
    trust_remote_code: bool = False
    """Run Python code that comes with the model. Use it only for a source that you trust."""
    freeze_vision_tower: bool = False
    """Do not train the vision tower of a vision-language model; the weight sync then omits it, too."""


@dataclass
class ImageConfig:
    """Images of the data, for vision-language models."""

    min_pixels: int | None = number(None, ge=1)
    """Enlarge images of a smaller area to this many pixels; null: the value of the model's processor."""
    max_pixels: int | None = number(None, ge=1)
    """Reduce images of a larger area to this many pixels, which bounds their image tokens; null: the value of the model's processor."""
    root: str | None = location(None)
    """Folder that must contain all images, and that relative paths start from; null: they start from the folder of the data file."""
    max_file_pixels: int = number(50_000_000, ge=1)
    """Refuse an image file with more pixels before it is decoded."""
    workers: int = number(1, ge=1)
    """Number of ImageActors, which decode and preprocess images."""
    cpus: float = number(0.1, gt=0)
    """CPUs that Ray reserves for each ImageActor."""


@dataclass
class DataConfig:
    """Prompts, reference answers and the form of the prompt."""

    train: str = location("???")
    """Training prompts: a .jsonl or .parquet file, or a Hugging Face dataset name."""
    eval: str | None = location(None)
    """Held-out prompts, in the same forms as `data.train`; null: no evaluation."""
    train_split: str = "train"
    """Split to use if `data.train` is a dataset name."""
    eval_split: str = "test"
    """Split to use if `data.eval` is a dataset name."""
    prompt_key: str = "prompt"
    """Column of the question: a text, or a list of chat messages."""
    answer_key: str = "answer"
    """Column of the reference answer."""
    image_key: str | None = "images"
    """Column of the images, for vision-language models: a path, bytes, or a list of these; a row without it is text only."""
    image: ImageConfig = field(default_factory=ImageConfig)
    answer_regex: str | None = None
    """Extract the reference answer from its column: the first group of the last match (GSM8K: `####\\s*(.+)`)."""
    template: str | None = None
    """Text around the question, e.g. "{prompt} Think step by step."; {any_column} is replaced, other braces are kept."""
    system: str | None = None
    """System message; it requires `data.chat`."""
    chat: bool = True
    """Apply the tokenizer's chat template; false: tokenise the prompt as plain text."""
    max_prompt_tokens: int = number(1024, ge=1)
    """Longest prompt; longer ones are dropped and counted."""
    shuffle: bool = True
    """Shuffle the prompts in each epoch, with a seed from `run.seed`."""


@dataclass
class RolloutConfig:
    """Sampling, and the engines that sample."""

    engines: int = number(1, ge=1)
    """Number of RolloutActors, each with one engine."""
    backend: str = open_choice(
        "auto",
        {
            "auto": "in_actor on CPU, async on CUDA",
            "in_actor": "vLLM's LLMEngine, in a thread of the actor",
            "async": "vLLM's AsyncLLM, in a separate process",
        },
        takes="an engine class: path/to/file.py:Class or package.module:Class",
        path=True,
    )
    """Engine of each RolloutActor."""
    tensor_parallel: int = number(1, ge=1)
    """Devices per engine."""
    n: int = number(8, ge=2)
    """G: responses per prompt."""
    rounds: int = number(1, ge=1)
    """Most rounds of G responses per prompt (Reinforce-Ada)."""
    until: str = choice({"right": "one response is right", "balanced": "G/2 responses are right and G/2 are wrong"})
    """Condition that ends the rounds of a prompt."""
    temperature: float = number(1.0, gt=0)
    """t: temperature of regular rollouts."""
    top_p: float = number(1.0, gt=0, le=1)
    """Nucleus sampling; 1: off. Values below 1 sort the vocabulary, which is slow on CPU."""
    top_k: int = number(-1, ge=-1)
    """Sample from this many most likely tokens; -1: off."""
    min_p: float = number(0.0, ge=0, le=1)
    """Exclude tokens whose probability is below min_p times that of the most likely token."""
    max_tokens: int = number(1024, ge=1)
    """Longest response in tokens; longer ones are truncated."""
    stop: list[str] = items()
    """Texts that end a response, in addition to the end-of-text token."""
    max_num_seqs: int = number(256, ge=1)
    """Sequences that an engine decodes at once."""
    max_batched_tokens: int = number(8192, ge=1)
    """Tokens that an engine processes in one forward pass."""
    kv_cache_mb: int | None = number(None, ge=1)
    """Size of the KV cache in MiB; null: derived from `rollout.gpu_memory`, and 512 on CPU."""
    gpu_memory: float = number(0.85, gt=0, le=1)
    """Share of the GPU's memory that an engine uses."""
    prefix_caching: bool = True
    """Reuse the KV cache of common prefixes; each weight update resets it."""
    enforce_eager: bool = False
    """Do not use CUDA graphs. There are none on CPU."""
    cpus: float = number(0.4, gt=0)
    """CPUs that Ray reserves for each engine."""
    threads: int = number(1, ge=1)
    """Compute threads of each engine on CPU."""


@dataclass
class DynamicSamplingConfig:
    """Replacement of prompts without a learning signal (DAPO)."""

    enabled: bool = False
    """Replace a prompt whose responses all have the same reward by another prompt, within the step."""
    max_prompts: float = number(3.0, gt=1)
    """Most prompts sampled per step, as a multiple of `train.prompts_per_step`; the step then continues with the prompts it has."""


@dataclass
class DifficultyConfig:
    """Definitions of a right response and a difficult prompt."""

    solved_at: float = number(0.01, gt=0)
    """Least accuracy of a right response."""
    max_solve_rate: float = number(0.0, ge=0, lt=1)
    """Largest share of right responses among the regular responses of a difficult prompt (paper: 0)."""


@dataclass
class ExplorationConfig:
    """Targeted exploration: more responses for difficult prompts, at a higher temperature."""

    enabled: bool = True
    """Sample more responses for difficult prompts, at a higher temperature."""
    n: int = number(20, ge=2)
    """G': exploration responses per difficult prompt."""
    temperature: float = number(1.2, gt=0)
    """t': exploration temperature; it must be above `rollout.temperature`."""
    schedule: str = choice(
        {
            "constant": "t' does not change",
            "linear": "t' changes linearly over the run",
            "failures": "t' changes by `exploration.temperature_step` each time the prompt was difficult",
            "entropy": "t' changes as the policy's entropy rises to twice its value at the first step",
        }
    )
    """How t' changes from `exploration.temperature` to `exploration.temperature_end`."""
    temperature_end: float | None = number(None, gt=0)
    """Last t' of the schedule. Usually above `exploration.temperature` for `failures`, and below it for `linear` and `entropy`."""
    temperature_step: float = number(0.05, gt=0)
    """Change of t' per visit with `exploration.schedule=failures`."""
    rounds: int = number(1, ge=1)
    """Rounds that the G' responses are divided into; a prompt ends after the first round with a right response."""
    until: Any = open_choice(
        1.0,
        {"auto": "until the share of difficult prompts in the last 10 steps is at most 0.6 times that in the first 10"},
        takes="a number above 0 and at most 1",
    )
    """Share of the run with exploration; replay continues after it (paper: 1.0, the whole run)."""
    group: str = choice({"own": "the G' exploration responses", "joint": "all G + G' responses"})
    """Group for the advantages of exploration responses."""
    keep: str = choice({"positive": "those with A > 0 (paper)", "informative": "those with |A| > `exploration.threshold` (released code)"})
    """Exploration responses to train on."""
    threshold: float = number(1.0, ge=0)
    """Threshold of `exploration.keep=informative`."""
    correction: str = choice(
        {
            "none": "no correction (released code)",
            "truncated-is": "importance weights min(pi / mu, `loss.is_cap`)",
            "tempered": "log-probabilities at the sampling temperature in the loss, too",
        }
    )
    """Correction in the loss for responses that were sampled at t'."""
    stream: bool = True
    """Explore each difficult prompt as soon as its regular responses are graded; false: only after all regular rollouts."""


@dataclass
class RewardConfig:
    """Grading of responses."""

    fn: Any = open_choice(
        "exact",
        {
            "exact": "the final answer equals the reference, as text or as a number",
            "boxed": "the content of `\\boxed{}` equals the reference by math-verify",
            "format": "the response has `<think>` and `\\boxed{}`",
            "countdown": "the Countdown task: an equation with the given numbers",
            "geometry": "the geometry task: each step of the derivation",
        },
        takes="path/to/file.py:name or package.module:name; or a list of these, whose parts are merged",
        path=True,
    )
    """Reward function."""
    weights: dict[str, float] = field(default_factory=lambda: {"accuracy": 1.0}, metadata={"ge": 0})
    """Weight of each part in the reward; a part without a weight is only reported."""
    workers: int = number(1, ge=1)
    """Number of RewardActors."""
    processes: int = number(1, ge=1)
    """Grading processes per RewardActor."""
    timeout_s: float = number(10.0, gt=0)
    """Longest grading of one response, in seconds; its process is then killed."""
    memory_mb: int | None = number(2048, ge=256)
    """Memory limit of a grading process, in MiB; exceeding it fails only the current grading; null: no limit."""
    overlong_share: float | None = number(None, gt=0, le=1)
    """Soft overlong punishment (DAPO: 0.2): in this last share of `rollout.max_tokens` the reward falls linearly, by 1 for a truncated
    response; accuracy does not change; null: off."""
    on_error: float = number(0.0, ge=0, le=1)
    """Accuracy and reward of a response whose grading failed or timed out."""
    max_error_frac: float = number(0.1, ge=0, le=1)
    """Abort the run if more than this share of a step's gradings fail."""
    cpus: float = number(0.05, ge=0)
    """CPUs that Ray reserves for each RewardActor."""


@dataclass
class RetentionConfig:
    """Selection of the responses to train on."""

    min_abs_advantage: float | None = number(0.0, ge=0)
    """Keep regular responses with |A| above this (paper: 0, released code: 0.05); null: keep all, so that responses with A = 0 count in
    the mean of the loss and get KL and entropy terms."""
    subset: int | None = number(None, ge=2)
    """Most responses per prompt to train on, as close as possible to half right and half wrong (Reinforce-Ada); null: no limit."""
    drop_overlong_positive: bool = True
    """Drop truncated responses with A > 0."""


@dataclass
class AdvantageConfig:
    """Computation of the advantages."""

    estimator: str = open_choice(
        "group",
        {
            "group": "(R - mean) / std over the prompt's responses (GRPO)",
            "centred": "R - mean over the prompt's responses (Dr. GRPO)",
            "rloo": "R - mean over the prompt's other responses (RLOO)",
            "batch": "(R - mean) / std over the whole step (REINFORCE++)",
            "batch_with_baseline": "(R - mean over the prompt's responses) / std over the whole step (REINFORCE++-baseline)",
        },
        takes="path/to/file.py:name or package.module:name",
        path=True,
    )
    """Estimator of the advantages from the rewards."""


@dataclass
class LossConfig:
    """Terms of the loss."""

    policy: str = open_choice(
        "ppo_clip",
        {
            "ppo_clip": "clips the ratio of each token (PPO, GRPO, DAPO)",
            "gspo": "clips the ratio of the whole response",
            "cispo": "clips the importance weights; every token keeps its gradient",
            "clip_cov": "removes the gradient of a few tokens of high covariance",
            "kl_cov": "adds a KL penalty to the tokens of highest covariance",
        },
        takes="path/to/file.py:name or package.module:name",
        path=True,
    )
    """Policy loss; docs/algorithms.md has the formulas."""
    aggregation: str = choice(
        {
            "token-mean": "mean over all tokens",
            "seq-mean-token-mean": "mean over responses of the mean over tokens",
            "seq-mean-token-sum": "mean over responses of the sum over tokens",
            "seq-mean-token-sum-norm": "the same, divided by `rollout.max_tokens`",
        }
    )
    """Aggregation of the token losses over the optimizer step."""
    clip_low: float = number(0.2, gt=0, le=1)
    """Lower bound of the clipped ratio: 1 - clip_low."""
    clip_high: float = number(0.2, gt=0)
    """Upper bound of the clipped ratio: 1 + clip_high."""
    dual_clip: float | None = number(3.0, gt=1)
    """c of dual clip: for A < 0 the objective is at least c A; null: off."""
    kl_coef: float = number(0.0, ge=0)
    """Weight of the KL divergence from the initial model; above 0 a reference model is loaded."""
    kl_estimator: str = choice({"k3": "exp(-d) - 1 + d", "k1": "d", "k2": "d^2 / 2"})
    """Estimator of the KL from the sampled tokens, with d = logp - logp_ref."""
    kl_in: str = choice(
        {"loss": "added to the loss", "reward": "subtracted from the reward: lowers the advantages of all earlier tokens (REINFORCE++)"}
    )
    """Place of the KL term."""
    entropy_coef: float = number(0.0, ge=0)
    """Weight of the entropy bonus in the loss; its gradient is exact, over the whole vocabulary."""
    entropy_advantage_alpha: float = number(0.0, ge=0)
    """alpha: add min(alpha H, |A| / kappa) to the advantage of each token (2506.14758: 0.4); 0: off."""
    entropy_advantage_kappa: float = number(2.0, gt=1)
    """kappa in the formula of `loss.entropy_advantage_alpha`."""
    cov_share: float = number(2e-4, gt=0, lt=1)
    """Share of the optimizer step's tokens that `clip_cov` or `kl_cov` selects."""
    cov_range: list[float] | None = None
    """Range of covariances that `clip_cov` selects tokens from (2505.22617: [1, 5]); null: the highest covariances (`kl_cov`)."""
    cov_kl_coef: float = number(1.0, gt=0)
    """Weight of the KL penalty on the tokens that `kl_cov` selects."""
    mismatch_cap: float | None = number(None, gt=0)
    """C: weight each token by min(learner probability / engine probability, C) (TIS: 2); null: off, or 2 if `train.max_staleness` is
    above 0."""
    is_cap: float = number(2.0, gt=0)
    """Cap of the importance weights of `exploration.correction=truncated-is`."""


@dataclass
class BatchConfig:
    """The training batch."""

    accumulate: bool = False
    """Collect `train.prompts_per_step` x `rollout.n` kept trajectories before an update (released code); false: update with the
    trajectories that each step kept."""


@dataclass
class ReplayConfig:
    """The entropy stabiliser: updates on earlier trajectories."""

    enabled: bool = True
    """Train on earlier trajectories with a high advantage every few steps."""
    capacity: int | None = number(None, ge=1)
    """s': trajectories in the replay store; null: 2 x `train.prompts_per_step` x `rollout.n`."""
    every: int = number(5, ge=1)
    """f_replay: steps between replay updates."""
    rows: int | None = number(None, ge=1)
    """Trajectories per replay update; null: `train.prompts_per_step` x `rollout.n`."""
    min_rows: int = number(16, ge=1)
    """Least trajectories in the store for a replay update."""
    min_advantage: float = number(1.0, ge=0)
    """A_0: store kept trajectories with A above this."""
    source: str = choice({"all": "regular and exploration responses", "exploration": "exploration responses only"})
    """Responses to store."""
    draw: str = choice({"uniform": "uniformly", "advantage": "in proportion to the advantage", "newest": "the newest first"})
    """How a replay update draws trajectories."""
    max_age: int | None = number(None, ge=1)
    """Largest age of a drawn trajectory, in steps; null: no limit."""
    logprobs: str = choice({"stored": "from the time of sampling, so that clipping is active", "recomputed": "from the current policy"})
    """Old log-probabilities in the ratio."""


@dataclass
class LearnerConfig:
    """The update: DeepSpeed, AdamW and memory."""

    ranks: int = number(1, ge=1)
    """Number of LearnerActors, each with one device."""
    zero_stage: int = number(1, ge=0, le=3)
    """DeepSpeed ZeRO stage."""
    lr: float = number(1e-6, gt=0)
    """Learning rate."""
    betas: list[float] = items(0.9, 0.95, ge=0, lt=1)
    """Betas of AdamW."""
    vision_lr_scale: float = number(1.0, gt=0, le=1)
    """Learning rate of the vision tower, as a share of `learner.lr` (0.1 was stable where 1 was not)."""
    weight_decay: float = number(0.01, ge=0)
    """Weight decay of AdamW."""
    warmup_steps: int = number(0, ge=0)
    """Optimizer steps of linear warm-up."""
    grad_clip: float = number(1.0, gt=0)
    """Largest gradient norm; larger gradients are scaled down to it."""
    optimizer_steps: int = number(1, ge=1)
    """Optimizer steps per batch; each uses one mini-batch."""
    micro_batch_tokens: int = number(16384, ge=1)
    """Tokens that a rank processes in one forward pass, padding included."""
    shared_prefix: bool = True
    """Process a prompt and its images once for all its responses in a micro-batch, without padding; false: one padded row per response.
    Models with sliding-window attention always use padded rows."""
    logits_chunk_mb: int = number(256, ge=1)
    """Largest chunk of logits in memory, in MiB."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, a third more time."""
    cpus: float = number(0.4, gt=0)
    """CPUs that Ray reserves for each rank."""
    threads: int = number(1, ge=1)
    """Compute threads of each rank on CPU."""


@dataclass
class TrainConfig:
    """Steps and prompts of the training."""

    steps: int = number(100, ge=1)
    """Steps of the run; each consists of rollouts, update and weight sync."""
    prompts_per_step: int = number(32, ge=1)
    """B: prompts per step."""
    max_staleness: int = number(0, ge=0, le=8)
    """k: weight versions that a rollout may be behind the policy. Above 0, the engines sample later steps during the update, and the loss
    corrects for it (`loss.mismatch_cap`); 0: strictly on-policy."""


@dataclass
class EvalConfig:
    """Evaluation on held-out prompts."""

    every: int = number(0, ge=0)
    """Steps between evaluations; 0: only at the start and the end."""
    n: int = number(16, ge=1)
    """Responses per held-out prompt."""
    k: list[int] = items(1, 8, 16, ge=1)
    """Values of k to report pass@k for."""
    temperature: float = number(1.0, gt=0)
    """Sampling temperature of evaluations."""
    prompts: int | None = number(None, ge=1)
    """Use only this many held-out prompts, from the first on; null: all."""


@dataclass
class CheckpointConfig:
    """Times and number of checkpoints."""

    every: int = number(50, ge=0)
    """Steps between checkpoints; 0: only at the end."""
    keep: int = number(2, ge=1)
    """Checkpoints to keep; older ones are deleted."""


@dataclass
class WeightsConfig:
    """Weight sync from learner to engines."""

    backend: str = choice(
        {
            "auto": "shm on CPU, nccl on CUDA (ipc if colocated)",
            "shm": "shared memory",
            "nccl": "broadcast between GPUs",
            "ipc": "CUDA memory that engine and learner share on one GPU",
        }
    )
    """Transport of the weights."""
    verify_every: int = number(25, ge=1)
    """Weight updates between comparisons of engine and learner log-probabilities; the first update is always checked."""
    tolerance: float | None = number(None, gt=0)
    """Largest difference of log-probabilities in such a comparison, in nats; null: 0.001 for float32, 0.5 for half precision."""
    timeout_s: float = number(300.0, gt=0)
    """Longest weight update, in seconds; with `train.max_staleness` and `weights.pause=wait` it includes waiting for running requests."""
    pause: str = choice(
        {
            "wait": "they are finished first",
            "keep": "they pause between two tokens and continue with the new weights, "
            "with their KV cache, or with a new one if prefix caching is on",
        }
    )
    """Handling of running requests during a weight update, with `train.max_staleness`."""


@dataclass
class ClusterConfig:
    """The Ray cluster and its devices."""

    address: str = open_choice(
        "auto",
        {"auto": "a running Ray cluster, or else a new local one", "local": "a new local one"},
        takes="an address such as ray-head:6379",
    )
    """Ray cluster of the run."""
    placement: str = choice({"separate": "on different GPUs", "colocated": "one engine and one learner rank on each GPU"})
    """Placement of engines and learner ranks on GPUs."""
    cpus: int | None = number(None, ge=1)
    """CPUs of a local cluster; null: all."""
    object_store_mb: int = number(256, ge=80)
    """Size of the object store of a local cluster, in MiB."""
    start_timeout_s: float = number(300.0, gt=0)
    """Longest start of all actors, in seconds."""


@dataclass
class WandbConfig:
    """Weights & Biases, if `tracking` contains wandb."""

    project: str = "uec-rl"
    """Name of the project."""
    entity: str | None = None
    """Team or user; null: the default of your account."""
    mode: str = choice({"online": "during the run", "offline": "later: `wandb sync` uploads the files in the run folder"})
    """Time of the upload."""


@dataclass
class Config:
    """All settings of a run."""

    algorithm: str = open_choice(
        "uec",
        {},
        takes="the name of a file in configs/algorithm without .yaml (`uec config algorithm` lists them), or the path of a .yaml file",
        path=True,
    )
    """Algorithm preset: a file that sets the fields of one algorithm."""
    run: RunConfig = field(default_factory=RunConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    dynamic_sampling: DynamicSamplingConfig = field(default_factory=DynamicSamplingConfig)
    difficulty: DifficultyConfig = field(default_factory=DifficultyConfig)
    exploration: ExplorationConfig = field(default_factory=ExplorationConfig)
    reward: RewardConfig = field(default_factory=RewardConfig)
    advantage: AdvantageConfig = field(default_factory=AdvantageConfig)
    retention: RetentionConfig = field(default_factory=RetentionConfig)
    batch: BatchConfig = field(default_factory=BatchConfig)
    replay: ReplayConfig = field(default_factory=ReplayConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    learner: LearnerConfig = field(default_factory=LearnerConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    weights: WeightsConfig = field(default_factory=WeightsConfig)
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    tracking: list[str] = items(
        "console",
        "jsonl",
        choices={
            "console": "the terminal",
            "jsonl": "metrics.jsonl in the run folder",
            "tensorboard": "event files in the run folder",
            "wandb": "Weights & Biases, see section `wandb`",
        },
    )
    """Destinations of the metrics."""
    wandb: WandbConfig = field(default_factory=WandbConfig)

    def replay_capacity(self) -> int:
        """Return s', the capacity of the replay store in trajectories: `replay.capacity`, or 2 B G."""
        return self.replay.capacity or 2 * self.train.prompts_per_step * self.rollout.n

    def replay_rows(self) -> int:
        """Return the number of trajectories of a replay update: `replay.rows`, or B G."""
        return self.replay.rows or self.train.prompts_per_step * self.rollout.n
