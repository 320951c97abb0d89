"""Notes on section `lora`: values that are allowed but perhaps not intended."""

from uec.config.file import load_config
from uec.config.validate import validate
from uec.config.validate_lora import lora_notes


def test_the_vision_default_may_train_adapters_and_names_the_rate_without_effect(project):
    cfg = load_config(project / "configs/vlm.yaml", ["lora.enabled=true", "learner.lr=2e-3"])
    validate(cfg)
    [note] = lora_notes(cfg)
    assert note.startswith("learner.vision_lr_scale=0.1 has no effect")
    assert list(lora_notes(load_config(project / "configs/vlm.yaml", []))) == []
