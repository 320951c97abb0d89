"""LearnerActor: one rank of the policy's training, with its DeepSpeed engine and its side of the weight sync."""

import os
import socket
import sys
import time
import warnings
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import ray

from actors.engines.publisher import make_publisher
from uec.config.schema import Config
from uec.system.platform import Platform, detect, has_flash_attention
from uec.system.process_env import ONEDNN_CACHES
from uec.types import Continuation, ImageFeatures, Logprobs, Trajectory, UpdatePlan, WeightUpdate

if TYPE_CHECKING:
    import torch

    from uec.models.policy import Policy
    from uec.models.policy_model import PolicyModel
    from uec.models.rows import Layout


def environment(cfg: Config, rank: int) -> dict[str, str]:
    """Return the environment variables of a rank's process, to be set before it starts."""
    return {
        "OMP_NUM_THREADS": str(cfg.learner.threads),
        "OMP_WAIT_POLICY": "PASSIVE",  # threads that spin between passes would take cores from engines and other processes
        # Without these, glibc returns large blocks to the system and faults them in again, page by page, in each forward pass.
        "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
        "MALLOC_TRIM_THRESHOLD_": str(2 << 30),
        "MALLOC_TOP_PAD_": str(64 << 20),
        "MALLOC_ARENA_MAX": "1",  # Ray runs the calls in a second thread, whose own arena could not hold large blocks
        # On Hopper and Blackwell, cuDNN's attention would build a plan for each new shape of blocks.
        "TORCH_CUDNN_SDPA_DEPRIORITIZED": "1",
        **ONEDNN_CACHES,
    }


class LearnerActor:
    """One of `learner.ranks`. Except for `address`, every method must be called on all ranks at once, because they wait for each other."""

    def __init__(self, cfg: Config, rank: int, inference_only: bool = False) -> None:
        """`inference_only`: without an optimizer and without weight sync, for `entropies` and `logprobs`."""
        self.cfg = cfg
        self.rank = rank
        self.inference_only = inference_only
        self.exchange = "none"  # see Platform.lora
        self.steps_done = 0  # optimizer steps
        self.version = 0  # last published
        self._shared: int | None = None  # version that policy and engines share; None after an update
        self.background_writes = False  # write checkpoints while training goes on; costs host memory for a copy of the state
        self._writes: list[Future[None]] = []
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")

    def address(self) -> tuple[str, int]:
        """Return this node's host and a free port. The ranks meet at the address of rank 0."""
        with socket.socket() as probe:
            probe.bind(("", 0))
            return ray.util.get_node_ip_address(), probe.getsockname()[1]

    def start(self, address: tuple[str, int]) -> dict[str, float]:
        """Join the other ranks, load the model and build the engine. Returns the seconds of each stage.

        Raises BadInput for a model that cannot be loaded or trained.
        """
        platform = detect(self.cfg)
        self.background_writes = platform.device == "cuda"
        self.exchange = platform.lora
        clock = [time.perf_counter()]
        _join(self.cfg, self.rank, platform, address)
        clock.append(time.perf_counter())
        import torch

        from uec.algorithm.losses.policy import load_policy_loss
        from uec.models.deepspeed_engine import make_engine, make_inference_engine
        from uec.models.policy import verify
        from uec.models.update import PolicyUpdate

        settings = self.cfg.learner
        self.policy_model = self._load_policy_model(platform)
        self.policy = self.policy_model.policy
        self.layout = self._make_layout(torch.device(platform.device), platform)
        if settings.gradient_checkpointing:
            self.policy.hf.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        clock.append(time.perf_counter())
        if self.inference_only:
            self.engine = make_inference_engine(self.policy, settings, platform)
        else:
            self.engine = make_engine(self.policy, self.policy_model.trainable(), settings, platform)
            reference = self.policy_model.reference() if self.cfg.loss.kl_coef > 0 else None
            self._update = PolicyUpdate(self.engine, reference, self.cfg, load_policy_loss(self.cfg.loss.policy), self.layout)
            self.publisher = make_publisher(self.cfg, self.rank)
        verify(self.engine, self.policy, self.layout)
        clock.append(time.perf_counter())
        return dict(zip(("join_s", "load_s", "engine_s"), (b - a for a, b in zip(clock, clock[1:], strict=False)), strict=True))

    def update(self, plan: UpdatePlan, *data: list[Trajectory] | ImageFeatures) -> tuple[dict[str, float], dict[int, Logprobs]]:
        """Run a policy update (see uec.models.update). Returns metrics over all ranks, and old log-probabilities by sample.

        `data`: the response batches to which the plan's places refer, and the features of their prompts' images. A plan without steps
        changes nothing and returns nothing.
        """
        self._finish_publishing()
        rollout = self.cfg.rollout
        # A truncated distribution is renormalised, so the engine's log-probabilities then belong to a different policy.
        whole = rollout.top_p == 1 and rollout.top_k <= 0 and rollout.min_p == 0
        trajectories, images = _sorted(plan, data)
        metrics, old_logprobs = self._update.run(plan, trajectories, images, self.steps_done, self._shared if whole else None)
        if plan.steps:
            self.steps_done += round(metrics["learner/optimizer_steps"])
            self._shared = None
        return metrics, old_logprobs

    def write_batch(self, path: str, plan: UpdatePlan, *data: list[Trajectory] | ImageFeatures) -> None:
        """Write this rank's share of a batch to a file that all ranks' folders can hold, for a look. `data` as for `update`."""
        from uec.models.batch_file import write_batch

        write_batch(Path(path), plan, _sorted(plan, data)[0], self.tokenizer)

    def entropy(self, plan: UpdatePlan, *data: list[Trajectory] | ImageFeatures) -> float:
        """Return the policy's mean true entropy over the response tokens of all ranks' plans, in nats. `data` as for `update`."""
        from uec.models.update import mean_entropy

        self._finish_publishing()
        trajectories, images = _sorted(plan, data)
        return mean_entropy(self.engine, plan, trajectories, self.layout, images)

    def entropies(self, plan: UpdatePlan, *data: list[Trajectory] | ImageFeatures) -> dict[int, float]:
        """Return the policy's mean true entropy over the tokens of each of this rank's samples, in nats. `data` as for `update`."""
        from uec.models.update import response_entropies

        self._finish_publishing()
        trajectories, images = _sorted(plan, data)
        found = response_entropies(self.engine, plan, trajectories, self.layout, images)
        return {sample: float(entropies_T.mean()) if len(entropies_T) else 0.0 for sample, entropies_T in found.items()}

    def logprobs(self, sequences: list[Continuation], *features: ImageFeatures) -> tuple[list[Logprobs], list[Logprobs]]:
        """Return log-probabilities (T = 1) and true entropies of the continuations' tokens, in nats.

        `features`: those of their prompts' images. Each rank receives all continuations and returns all results.
        """
        from uec.models.policy import sequence_logprobs

        self._finish_publishing()
        images = {found.prompt: found for found in features}
        return sequence_logprobs(self.engine, sequences, self.layout, images, self.cfg.learner.micro_batch_tokens)

    def publish(self, version: int, scale: float = 1.0, regroup: bool = False, again: bool = False) -> WeightUpdate | None:
        """Publish the weights under this version. Rank 0 returns the weight update for the engines.

        `scale`: another factor than 1 changes what is published, and leaves the policy as it is. `regroup`: engines were replaced.
        `again`: publish the version once more, but as the next one if the policy has changed since, so that a version names one policy.
        """
        if regroup:
            self.publisher.reset()
        if again and self._shared != version:
            version += 1
        exported = self.policy_model.exported()
        if scale != 1:
            # A factor alone would leave an adapter whose B is zero without effect.
            offset = scale - 1 if self.exchange == "adapter" else 0.0
            exported = ((name, tensor.detach() * scale + offset) for name, tensor in exported)
        update = self.publisher.publish(version, exported)
        if update is not None and self.exchange == "adapter":
            update = replace(update, kind="adapter")
        self.version = self._shared = version
        return update

    def offload(self) -> None:
        """Leave the GPU's memory to an engine: move the states that `learner.offload` names to host memory. `reload` must follow."""
        from uec.models.offload import offload, release_cached

        self._finish_publishing()
        if self.cfg.learner.offload == "none" or self.inference_only:
            release_cached()
        else:
            offload(self.engine, weights=self.cfg.learner.offload == "all")

    def reload(self) -> None:
        """Bring back what `offload` moved."""
        if self.cfg.learner.offload != "none" and not self.inference_only:
            from uec.models.offload import reload

            reload(self.engine, weights=self.cfg.learner.offload == "all")

    def digest(self) -> str:
        """Return a digest of the weights that `publish` publishes, equal on all ranks."""
        from uec.models.digest import digest

        self._finish_publishing()
        return digest(self.policy_model.exported())

    def close(self) -> None:
        """Free the resources that the weight sync holds outside this process."""
        if not self.inference_only:
            self.publisher.close()

    def save(self, folder: str) -> None:
        """Write this rank's part of the exact training state to a folder that all ranks can access. See `written`."""
        from uec.models.training_state import snapshot

        self._finish_publishing()
        trainable = list(self.policy_model.trainable())
        state = snapshot(self.engine, trainable, self.steps_done, self.version, copy=self.background_writes)
        self._write(lambda: state.write(Path(folder)))
        if self.cfg.lora.enabled and self.rank == 0:
            self._write(lambda: self.base.write(Path(folder)))

    def load(self, folder: str) -> None:
        """Restore the state of `save`, also with another number of ranks or ZeRO stage. Raises BadInput for the state of another model."""
        from uec.models.training_state import load_state

        self._finish_publishing()
        if self.cfg.lora.enabled:
            self.base.check(Path(folder))
        self.steps_done, self.version = load_state(Path(folder), self.engine, list(self.policy_model.trainable()))
        self._shared = None

    def save_hf(self, folder: str) -> None:
        """Write a checkpoint that plain transformers, with LoRA peft, loads, with tokenizer and chat template. See `written`."""
        from uec.models.adapter_folder import save_adapter
        from uec.models.hf_checkpoint import collect, save_pretrained

        self._finish_publishing()
        writes = self.rank == 0
        weights = collect(self.policy_model.complete(), keep=writes)
        if writes:
            processing = self.tokenizer if self.processor is None else self.processor.processor
            if self.cfg.lora.enabled:
                config = self.policy_model.config  # type: ignore[attr-defined]  # of LoraPolicy
                self._write(lambda: save_adapter(Path(folder), config, self.base, processing, weights))
            else:
                self._write(lambda: save_pretrained(Path(folder), self.policy.hf, processing, weights))

    def written(self) -> bool:
        """Return whether all files of `save` and `save_hf` are complete. Raises the error of a write that failed.

        On GPUs, the files are written from host memory while training goes on. Call this on each rank without waiting for the others.
        """
        done = [job for job in self._writes if job.done()]
        self._writes = [job for job in self._writes if not job.done()]
        for job in done:
            job.result()
        return not self._writes

    def _write(self, job: Callable[[], None]) -> None:
        if self.background_writes:
            self._writes.append(self._writer.submit(job))
        else:
            job()

    def _finish_publishing(self) -> None:
        """Wait for the last broadcast: under ZeRO-3 it gathers weights, which is a collective, as are forward passes and saving."""
        if not self.inference_only:
            self.publisher.wait()

    def _load_policy_model(self, platform: Platform) -> "PolicyModel":
        from uec.models.adapter_folder import load_adapter
        from uec.models.base_model import BaseModel
        from uec.models.deepspeed_engine import make_inference_engine
        from uec.models.linear import with_onednn
        from uec.models.policy_model import Forward, make_policy_model
        from uec.models.pretrained import absolute_path

        def load_reference() -> Forward:
            return make_inference_engine(self._load_policy(platform), self.cfg.learner, platform)

        policy = self._load_policy(platform)
        if not self.cfg.lora.enabled:
            return make_policy_model(policy, self.cfg.model, load_reference if self.cfg.loss.kl_coef > 0 else None)
        self.base = BaseModel.of(absolute_path(self.cfg.model), policy.hf)
        found = make_policy_model(policy, self.cfg.model, None, self.cfg.lora, self.exchange == "merged", self.cfg.run.seed)
        if self.cfg.lora.path is not None:
            load_adapter(self.cfg.lora, found.trainable())
        if platform.device == "cpu":
            with_onednn(policy.hf)
        return found

    def _load_policy(self, platform: Platform) -> "Policy":
        from uec.algorithm.entropy import Gradients
        from uec.models.liger import use_liger
        from uec.models.linear import with_onednn
        from uec.models.policy import Policy, load_model
        from uec.models.pretrained import load_tokenizer, locate_model
        from uec.models.processor import load_processor
        from uec.models.vision import use_varlen
        from uec.models.vocabulary import vocabulary_size

        self.tokenizer = load_tokenizer(self.cfg.model)
        self.processor = load_processor(self.cfg.model, self.cfg.data.image, self.tokenizer)
        hf = load_model(self.cfg.model, locate_model(self.cfg.model), platform.dtype)
        if platform.device == "cpu":
            with_onednn(hf)
        if platform.attention == "varlen" and has_flash_attention():
            use_varlen(hf)
        if self.cfg.learner.liger:
            use_liger(hf)
        gradients = Gradients(entropy=self.cfg.loss.entropy_coef > 0, tempered=self.cfg.exploration.correction == "tempered")
        banned = [] if self.processor is None else self.processor.vision_tokens()
        settings = self.cfg.learner
        float32_head = settings.head_dtype == "float32"
        return Policy(hf, settings.logits_chunk_mb, vocabulary_size(self.tokenizer), gradients, banned, float32_head)

    def _make_layout(self, device: "torch.device", platform: Platform) -> "Layout":
        from uec.models.attention import choose_pieces
        from uec.models.packing import packs
        from uec.models.rows import Layout
        from uec.models.vision import Vision

        hf = self.policy.hf
        vision = None if self.processor is None else Vision(hf, self.processor.feature_id, *self.processor.blank())
        return Layout(device, packs(self.cfg.learner, hf.config), vision, choose_pieces(self.cfg.learner, platform, hf.config))


def _join(cfg: Config, rank: int, platform: Platform, address: tuple[str, int]) -> None:
    """Join the other ranks at `address`. DeepSpeed reads rank and address from the environment, where launchers set them."""
    os.environ.update(
        DS_ACCELERATOR=platform.device,
        RANK=str(rank),
        WORLD_SIZE=str(cfg.learner.ranks),
        LOCAL_RANK="0" if platform.device == "cuda" else str(rank),  # Ray shows each actor only its GPU
        MASTER_ADDR=address[0],
        MASTER_PORT=str(address[1]),
        # Use this environment's ninja: another version, from an activated environment or the system, would rebuild the operator.
        PATH=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
    )
    # DeepSpeed 0.19 uses names of collectives that torch 2.13 deprecates.
    warnings.filterwarnings("ignore", category=FutureWarning, message=r"`torch\.distributed\.")
    import deepspeed
    import torch

    from uec.models.operator import load_operator

    torch.set_num_threads(cfg.learner.threads)
    torch.manual_seed(cfg.run.seed + rank)
    load_operator()
    deepspeed.init_distributed(platform.collectives)


def _sorted(plan: UpdatePlan, data: tuple[list[Trajectory] | ImageFeatures, ...]) -> tuple[list[Trajectory], dict[int, ImageFeatures]]:
    """Return the trajectory of each sample, and the image features by prompt."""
    batches = [item for item in data if not isinstance(item, ImageFeatures)]
    images = {item.prompt: item for item in data if isinstance(item, ImageFeatures)}
    return [batches[batch][slot] for batch, slot in plan.places], images
