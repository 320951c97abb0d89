"""Conflicts of section `lora` with other fields, and warnings about its values."""

from collections.abc import Iterator

from uec.config.schema import Config, LoraConfig

USUAL_LR = 1e-5
"""Learning rate below which a LoRA run is warned: about ten times full training's is right (Schulman et al. 2025, LoRA Without Regret)."""

EMBEDDINGS = ("lm_head", "embed_tokens", "embed_out", "wte")


def lora_conflicts(cfg: Config) -> Iterator[str]:
    """Yield a line for each conflict."""
    lora = cfg.lora
    targets = lora.target_modules
    if targets != "all-linear" and not (isinstance(targets, list) and targets and all(isinstance(t, str) and t for t in targets)):
        yield f"lora.target_modules={targets!r} must be all-linear, or a list of names of linear layers such as [q_proj, v_proj]"
        return
    if isinstance(targets, list):
        for name in (name for name in targets if name.rpartition(".")[2] in EMBEDDINGS):
            yield f"lora.target_modules: {name} is an embedding, and adapters are for linear layers inside the model; remove it"
    if not lora.enabled:
        return
    if lora.exchange == "adapter" and cfg.rollout.sleep == 2:
        yield (
            "rollout.sleep=2 drops all weights of the engine, and lora.exchange=adapter sends adapters only; "
            "set rollout.sleep=1, or lora.exchange=merged"
        )
    if lora.exchange == "auto" and cfg.rollout.sleep == 2:
        yield "rollout.sleep=2 drops all weights of the engine, so that lora.exchange must be merged; set it, or rollout.sleep=1"


def lora_notes(cfg: Config) -> Iterator[str]:
    """Yield a line for each value that is allowed but perhaps not intended."""
    if cfg.lora.enabled and cfg.learner.lr < USUAL_LR:
        yield (
            f"learner.lr={cfg.learner.lr:g} is a rate for full training; LoRA learns best at about ten times that rate, "
            "for example learner.lr=1e-5"
        )
    if cfg.lora.enabled and cfg.learner.vision_lr_scale != 1.0 and cfg.lora.target_modules == "all-linear":
        yield (
            f"learner.vision_lr_scale={cfg.learner.vision_lr_scale:g} has no effect: lora.target_modules=all-linear trains nothing in the "
            "vision tower"
        )
    if not cfg.lora.enabled and cfg.lora != LoraConfig():
        yield "section lora has no effect, because lora.enabled=false"
