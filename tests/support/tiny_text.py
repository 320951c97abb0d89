"""Language models of random weights as folders in Hugging Face format, one for each family that transformers and vLLM know.

    folder = tiny_text.build("llama", tmp_path / "model")

Width 64, 2 layers, 2 heads of 32 (the least that vLLM's attention takes on CPU), and a byte-level tokenizer with ChatML's marks.
"""

from pathlib import Path
from typing import Any

VOCABULARY = 264
CONTEXT = 512
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
THINK = ("<think>", "</think>")

MOE = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
LINEAR = {
    "linear_num_value_heads": 2,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 128,
    "linear_value_head_dim": 128,
    "layer_types": ["linear_attention", "full_attention"],
}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "mistral": {"sliding_window": 32},
    "gemma3_text": {"sliding_window": 32, "layer_types": ["sliding_attention", "full_attention"], "query_pre_attn_scalar": 32},
    "qwen2": {},
    "qwen3": {},
    "qwen3_moe": MOE,
    "phi3": {"pad_token_id": 256},
    "smollm3": {"pad_token_id": 256, "no_rope_layers": [1, 0]},
    "granite": {"logits_scaling": 4.0, "embedding_multiplier": 2.0},
    "olmo2": {},
    "cohere": {"tie_word_embeddings": True},  # vLLM ties it in any case
    "qwen3_5_text": LINEAR,
}
"""By transformers' model_type: what differs from the common sizes."""


def build(family: str, folder: Path, seed: int = 0, **changes: Any) -> Path:
    """Save weights, config and tokenizer of one of FAMILIES; return the folder. `changes`: of the config."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    sizes = {
        "vocab_size": VOCABULARY,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 32,
        "max_position_embeddings": CONTEXT,
        "initializer_range": 0.1,
        "tie_word_embeddings": False,
        "bos_token_id": None,
        "eos_token_id": 258,
        "pad_token_id": 256,
    }
    config = AutoConfig.for_model(family, **{**sizes, **FAMILIES[family], **changes})
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def tokenizer(template: str = CHATML, eos: str = "<|im_end|>", special: tuple[str, ...] = (*SPECIAL, *THINK)) -> Any:
    """Return a tokenizer of the 256 bytes, with `special` behind them from id 256 on."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE({letter: i for i, letter in enumerate(alphabet)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(token, special=True) for token in special])
    made = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=eos, pad_token="<|endoftext|>")
    made.chat_template = template
    return made
