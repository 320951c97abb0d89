"""Every setting of a run: one docstring a field, its range or its words beside it. Imports nothing heavy.

`file.py` reads YAML and overrides into these, `validate.py` checks what no single field can, and `docs.py` generates docs/config.md.
"""

from dataclasses import dataclass, field
from typing import Any


def number(default: Any, *, ge: float | None = None, gt: float | None = None, le: float | None = None, lt: float | None = None) -> Any:
    """A numeric field with its range."""
    return field(default=default, metadata={"ge": ge, "gt": gt, "le": le, "lt": lt})


def choice(words: dict[str, str]) -> Any:
    """A field that takes one of a few words, each with what it means; the first is the default."""
    return field(default=next(iter(words)), metadata={"choices": words})


def open_choice(default: Any, words: dict[str, str], *, takes: str, path: bool = False) -> Any:
    """A field that takes these words and others beside them: `takes` says what; `path`: a file or a folder among them."""
    return field(default=default, metadata={"words": words, "takes": takes, "path": path})


def location(default: str | None) -> Any:
    """A text that names a file or a folder here, or something elsewhere: the docstring says what."""
    return field(default=default, metadata={"path": True})


def items(*default: Any, ge: float | None = None, lt: float | None = None, choices: dict[str, str] | None = None) -> Any:
    """A list, with the range of its items."""
    return field(default_factory=lambda: list(default), metadata={"ge": ge, "lt": lt, "choices": choices})


@dataclass
class RunConfig:
    """The run's folder, its seed, and how it starts."""

    name: str | None = None
    """Folder name under `run.dir`; none: made of the config's name, the algorithm and the time."""
    dir: str = location("runs")
    """Where run folders are made."""
    seed: int = number(0, ge=0)
    """Seeds the data order, the replay draws, the learners and the engines."""
    overwrite: bool = False
    """Delete an existing run folder of that name and start anew."""
    resume: str = open_choice(
        "never",
        {"never": "start anew", "auto": "from the newest checkpoint of `run.name`, or from scratch if there is none"},
        takes="a checkpoint's path",
        path=True,
    )
    """Where the run goes on from."""
    save_rollouts: bool = True
    """Write every response with its reward parts to rollouts/step_NNNNNN.jsonl."""


@dataclass
class ModelConfig:
    """The policy that is trained."""

    path: str = location("???")
    """A folder in Hugging Face format, or a hub name."""
    dtype: str = choice({"auto": "float32 on CPU, bfloat16 on CUDA", "float32": "", "bfloat16": "", "float16": ""})
    """Number format of engine and learner."""
    trust_remote_code: bool = False
    """Run Python code that comes with the model. Only for a source that you trust."""
    freeze_vision_tower: bool = False
    """Train a vision-language model without its vision tower; the weight exchange then leaves the tower out, too."""


@dataclass
class ImageConfig:
    """Pictures of the data, for vision-language models."""

    min_pixels: int | None = number(None, ge=1)
    """Pictures of a smaller area are enlarged to it, in pixels; none: as the model's processor says."""
    max_pixels: int | None = number(None, ge=1)
    """Pictures of a larger area are reduced to it, in pixels, which bounds their image tokens; none: as the model's processor says."""
    root: str | None = location(None)
    """Folder in which every picture has to be, and where relative paths begin; none: they begin at the data file's folder."""
    max_file_pixels: int = number(50_000_000, ge=1)
    """A picture file with more pixels is refused before it is decoded."""
    workers: int = number(1, ge=1)
    """ImageActors, which decode and preprocess pictures beside the engines."""
    cpus: float = number(0.1, gt=0)
    """CPUs that Ray reserves for an ImageActor."""


@dataclass
class DataConfig:
    """Prompts and reference answers, and how they are put to the model."""

    train: str = location("???")
    """Training prompts: a .jsonl or .parquet file, or a Hugging Face dataset name."""
    eval: str | None = location(None)
    """Held-out prompts, as `data.train`; none: no evaluation."""
    train_split: str = "train"
    """Split to take where `data.train` is a dataset name."""
    eval_split: str = "test"
    """Split to take where `data.eval` is a dataset name."""
    prompt_key: str = "prompt"
    """Column of the question: text, or a list of chat messages."""
    answer_key: str = "answer"
    """Column of the reference answer."""
    image_key: str | None = "images"
    """Column of a row's pictures, for vision-language models: a path, the bytes, or a list of them; a row without is text only."""
    image: ImageConfig = field(default_factory=ImageConfig)
    answer_regex: str | None = None
    """Cut the reference answer out of its column: the first group of the last match (GSM8K: `####\\s*(.+)`)."""
    template: str | None = None
    """Text around the question, e.g. "{prompt} Think step by step."; {any_column} is replaced, other braces stay."""
    system: str | None = None
    """System message, where the chat template is applied."""
    chat: bool = True
    """Apply the tokenizer's chat template. Off: the (templated) prompt is tokenised as it stands."""
    max_prompt_tokens: int = number(1024, ge=1)
    """Longer prompts are dropped, with a count."""
    shuffle: bool = True
    """A new order each epoch, drawn from `run.seed`."""


@dataclass
class RolloutConfig:
    """What the engines generate, and with what they do it."""

    engines: int = number(1, ge=1)
    """RolloutActors, each with a vLLM engine of its own."""
    backend: str = choice(
        {
            "auto": "in_actor on CPU, async on CUDA",
            "in_actor": "LLMEngine, stepped by a thread of the actor",
            "async": "AsyncLLM, with a process of its own",
        }
    )
    """How an actor runs its vLLM engine."""
    tensor_parallel: int = number(1, ge=1)
    """Devices an engine is split over."""
    n: int = number(8, ge=2)
    """G: responses a prompt."""
    rounds: int = number(1, ge=1)
    """Sample up to so many rounds of G responses a prompt (Reinforce-Ada)."""
    until: str = choice({"right": "once a response is right", "balanced": "once G/2 are right and G/2 wrong"})
    """With several rounds, when a prompt leaves."""
    temperature: float = number(1.0, gt=0)
    """t: temperature of regular rollouts."""
    top_p: float = number(1.0, gt=0, le=1)
    """Nucleus sampling; 1: off. Below 1 it sorts the vocabulary, which is slow on CPU."""
    top_k: int = number(-1, ge=-1)
    """Sample from the k most likely tokens; -1: off."""
    min_p: float = number(0.0, ge=0, le=1)
    """Leave out tokens less likely than min_p times the most likely one."""
    max_tokens: int = number(1024, ge=1)
    """Longest response; one that reaches it is truncated."""
    stop: list[str] = items()
    """Texts that end a response, beside the end-of-text token."""
    max_num_seqs: int = number(256, ge=1)
    """Sequences an engine decodes at once."""
    max_batched_tokens: int = number(8192, ge=1)
    """Tokens an engine forwards at once."""
    kv_cache_mb: int | None = number(None, ge=1)
    """Memory of the KV cache in MiB; none: vLLM decides from `rollout.gpu_memory`. On CPU: 512."""
    gpu_memory: float = number(0.85, gt=0, le=1)
    """Share of a GPU's memory that an engine takes."""
    prefix_caching: bool = True
    """Reuse keys and values of equal beginnings; reset at each weight update."""
    enforce_eager: bool = False
    """No CUDA graphs. Always so on CPU."""
    cpus: float = number(0.4, gt=0)
    """CPUs that Ray reserves for an engine."""
    threads: int = number(1, ge=1)
    """Threads an engine computes with on CPU."""


@dataclass
class DynamicSamplingConfig:
    """Other prompts in place of those that teach nothing (DAPO)."""

    enabled: bool = False
    """DAPO: a prompt whose responses all have the same reward is replaced by another prompt of the data, within the step."""
    max_prompts: float = number(3.0, gt=1)
    """Bound: at most this many times `train.prompts_per_step` prompts are sampled in a step; then it goes on with what it has."""


@dataclass
class DifficultyConfig:
    """When a response is right, and when a prompt is difficult."""

    solved_at: float = number(0.01, gt=0)
    """A response is right if its accuracy reaches this."""
    max_solve_rate: float = number(0.0, ge=0, lt=1)
    """A prompt is difficult if at most this share of its regular responses is right (paper: 0, none is; 1/G: nearly unsolved, too)."""


@dataclass
class ExplorationConfig:
    """More and hotter rollouts for difficult prompts."""

    enabled: bool = True
    """Targeted exploration: more and hotter rollouts for difficult prompts."""
    n: int = number(20, ge=2)
    """G': exploration responses a difficult prompt."""
    temperature: float = number(1.2, gt=0)
    """t': must be above `rollout.temperature`."""
    schedule: str = choice(
        {
            "constant": "it does not",
            "linear": "over the run",
            "failures": "with each visit at which the prompt was difficult, by `exploration.temperature_step`",
            "entropy": "as the policy's entropy rises to twice that of the first step",
        }
    )
    """How t' moves from `exploration.temperature` to `exploration.temperature_end`."""
    temperature_end: float | None = number(None, gt=0)
    """Where the schedule ends. Usually above `exploration.temperature` for `failures`, below for `linear` and `entropy`."""
    temperature_step: float = number(0.05, gt=0)
    """For `exploration.schedule=failures`."""
    rounds: int = number(1, ge=1)
    """Spend G' in so many rounds; a prompt stops after the first round in which a response is right."""
    until: Any = open_choice(
        1.0,
        {"auto": "once the difficult share of the last 10 steps is at most 0.6 of that of the first 10"},
        takes="a number above 0 and at most 1",
    )
    """Share of the run after which exploration stops and replay goes on (paper: 1.0, never)."""
    group: str = choice({"own": "within the G'", "joint": "within all G + G'"})
    """What the advantages of exploration responses are normalised within."""
    keep: str = choice(
        {"positive": "A > 0 (paper)", "informative": "|A| > `exploration.threshold`, on both sides (released code)"}
    )
    """Which exploration responses are trained on."""
    threshold: float = number(1.0, ge=0)
    """For `exploration.keep=informative`."""
    correction: str = choice(
        {
            "none": "as if sampled at 1 (released code)",
            "truncated-is": "weights min(pi / mu, `loss.is_cap`)",
            "tempered": "the loss's log-probabilities are taken at the sampling temperature, too",
        }
    )
    """For responses that were sampled at t'."""
    stream: bool = True
    """Explore a prompt at once when its group is classified; off: as a second phase, after all regular rollouts."""


@dataclass
class RewardConfig:
    """How responses are graded."""

    fn: Any = open_choice(
        "exact",
        {
            "exact": "the final answer equals the reference, as text or as a number",
            "boxed": "what stands in `\\boxed{}`, compared by math-verify",
            "format": "`<think>` and `\\boxed{}` are there",
            "countdown": "Countdown: an equation of the given numbers",
            "geometry": "the geometry task: each step of the derivation",
        },
        takes="your own: path/to/file.py:name or package.module:name; or a list of these, whose parts are merged",
        path=True,
    )
    """The reward function."""
    weights: dict[str, float] = field(default_factory=lambda: {"accuracy": 1.0}, metadata={"ge": 0})
    """Weight of each part in the reward; a part without one is only reported."""
    workers: int = number(1, ge=1)
    """RewardActors."""
    processes: int = number(1, ge=1)
    """Grading processes of each RewardActor."""
    timeout_s: float = number(10.0, gt=0)
    """Longest grading of one response, in seconds; its process is killed then."""
    memory_mb: int | None = number(2048, ge=256)
    """Data memory of a grading process, in MiB: past it a MemoryError fails that one grading; none: no limit."""
    overlong_share: float | None = number(None, gt=0, le=1)
    """DAPO's soft punishment: over the last share of `rollout.max_tokens` (0.2 there) the reward falls linearly, by 1 for a response
    that is cut off; none: off. Accuracy stays as it is."""
    on_error: float = number(0.0, ge=0, le=1)
    """Accuracy and reward of a response whose grading failed or timed out."""
    max_error_frac: float = number(0.1, ge=0, le=1)
    """Abort if more than this share of a step's gradings fail."""
    cpus: float = number(0.05, ge=0)
    """CPUs that Ray reserves for a RewardActor."""


@dataclass
class RetentionConfig:
    """Which responses are trained on."""

    min_abs_advantage: float | None = number(0.0, ge=0)
    """Keep regular responses with |A| above this (paper: 0, released code: 0.05); none: keep all, so that those with A = 0 count in
    the loss's mean and get KL and entropy terms."""
    subset: int | None = number(None, ge=2)
    """Train on at most so many responses a prompt, as near as can be to half right and half wrong (Reinforce-Ada)."""
    drop_overlong_positive: bool = True
    """Drop truncated responses with A > 0."""


@dataclass
class AdvantageConfig:
    """From rewards to advantages."""

    estimator: str = open_choice(
        "group",
        {
            "group": "(R - mean) / std of the prompt's responses (GRPO)",
            "centred": "R - mean (Dr. GRPO)",
            "rloo": "R - mean of the prompt's other responses (RLOO)",
            "batch": "normalised over the whole step (REINFORCE++)",
            "batch_with_baseline": "R - mean of the prompt's responses, by the std of the whole step (REINFORCE++-baseline)",
        },
        takes="your own: path/to/file.py:name or package.module:name",
        path=True,
    )
    """How advantages are made of rewards."""


@dataclass
class LossConfig:
    """What the update minimises."""

    policy: str = open_choice(
        "ppo_clip",
        {
            "ppo_clip": "ratio and clip of each token (PPO, GRPO, DAPO)",
            "gspo": "ratio and clip of whole responses",
            "cispo": "clipped weights, no token without gradient",
            "clip_cov": "a few tokens of high covariance get no gradient",
            "kl_cov": "a penalty on the tokens of highest covariance",
        },
        takes="your own: path/to/file.py:name or package.module:name",
        path=True,
    )
    """The policy loss; docs/algorithms.md has the formulas."""
    aggregation: str = choice(
        {
            "token-mean": "the mean over all tokens",
            "seq-mean-token-mean": "the mean over responses of their token means",
            "seq-mean-token-sum": "the mean over responses of their token sums",
            "seq-mean-token-sum-norm": "the same, divided by `rollout.max_tokens`",
        }
    )
    """How token losses become one number, over the whole optimizer step."""
    clip_low: float = number(0.2, gt=0, le=1)
    """Lower clip range of the ratio: 1 - clip_low."""
    clip_high: float = number(0.2, gt=0)
    """Upper clip range of the ratio: 1 + clip_high."""
    dual_clip: float | None = number(3.0, gt=1)
    """c: for A < 0 the objective is not below c A; none: off."""
    kl_coef: float = number(0.0, ge=0)
    """Weight of the KL to the start model; above 0 a reference model is loaded."""
    kl_estimator: str = choice({"k3": "exp(-d) - 1 + d", "k1": "d", "k2": "d^2 / 2"})
    """Estimate of that KL from the sampled tokens, with d = logp - logp_ref."""
    kl_in: str = choice(
        {"loss": "a term of the loss", "reward": "taken off the reward: it lowers the advantage of every token before it (REINFORCE++)"}
    )
    """Where the KL goes."""
    entropy_coef: float = number(0.0, ge=0)
    """Weight of an entropy bonus in the loss, with its exact gradient over the full vocabulary."""
    entropy_advantage_alpha: float = number(0.0, ge=0)
    """Adds min(alpha H, |A| / kappa) to a token's advantage (2506.14758: 0.4); 0: off."""
    entropy_advantage_kappa: float = number(2.0, gt=1)
    """kappa of it."""
    cov_share: float = number(2e-4, gt=0, lt=1)
    """Share of an optimizer step's tokens that `clip_cov` or `kl_cov` restrains."""
    cov_range: list[float] | None = None
    """`clip_cov` draws them from this range of covariances (2505.22617: [1, 5]); none: those of highest covariance (`kl_cov`)."""
    cov_kl_coef: float = number(1.0, gt=0)
    """Weight of the penalty on the tokens that `kl_cov` chose."""
    mismatch_cap: float | None = number(None, gt=0)
    """C: weight each token by min(learner's / engine's probability, C) (TIS: 2); none: off, and 2 with `train.max_staleness` above 0."""
    is_cap: float = number(2.0, gt=0)
    """C of `exploration.correction=truncated-is`."""


@dataclass
class BatchConfig:
    """When a batch is full."""

    accumulate: bool = False
    """Wait until prompts_per_step * n kept trajectories are there (released code), instead of training on what a step kept."""


@dataclass
class ReplayConfig:
    """The entropy stabiliser: earlier trajectories, trained on again."""

    enabled: bool = True
    """The entropy stabiliser: train on earlier high-advantage trajectories now and then."""
    capacity: int | None = number(None, ge=1)
    """s': newest trajectories kept; none: 2 * prompts_per_step * n."""
    every: int = number(5, ge=1)
    """f_replay: steps between replay updates."""
    rows: int | None = number(None, ge=1)
    """Trajectories drawn for an update; none: prompts_per_step * n."""
    min_rows: int = number(16, ge=1)
    """No replay update while the store holds fewer."""
    min_advantage: float = number(1.0, ge=0)
    """A_0: admit kept trajectories with A above this."""
    source: str = choice({"all": "regular and exploration responses", "exploration": "exploration responses only"})
    """Which kinds are admitted."""
    draw: str = choice({"uniform": "each alike", "advantage": "in proportion to their advantage", "newest": "the newest"})
    """How rows are drawn."""
    max_age: int | None = number(None, ge=1)
    """Steps after which a trajectory is drawn no more; none: no limit."""
    logprobs: str = choice({"stored": "of the time of sampling, so that clipping is active", "recomputed": "of now"})
    """Which old log-probabilities the ratio is taken against."""


@dataclass
class LearnerConfig:
    """The update: DeepSpeed, AdamW, memory."""

    ranks: int = number(1, ge=1)
    """LearnerActors, one device each."""
    zero_stage: int = number(1, ge=0, le=3)
    """DeepSpeed ZeRO stage."""
    lr: float = number(1e-6, gt=0)
    """Learning rate of AdamW."""
    betas: list[float] = items(0.9, 0.95, ge=0, lt=1)
    """AdamW's betas."""
    vision_lr_scale: float = number(1.0, gt=0, le=1)
    """The vision tower's learning rate, as a share of `learner.lr` (0.1 was stable where 1 was not)."""
    weight_decay: float = number(0.01, ge=0)
    """AdamW's weight decay."""
    warmup_steps: int = number(0, ge=0)
    """Optimizer steps of linear warm-up."""
    grad_clip: float = number(1.0, gt=0)
    """Largest gradient norm."""
    optimizer_steps: int = number(1, ge=1)
    """Optimizer steps a batch: it is split into as many mini-batches."""
    micro_batch_tokens: int = number(16384, ge=1)
    """Tokens that a rank forwards at once, padding included."""
    shared_prefix: bool = True
    """Pack rows: a prompt, and its pictures, is forwarded once for all its responses in a micro-batch, and nothing is padded; off: a padded
row for each response. (Models with windows of attention are never packed.)"""
    logits_chunk_mb: int = number(256, ge=1)
    """Largest piece of logits held at once, in MiB."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, a third more time."""
    cpus: float = number(0.4, gt=0)
    """CPUs that Ray reserves for a rank."""
    threads: int = number(1, ge=1)
    """Threads a rank computes with on CPU."""


@dataclass
class TrainConfig:
    """Length and width of the training."""

    steps: int = number(100, ge=1)
    """Steps of the run: rollouts, update, weight exchange."""
    prompts_per_step: int = number(32, ge=1)
    """B: prompts a step."""
    max_staleness: int = number(0, ge=0, le=8)
    """k: versions that a trained rollout may be behind. Above 0, coming steps are sampled while this one is learned from, and the loss
    corrects for it (`loss.mismatch_cap`). 0: strictly on-policy."""


@dataclass
class EvalConfig:
    """Evaluation on held-out prompts."""

    every: int = number(0, ge=0)
    """Steps between evaluations; 0: at the start and the end only."""
    n: int = number(16, ge=1)
    """Responses a held-out prompt."""
    k: list[int] = items(1, 8, 16, ge=1)
    """pass@k is reported for each."""
    temperature: float = number(1.0, gt=0)
    """Sampling temperature of evaluations."""
    prompts: int | None = number(None, ge=1)
    """Take only the first so many held-out prompts."""


@dataclass
class CheckpointConfig:
    """When checkpoints are written, and how many stay."""

    every: int = number(50, ge=0)
    """Steps between checkpoints; 0: at the end only."""
    keep: int = number(2, ge=1)
    """Newest checkpoints that stay."""


@dataclass
class WeightsConfig:
    """The exchange of weights from learner to engines."""

    backend: str = choice(
        {
            "auto": "shm on CPU, nccl on CUDA (ipc where colocated)",
            "shm": "shared memory",
            "nccl": "a broadcast between GPUs",
            "ipc": "CUDA memory that engine and learner share on one GPU",
        }
    )
    """How weights reach the engines."""
    verify_every: int = number(25, ge=1)
    """Updates between probes of engine against learner; the first update is always probed."""
    tolerance: float | None = number(None, gt=0)
    """Largest log-probability gap that a probe may show, in nats; none: 0.001 for float32, 0.5 for half precision."""
    timeout_s: float = number(300.0, gt=0)
    """Longest weight update; with `train.max_staleness` and `pause: wait` it waits for what is being generated."""
    pause: str = choice(
        {
            "wait": "they end first",
            "keep": "they pause between two tokens and go on with the new weights, "
            "with the KV cache that they have, or with prefix caching a new one",
        }
    )
    """What a weight update does with requests that run, which there are with `train.max_staleness`."""


@dataclass
class ClusterConfig:
    """The Ray cluster and its devices."""

    address: str = open_choice(
        "auto",
        {"auto": "a running Ray cluster, or else a local one", "local": "always a new local one"},
        takes="an address, such as ray-head:6379",
    )
    """Which Ray cluster the run uses."""
    placement: str = choice({"separate": "on devices of their own", "colocated": "an engine and a learner rank on each"})
    """On GPUs: where engines and learners are."""
    cpus: int | None = number(None, ge=1)
    """CPUs of a local cluster; none: all."""
    object_store_mb: int = number(256, ge=80)
    """Object store of a local cluster, in MiB."""
    start_timeout_s: float = number(300.0, gt=0)
    """Longest start of all actors."""


@dataclass
class WandbConfig:
    """Weights & Biases, where `tracking` has wandb."""

    project: str = "uec-rl"
    """Project, where `tracking` has wandb."""
    entity: str | None = None
    """Team or user."""
    mode: str = choice({"online": "", "offline": "write to the run folder, upload later with `wandb sync`"})
    """Whether wandb is sent to at once."""


@dataclass
class Config:
    """All settings of a run."""

    algorithm: str = open_choice(
        "uec",
        {},
        takes="a file of configs/algorithm without .yaml (`uec config algorithm` lists them), or the path of a .yaml file",
        path=True,
    )
    """The algorithm: a short file of the fields that make it up."""
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
            "wandb": "Weights & Biases, as the section wandb says",
        },
    )
    """Where metrics go; a list."""
    wandb: WandbConfig = field(default_factory=WandbConfig)

    def replay_capacity(self) -> int:
        """s', trajectories that the replay store holds: `replay.capacity`, or 2 B G."""
        return self.replay.capacity or 2 * self.train.prompts_per_step * self.rollout.n

    def replay_rows(self) -> int:
        """Trajectories of a replay update: `replay.rows`, or B G."""
        return self.replay.rows or self.train.prompts_per_step * self.rollout.n
