"""All settings of a run. Each field has a docstring, and a range or a list of choices in its metadata.

`file.py` reads YAML files and overrides into these classes, `validate.py` checks the values, and `docs.py` generates docs/config.md from
the docstrings. This module imports nothing heavy.
"""

from dataclasses import dataclass, field
from typing import Any

# Values of `most` that several fields share.
STEPS = 100_000_000
TOKENS = 100_000_000
MANY = 1_000_000_000
MIB = 1 << 24  # 16 TiB
WEEK = 7 * 86400  # seconds


def number(
    default: Any,
    *,
    ge: float | None = None,
    gt: float | None = None,
    le: float | None = None,
    lt: float | None = None,
    most: float | None = None,
) -> Any:
    """Return a numeric field with its range. `most`: where no value has a meaning any more; it stops slips of the keyboard."""
    return field(default=default, metadata={"ge": ge, "gt": gt, "le": le, "lt": lt, "most": most})


def choice(choices: dict[str, str]) -> Any:
    """Return a field that takes one of these values; `choices` gives the meaning of each, and the first is the default."""
    return field(default=next(iter(choices)), metadata={"choices": choices})


def open_choice(default: Any, choices: dict[str, str], *, takes: str, path: bool = False) -> Any:
    """Return a field that takes one of these values or another one, which `takes` describes. `path`: it may be a file or a folder."""
    return field(default=default, metadata={"open_choices": choices, "takes": takes, "path": path})


def location(default: str | None) -> Any:
    """Return a text field that can name a file or a folder."""
    return field(default=default, metadata={"path": True})


def locations(default: str | None) -> Any:
    """Return a field that takes a text or a list of texts, each of which can name a file or a folder. `paths` reads it."""
    null = ", or null" if default is None else ""
    return field(default=default, metadata={"texts": True, "path": True, "takes": f"a text, or a list of texts{null}"})


def items(
    *default: Any, ge: float | None = None, lt: float | None = None, most: float | None = None, choices: dict[str, str] | None = None
) -> Any:
    """Return a list field with the range or the choices of its items."""
    return field(default_factory=lambda: list(default), metadata={"ge": ge, "lt": lt, "most": most, "choices": choices})


@dataclass
class RunConfig:
    """Run folder, seed and start."""

    name: str | None = None
    """Name of the run folder; null: config name, algorithm and time."""
    dir: str = location("runs")
    """Parent folder of the run folders."""
    seed: int = number(0, ge=0, most=2**32 - 1)
    """Seed of data order, replay draws, learners and engines."""
    overwrite: bool = False
    """Delete an existing run folder of this name first."""
    resume: str = open_choice(
        "never",
        {"never": "start from the initial model", "auto": "the newest one of `run.name`, or else the initial model"},
        takes="the path of a checkpoint",
        path=True,
    )
    """Checkpoint to resume from."""
    save_rollouts: bool = True
    """Write every response and its reward parts to rollouts/step_NNNNNN.jsonl in the run folder."""


@dataclass
class ModelConfig:
    """The policy."""

    path: str = location("???")
    """Initial model: a folder in Hugging Face format, or a hub name."""
    dtype: str = choice({"auto": "float32 on CPU, bfloat16 on CUDA", "float32": "", "bfloat16": "", "float16": ""})
    """Number format of weights in engine and learner."""
    trust_remote_code: bool = False
    """Run the model's Python code; enable this only for trusted sources."""
    freeze_vision_tower: bool = False
    """Freeze the vision tower of a vision-language model and omit it from the weight sync."""


@dataclass
class LoraConfig:
    """Low-rank adapters (LoRA, Hu et al. 2021): training changes B A beside frozen weights W. Dropout is not offered: it would make
    the learner's log-probabilities differ from the engine's."""

    enabled: bool = False
    """Train adapters instead of the model's weights."""
    rank: int = number(16, ge=1, le=512)
    """Rank r of the adapters."""
    alpha: float | None = number(None, gt=0, most=100_000)
    """Numerator of the scale of B A; null: 2 r."""
    rslora: bool = False
    """Scale B A by alpha / sqrt(r) (rsLoRA, Kalajdzievski 2023) instead of alpha / r."""
    target_modules: Any = open_choice(
        "all-linear",
        {"all-linear": "every linear layer of the language model, except the output embedding"},
        takes="a list of names such as [q_proj, v_proj]; a name with a dot matches the end of a full name, also in the vision tower",
    )
    """Linear layers that get an adapter."""
    layers: list[int] = items(ge=0, most=1024)
    """Numbers of the transformer layers that get adapters; empty: all."""
    init: str = choice({"kaiming": "A uniform, B zero", "gaussian": "A normal, B zero"})
    """Initial values; the first policy is the initial model with both."""
    exchange: str = choice(
        {
            "auto": "merged on CPU, adapter on CUDA",
            "adapter": "the adapters alone, which vLLM applies beside the model's weights",
            "merged": "all weights, with the adapters added; exact for everything that vLLM's LoRA refuses",
        }
    )
    """What the weight sync sends to the engines."""
    path: str | None = location(None)
    """Folder of an adapter in peft's format to start from; its rank, scale and layers must be those of this section."""

    def scale(self) -> float:
        """Return the factor of B A in the weights."""
        alpha = 2.0 * self.rank if self.alpha is None else self.alpha
        return alpha / (self.rank**0.5 if self.rslora else self.rank)


@dataclass
class ImageConfig:
    """Images of the data, for vision-language models."""

    min_pixels: int | None = number(None, ge=1, most=MANY)
    """Enlarge smaller images to this many pixels; null: the processor's value."""
    max_pixels: int | None = number(None, ge=1, most=MANY)
    """Reduce larger images to this many pixels, which bounds their image tokens; null: the processor's value."""
    root: str | None = location(None)
    """Folder that must contain all images, and start of relative paths; null: they start in the data file's folder."""
    max_file_pixels: int = number(50_000_000, ge=1, most=MANY)
    """Refuse image files with more pixels, before decoding."""
    workers: int = number(1, ge=1, most=1024)
    """Number of ImageActors, which decode and preprocess images."""
    cpus: float = number(0.1, gt=0, most=1024)
    """CPUs that Ray reserves per ImageActor."""


@dataclass
class DataConfig:
    """Prompts, reference answers and the form of the prompt."""

    train: Any = locations("???")
    """Training prompts: a file (JSON, CSV, parquet, arrow), a folder, a Hugging Face dataset name, or a list of these."""
    eval: Any = locations(None)
    """Held-out prompts, given as in `data.train`; null: no evaluation."""
    train_split: str = "train"
    """Split to use if `data.train` is a folder or a dataset name."""
    eval_split: str = "test"
    """Split to use if `data.eval` is a folder or a dataset name."""
    prompt_key: str = "prompt"
    """Column of the question, or its path such as extra_info.question: text, or a list of chat messages, also as JSON text."""
    answer_key: str = "answer"
    """Column of the reference answer, or its path such as reward_model.ground_truth: text, a number, or a list of accepted answers."""
    image_key: str | None = "images"
    """Column of the images: a path, bytes, base64 text, or a list of these; images may also be in the parts of chat messages."""
    tools_key: str | None = "tools"
    """Column of the tools that the chat template shows to the model: a list of JSON schemas, also as JSON text; null: show none."""
    image: ImageConfig = field(default_factory=ImageConfig)
    answer_regex: str | None = None
    """Regular expression for the reference answer in its column: first group of the last match (GSM8K: `####\\s*(.+)`)."""
    answer_regex_s: float = number(5.0, ge=0.01, le=3600)
    """Seconds that `data.answer_regex` may take for one row."""
    template: str | None = None
    """Text around the question, e.g. "{prompt} Think step by step."; {any_column} is replaced, other braces stay."""
    system: str | None = None
    """System message; requires `data.chat`."""
    chat: bool = True
    """Apply the tokenizer's chat template; false: use plain text."""
    chat_template_kwargs: dict[str, Any] = field(default_factory=dict)
    """Arguments of the chat template, e.g. {enable_thinking: false} (Qwen3)."""
    continue_final_message: bool = False
    """Let the response continue a last message of the assistant (a prefill); false: refuse rows that end with one."""
    max_prompt_tokens: int = number(1024, ge=1, most=TOKENS)
    """Longest prompt in tokens; longer ones are dropped and counted."""
    shuffle: bool = True
    """Shuffle the prompts in each epoch, by `run.seed`."""


@dataclass
class RolloutConfig:
    """Sampling, and the engines that sample."""

    engines: int = number(1, ge=1, most=4096)
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
    tensor_parallel: int = number(1, ge=1, most=64)
    """Devices per engine."""
    n: int = number(8, ge=2, most=4096)
    """G: responses per prompt."""
    rounds: int = number(1, ge=1, most=100)
    """Most rounds of G responses per prompt (Reinforce-Ada)."""
    until: str = choice({"right": "one response is right", "balanced": "G/2 responses are right and G/2 are wrong"})
    """Condition that ends a prompt's rounds."""
    temperature: float = number(1.0, gt=0, most=10)
    """t: temperature of regular rollouts."""
    top_p: float = number(1.0, gt=0, le=1)
    """Nucleus sampling; 1: off. Values below 1 sort the vocabulary, which is slow on CPU."""
    top_k: int = number(-1, ge=-1, most=10_000_000)
    """Sample from this many most likely tokens; -1: off."""
    min_p: float = number(0.0, ge=0, le=1)
    """Exclude tokens less likely than min_p times the most likely token."""
    max_tokens: int = number(1024, ge=1, most=TOKENS)
    """Longest response in tokens; longer ones are truncated."""
    stop: list[str] = items()
    """Texts that end a response, besides the end-of-text token."""
    stop_tokens: list[int] = items(ge=0, most=MANY)
    """Token ids that end a response, besides the end-of-text token; a run adds the one with which the chat template ends turns."""
    timeout_s: float = number(1800.0, ge=0.01, most=WEEK)
    """Longest time without a response to a request, in seconds; then the engine is replaced and the responses are asked for again."""
    max_num_seqs: int | None = number(None, ge=1, most=16384)
    """Sequences that an engine decodes at once; null: 256, or 1024 on GPUs of 70 GiB and more (not A100), as vLLM's `LLM` does."""
    max_batched_tokens: int = number(8192, ge=1, most=TOKENS)
    """Tokens per forward pass of an engine."""
    kv_cache_mb: int | None = number(None, ge=1, most=MIB)
    """KV cache in MiB; null: from `rollout.gpu_memory`, or 512 on CPU."""
    gpu_memory: float | None = number(None, gt=0, le=1)
    """Share of GPU memory that an engine uses; null: 0.85, or on a GPU shared with a learner what the learner's memory estimate leaves."""
    head_dtype: str = choice({"model": "as `model.dtype`", "float32": "smaller differences between engine and learner in half precision"})
    """Number format in which the engine computes logits."""
    sleep: int = number(0, ge=0, le=2)
    """Free an engine's GPU memory while the learner on the same GPU trains: 0: never; 1: weights wait in host memory; 2: weights are
    dropped, and the next weight sync restores them. Requires `cluster.placement=colocated`."""
    prefix_caching: bool = True
    """Reuse the KV cache of common prefixes; each weight update resets it."""
    enforce_eager: bool = False
    """Do not use CUDA graphs; no effect on CPU."""
    cpus: float = number(0.4, gt=0, most=1024)
    """CPUs that Ray reserves per engine."""
    threads: int = number(1, ge=1, most=512)
    """Compute threads per engine on CPU."""


@dataclass
class DynamicSamplingConfig:
    """Replacement of prompts without a learning signal (DAPO)."""

    enabled: bool = False
    """Replace a prompt whose responses all have the same accuracy, within the step."""
    max_prompts: float = number(3.0, gt=1, most=1000)
    """Most prompts per step, as a multiple of `train.prompts_per_step`; the step then continues with those it has."""


@dataclass
class DifficultyConfig:
    """Definitions of a right response and a difficult prompt."""

    solved_at: float = number(0.01, gt=0, most=1)
    """Least accuracy of a right response."""
    max_solve_rate: float = number(0.0, ge=0, lt=1)
    """Largest share of right regular responses of a difficult prompt (paper: 0)."""


@dataclass
class ExplorationConfig:
    """Targeted exploration of difficult prompts."""

    enabled: bool = True
    """Sample more responses for difficult prompts, at a higher temperature."""
    n: int = number(20, ge=2, most=4096)
    """G': exploration responses per difficult prompt."""
    temperature: float = number(1.2, gt=0, most=10)
    """t': exploration temperature, above `rollout.temperature`."""
    schedule: str = choice(
        {
            "constant": "not at all",
            "linear": "linearly over the run",
            "failures": "by `exploration.temperature_step` each time the prompt was difficult",
            "entropy": "as the policy's entropy rises to twice its value at the first step",
        }
    )
    """Change of t' from `exploration.temperature` to `exploration.temperature_end`."""
    temperature_end: float | None = number(None, gt=0, most=10)
    """Last t' of the schedule; usually above `exploration.temperature` for `failures`, below it for `linear` and `entropy`."""
    temperature_step: float = number(0.05, gt=0, most=10)
    """Change of t' per visit with `exploration.schedule=failures`."""
    rounds: int = number(1, ge=1, most=100)
    """Rounds of the G' responses; a prompt ends after the first round with a right response."""
    until: Any = open_choice(
        1.0,
        {"auto": "until the share of difficult prompts in the last 10 steps is at most 0.6 times that of the first 10"},
        takes="a number above 0 and at most 1",
    )
    """Share of the run with exploration; replay continues after it (paper: 1.0)."""
    group: str = choice({"own": "the G' exploration responses", "joint": "all G + G' responses"})
    """Group for the advantages of exploration responses."""
    keep: str = choice({"positive": "those with A > 0 (paper)", "informative": "those with |A| > `exploration.threshold` (released code)"})
    """Exploration responses to train on."""
    threshold: float = number(1.0, ge=0, most=1000)
    """Threshold of `exploration.keep=informative`."""
    correction: str = choice(
        {
            "none": "no correction (released code)",
            "truncated-is": "importance weights min(pi / mu, `loss.is_cap`)",
            "tempered": "log-probabilities at the sampling temperature in the loss, too",
        }
    )
    """Correction in the loss for responses sampled at t'."""
    stream: bool = True
    """Explore a prompt once its regular responses are graded; false: after all regular rollouts."""


@dataclass
class RewardConfig:
    """Grading of responses."""

    fn: Any = open_choice(
        "exact",
        {
            "exact": "the final answer equals the reference as text or number",
            "boxed": "the content of `\\boxed{}` equals the reference by math-verify",
            "format": "the response has `<think>` and `\\boxed{}`",
            "countdown": "the Countdown task: an equation with the given numbers",
            "geometry": "the geometry task: each step of the derivation",
        },
        takes="path/to/file.py:name or package.module:name; or a list of these, whose parts are merged",
        path=True,
    )
    """Reward function."""
    weights: dict[str, float] = field(default_factory=lambda: {"accuracy": 1.0}, metadata={"ge": 0, "most": 1000})
    """Weight of each part; parts without one are only reported."""
    workers: int = number(1, ge=1, most=1024)
    """Number of RewardActors."""
    processes: int = number(1, ge=1, most=1024)
    """Grading processes per RewardActor."""
    timeout_s: float = number(10.0, ge=0.01, most=WEEK)
    """Longest grading of one response, in seconds; its process is then killed."""
    memory_mb: int | None = number(2048, ge=256, most=MIB)
    """Memory limit of a grading process, in MiB; exceeding it fails only this grading; null: no limit."""
    overlong_share: float | None = number(None, gt=0, le=1)
    """Soft overlong punishment (DAPO: 0.2): over this last share of `rollout.max_tokens` the reward falls linearly, by 1 at truncation;
    accuracy stays; null: off."""
    on_error: float = number(0.0, ge=0, le=1)
    """Accuracy and reward after a failed or timed-out grading."""
    max_error_frac: float = number(0.1, ge=0, le=1)
    """Abort if more than this share of a step's gradings fail."""
    cpus: float = number(0.05, ge=0, most=1024)
    """CPUs that Ray reserves per RewardActor."""


@dataclass
class RetentionConfig:
    """Selection of the responses to train on."""

    min_abs_advantage: float | None = number(0.0, ge=0, most=1000)
    """Keep regular responses with |A| above this (paper: 0, released code: 0.05); null: all, so that responses with A = 0 count in the
    mean of the loss and get KL and entropy terms."""
    subset: int | None = number(None, ge=2, most=100_000)
    """Most trained responses per prompt, right and wrong as balanced as possible (Reinforce-Ada); null: no limit."""
    positive: str = choice(
        {"right": "right, by `difficulty.solved_at`: a bonus for format is not enough", "rewarded": "of any accuracy (paper)"}
    )
    """What exploration responses that are kept, and responses that replay stores, have to be if A > 0."""
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
    """Estimator of the advantages."""


@dataclass
class LossConfig:
    """Terms of the loss."""

    policy: str = open_choice(
        "ppo_clip",
        {
            "ppo_clip": "clips the ratio of each token (PPO, GRPO, DAPO)",
            "gspo": "clips the ratio of the whole response",
            "cispo": "clips the importance weights; all tokens keep their gradients",
            "clip_cov": "removes the gradient of some tokens of high covariance",
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
    """Aggregation of token losses over the optimizer step."""
    clip_low: float = number(0.2, gt=0, le=1)
    """The clipped ratio is at least 1 - clip_low."""
    clip_high: float = number(0.2, gt=0, most=1_000_000)
    """The clipped ratio is at most 1 + clip_high."""
    dual_clip: float | None = number(3.0, gt=1, most=1_000_000)
    """c of dual clip: for A < 0 the objective is at least c A; null: off."""
    kl_coef: float = number(0.0, ge=0, most=1000)
    """Weight of the KL from the initial model; above 0 loads a reference model."""
    kl_estimator: str = choice({"k3": "exp(-d) - 1 + d", "k1": "d", "k2": "d^2 / 2"})
    """Estimator of the KL at sampled tokens, with d = logp - logp_ref."""
    kl_in: str = choice(
        {"loss": "added to the loss", "reward": "subtracted from the reward, which lowers all earlier tokens' advantages (REINFORCE++)"}
    )
    """Place of the KL term."""
    entropy_coef: float = number(0.0, ge=0, most=1000)
    """Weight of the entropy bonus; its gradient is exact over the whole vocabulary."""
    entropy_advantage_alpha: float = number(0.0, ge=0, most=1000)
    """alpha: add min(alpha H, |A| / kappa) to the advantage of each token (2506.14758: 0.4); 0: off."""
    entropy_advantage_kappa: float = number(2.0, gt=1, most=1000)
    """kappa of `loss.entropy_advantage_alpha`."""
    cov_share: float = number(2e-4, gt=0, lt=1)
    """Share of an optimizer step's tokens that `clip_cov` or `kl_cov` selects."""
    cov_range: list[float] | None = None
    """Range of covariances for `clip_cov` (2505.22617: [1, 5]); null: the highest covariances (`kl_cov`)."""
    cov_kl_coef: float = number(1.0, gt=0, most=1000)
    """Weight of the KL penalty of `kl_cov`."""
    mismatch_cap: float | None = number(None, gt=0, most=1_000_000)
    """C: weight tokens by min(learner probability / engine probability, C) (TIS: 2); null: 2 with `train.max_staleness`, else off."""
    is_cap: float = number(2.0, gt=0, most=1_000_000)
    """Cap of the importance weights of `exploration.correction=truncated-is`."""


@dataclass
class BatchConfig:
    """The training batch."""

    accumulate: bool = False
    """Collect `train.prompts_per_step` x `rollout.n` kept trajectories before an update (released code); false: update with those
    of each step."""


@dataclass
class ReplayConfig:
    """The entropy stabiliser: updates on earlier trajectories."""

    enabled: bool = True
    """Train on earlier trajectories with a high advantage every few steps."""
    capacity: int | None = number(None, ge=1, most=100_000_000)
    """s': trajectories in the replay store; null: 2 x `train.prompts_per_step` x `rollout.n`."""
    every: int = number(5, ge=1, most=STEPS)
    """f_replay: steps between replay updates."""
    rows: int | None = number(None, ge=1, most=100_000_000)
    """Trajectories per replay update; null: `train.prompts_per_step` x `rollout.n`."""
    min_rows: int = number(16, ge=1, most=100_000_000)
    """Least trajectories in the store for a replay update."""
    min_advantage: float = number(1.0, ge=0, most=1000)
    """A_0: store kept trajectories with A above this."""
    admit: str = choice({"positive": "A > A_0 (paper)", "both": "|A| > A_0 (released code)"})
    """Side of the advantages that `replay.min_advantage` admits."""
    source: str = choice({"all": "regular and exploration responses", "exploration": "exploration responses only"})
    """Responses to store."""
    draw: str = choice({"uniform": "uniformly", "advantage": "in proportion to |A|", "newest": "the newest first"})
    """How a replay update draws trajectories."""
    max_age: int | None = number(None, ge=1, most=STEPS)
    """Largest age of drawn trajectories, in steps; null: no limit."""
    logprobs: str = choice({"stored": "from the time of sampling: clipping is active", "recomputed": "from the current policy"})
    """Old log-probabilities of the ratio."""


@dataclass
class LearnerConfig:
    """The update: DeepSpeed, AdamW and memory."""

    ranks: int = number(1, ge=1, most=4096)
    """Number of LearnerActors, each with one device."""
    zero_stage: int = number(1, ge=0, le=3)
    """DeepSpeed ZeRO stage."""
    lr: float = number(1e-6, gt=0, most=1)
    """Learning rate."""
    betas: list[float] = items(0.9, 0.95, ge=0, lt=1)
    """Betas of AdamW."""
    vision_lr_scale: float = number(1.0, gt=0, le=1)
    """Learning rate of the vision tower as a share of `learner.lr` (0.1 was stable where 1 was not)."""
    weight_decay: float = number(0.01, ge=0, most=100)
    """Weight decay of AdamW."""
    warmup_steps: int = number(0, ge=0, most=STEPS)
    """Optimizer steps of linear warm-up."""
    grad_clip: float = number(1.0, gt=0, most=1_000_000_000)
    """Largest gradient norm; larger gradients are scaled down."""
    optimizer_steps: int = number(1, ge=1, most=10_000)
    """Optimizer steps per batch; each uses one mini-batch."""
    micro_batch_tokens: int = number(16384, ge=1, most=TOKENS)
    """Tokens per forward pass of a rank, padding included."""
    shared_prefix: bool = True
    """Process a prompt and its images once for all responses in a micro-batch, without padding. With false or sliding-window
    attention, each response has a padded row."""
    logits_chunk_mb: int = number(256, ge=1, most=MIB)
    """Largest chunk of logits, in MiB."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, a third more time."""
    head_dtype: str = choice({"model": "as `model.dtype`", "float32": "smaller differences between engine and learner in half precision"})
    """Number format in which the learner computes logits."""
    attention: str = choice(
        {
            "auto": "varlen on CUDA in half precision, else blocks",
            "varlen": "one variable-length FlashAttention call per layer (CUDA)",
            "blocks": "several SDPA calls per layer, for pieces of similar length",
        }
    )
    """Attention of packed rows (`learner.shared_prefix`)."""
    liger: bool = False
    """Use Liger's fused kernels for RMSNorm, SwiGLU and RoPE. Requires CUDA and the extra `liger`."""
    offload: str = choice(
        {"none": "nothing", "optimizer": "optimizer states and gradients", "all": "the weights, too"},
    )
    """States that wait in host memory while the engine on the same GPU samples. Requires `cluster.placement=colocated`."""
    cpu_offload: str = choice(
        {"none": "nothing", "optimizer": "optimizer states, updated on the CPU", "parameters": "the weights, too (ZeRO-3)"},
    )
    """States that ZeRO keeps in host memory all the time. `learner.threads` threads of the CPU then run AdamW; raise it."""
    cpus: float = number(0.4, gt=0, most=1024)
    """CPUs that Ray reserves per rank."""
    threads: int = number(1, ge=1, most=512)
    """Compute threads per rank on CPU."""


@dataclass
class TrainConfig:
    """Steps and prompts of the training."""

    steps: int = number(100, ge=1, most=STEPS)
    """Steps of the run: rollouts, update and weight sync."""
    prompts_per_step: int = number(32, ge=1, most=100_000)
    """B: prompts per step."""
    max_bad_steps: int = number(3, ge=1, most=STEPS)
    """Steps in a row whose loss or gradient is not finite, after which the run ends. Their optimizer steps are left out."""
    max_staleness: int = number(0, ge=0, le=8)
    """k: weight versions that a rollout may be behind the policy; 0: strictly on-policy. Above 0, engines sample later steps during the
    update, and `loss.mismatch_cap` corrects the loss."""


@dataclass
class EvalConfig:
    """Evaluation on held-out prompts."""

    every: int = number(0, ge=0, most=STEPS)
    """Steps between evaluations; 0: only at start and end."""
    n: int = number(16, ge=1, most=16384)
    """Responses per held-out prompt."""
    k: list[int] = items(1, 8, 16, ge=1, most=16384)
    """Values of k for pass@k."""
    temperature: float = number(1.0, gt=0, most=10)
    """Sampling temperature."""
    prompts: int | None = number(None, ge=1, most=MANY)
    """Use only this many held-out prompts, from the first; null: all."""


@dataclass
class CheckpointConfig:
    """Times and number of checkpoints."""

    every: int = number(50, ge=0, most=STEPS)
    """Steps between checkpoints; 0: only at the end."""
    keep: int = number(2, ge=1, most=1_000_000)
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
    verify_every: int = number(25, ge=1, most=STEPS)
    """Weight updates between comparisons of engine and learner log-probabilities; the first update is always checked."""
    tolerance: float | None = number(None, gt=0, most=1000)
    """Largest mean difference in such a comparison, in nats; null: 0.001 for float32, 0.1 for half precision."""
    max_gap: float | None = number(None, gt=0, most=1000)
    """Largest difference of a single token in such a comparison, in nats; null: `weights.tolerance` for float32, 20 times it for half
    precision."""
    canary: str = choice(
        {
            "auto": "in half precision",
            "always": "",
            "never": "",
        }
    )
    """At the start, send engines changed weights and check that their log-probabilities follow, then send the right ones."""
    timeout_s: float = number(300.0, ge=0.01, most=WEEK)
    """Longest weight update, in seconds; with `train.max_staleness` and `weights.pause=wait`, it includes waiting for running requests."""
    pause: str = choice(
        {
            "wait": "they are finished first",
            "keep": "they pause between two tokens and continue with the new weights and their KV cache (a new one with prefix caching)",
        }
    )
    """Running requests at a weight update, with `train.max_staleness`."""


@dataclass
class ClusterConfig:
    """The Ray cluster and its devices."""

    address: str = open_choice(
        "auto",
        {"auto": "a running Ray cluster, or else a new local one", "local": "a new local one"},
        takes="an address such as ray-head:6379",
    )
    """Ray cluster of the run."""
    placement: str = choice(
        {
            "auto": "colocated if there are too few GPUs for separate ones and each engine has a rank to share a GPU with, else separate",
            "separate": "on different GPUs",
            "colocated": "one engine and one learner rank on each GPU",
        }
    )
    """Placement of engines and learner ranks on GPUs."""
    cpus: int | None = number(None, ge=1, most=4096)
    """CPUs of a local cluster; null: all."""
    object_store_mb: int | None = number(None, ge=80, most=MIB)
    """Object store of a local cluster, in MiB; null: 256, or room for the image features of three steps, at most 30 % of the memory."""
    start_timeout_s: float = number(300.0, ge=0.01, most=WEEK)
    """Longest start of all actors, in seconds."""


@dataclass
class SuperviseConfig:
    """Replacement of actors that die or hang."""

    max_restarts: int = number(2, ge=0, most=STEPS)
    """Restarts of one actor within `supervise.window_s`; one more failure ends the run."""
    window_s: float = number(600.0, ge=0.01, most=WEEK)
    """Time in which failures of one actor are counted, in seconds."""
    learner_restarts: int = number(1, ge=0, most=STEPS)
    """Times that a run goes back to its last checkpoint by itself after it lost a learner rank."""
    timeout_s: float = number(60.0, ge=5, most=WEEK)
    """Silence after which an actor counts as hung, in seconds. A call may take ten times this, or ten times the longest one before."""
    wait_s: float = number(600.0, ge=0, most=WEEK)
    """Longest wait for room in the cluster for a replaced actor, in seconds."""


@dataclass
class WarnConfig:
    """Bounds beyond which a run warns, once each: on the console and in events.jsonl."""

    entropy_below: float | None = number(0.1, gt=0, lt=1)
    """Policy entropy as a multiple of its mean over the first 10 updates: below it has collapsed; null: no warning."""
    entropy_above: float | None = number(3.0, gt=1, most=1000)
    """The same: above it has blown up; null: no warning."""
    logprob_gap: float | None = number(0.1, gt=0, most=1000)
    """Mean log-probability gap between engine and learner, in nats; null: no warning."""
    error_frac: float | None = number(0.05, ge=0, lt=1)
    """Share of a step's gradings that failed; `reward.max_error_frac` ends the run; null: no warning."""


@dataclass
class WandbConfig:
    """Weights & Biases, if `tracking` contains wandb."""

    project: str = "uec-rl"
    """Project name."""
    entity: str | None = None
    """Team or user; null: your account's default."""
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
    """Algorithm preset: a file with the settings of one algorithm."""
    run: RunConfig = field(default_factory=RunConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    lora: LoraConfig = field(default_factory=LoraConfig)
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
    supervise: SuperviseConfig = field(default_factory=SuperviseConfig)
    warn: WarnConfig = field(default_factory=WarnConfig)
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

    def store_mb(self) -> int:
        """Return the MiB of a local cluster's object store: `cluster.object_store_mb`, or 256."""
        return self.cluster.object_store_mb or 256

    def replay_rows(self) -> int:
        """Return the number of trajectories of a replay update: `replay.rows`, or B G."""
        return self.replay.rows or self.train.prompts_per_step * self.rollout.n
