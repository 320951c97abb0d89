"""Vision-language models of random weights, about 100 kB each, as folders in Hugging Face format, one for each family.

    folder = tiny_vlm.build("qwen2_5_vl", tmp_path / "model")

The text model has width 128, 2 layers and 4 heads of 32, the least that vLLM's attention takes on CPU, with 2 for keys and values; the
vision tower has width 32 and 2 layers.
An image costs few tokens: 4 to 25 in the Qwen families, 4 a tile in InternVL and Idefics3.
"""

from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

QWEN = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
FAMILIES = (*QWEN, "internvl", "idefics3")

VOCABULARY = 384
"""Rows of the embedding, more than the tokenizer has tokens, as in real models."""

CONTEXT = 4096

_ENDS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
_VISION = {
    "qwen": ["<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>"],
    "internvl": ["<img>", "</img>", "<IMG_CONTEXT>", "<video>"],
    "idefics3": ["<fake_token_around_image>", "<image>", "<end_of_utterance>", "<global-img>"]
    + [f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)],
}
_PLACEHOLDER = {"qwen": "<|vision_start|><|image_pad|><|vision_end|>", "internvl": "<IMG_CONTEXT>", "idefics3": "<image>"}
_CORPUS = ["user\n", "assistant\n", "Find the area.", "the measure of angle ABC equals ", "the length of segment", " \\boxed{}"]


def build(family: str, folder: Path, seed: int = 0) -> Path:
    """Save weights, tokenizer, processor and generation config of one of FAMILIES; returns the folder."""
    import torch

    tokenizer = build_processor(family, folder)
    config = _config(family, tokenizer)
    torch.manual_seed(seed)
    model = _model_class(family)._from_config(config, dtype=torch.float32)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.generation_config.bos_token_id = None
    model.save_pretrained(folder)
    return folder


def build_processor(family: str, folder: Path) -> PreTrainedTokenizerFast:
    """Save tokenizer and processor only; returns the tokenizer."""
    import transformers

    tokenizer = _tokenizer(family)
    template = _template(_PLACEHOLDER[_kind(family)])
    tokenizer.chat_template = template
    if family == "internvl":
        images = transformers.GotOcr2ImageProcessor(size={"height": 56, "width": 56}, min_patches=1, max_patches=4)
        videos = transformers.InternVLVideoProcessor(size={"height": 56, "width": 56})
        processor: Any = transformers.InternVLProcessor(images, tokenizer, videos, image_seq_length=4, chat_template=template)
    elif family == "idefics3":
        images = transformers.Idefics3ImageProcessor(size={"longest_edge": 112}, max_image_size={"longest_edge": 56})
        processor = transformers.Idefics3Processor(images, tokenizer, image_seq_len=4, chat_template=template)
    else:
        patch = 16 if family == "qwen3_vl" else 14
        # 2 x 2 to 5 x 5 patches after merging
        size = {"shortest_edge": (2 * 2 * patch) ** 2, "longest_edge": (5 * 2 * patch) ** 2}
        images = transformers.Qwen2VLImageProcessor(patch_size=patch, size=size)
        if family == "qwen3_vl":
            processor = transformers.Qwen3VLProcessor(images, tokenizer, transformers.Qwen3VLVideoProcessor(), chat_template=template)
        else:
            kind = transformers.Qwen2VLProcessor if family == "qwen2_vl" else transformers.Qwen2_5_VLProcessor
            processor = kind(images, tokenizer, transformers.Qwen2VLVideoProcessor(size=size), chat_template=template)
    processor.save_pretrained(folder)
    return tokenizer


def _kind(family: str) -> str:
    return "qwen" if family in QWEN else family


def _template(placeholder: str) -> str:
    return (
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
        "{% if m['content'] is string %}{{ m['content'] }}{% else %}{% for part in m['content'] %}"
        "{% if part['type'] == 'image' %}" + placeholder + "{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}"
        "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )


def _tokenizer(family: str) -> PreTrainedTokenizerFast:
    """Return a byte-level tokenizer with a few merges, which encodes any text."""
    special = _ENDS + _VISION[_kind(family)]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    size = len(special) + len(alphabet) + 40
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(_CORPUS, trainer)
    named = {"start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>", "video_token": "<video>"}
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        model_max_length=CONTEXT,
        padding_side="left",
        extra_special_tokens=named if family == "internvl" else special[3:],
    )


def _config(family: str, tokenizer: PreTrainedTokenizerFast) -> Any:
    from transformers import AutoConfig

    def token(text: str) -> int:
        return int(tokenizer.convert_tokens_to_ids(text))

    text: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "hidden_size": 128,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": CONTEXT,
        "rms_norm_eps": 1e-6,
        "initializer_range": 0.1,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "tie_word_embeddings": True,
    }
    if family == "qwen3_vl":  # the other families derive it from the width
        text["head_dim"] = 32
    if family in QWEN:
        interleaved = family == "qwen3_vl"
        text["rope_parameters"] |= {"mrope_section": [6, 5, 5] if interleaved else [4, 6, 6]} | (
            {"mrope_interleaved": True} if interleaved else {}
        )
        ids = {name: token(f"<|{name.removesuffix('_token_id')}|>") for name in ("vision_start_token_id", "vision_end_token_id")}
        ids |= {"image_token_id": token("<|image_pad|>"), "video_token_id": token("<|video_pad|>")}
        return AutoConfig.for_model(family, text_config=text, vision_config=_qwen_vision(family), tie_word_embeddings=True, **ids)
    vision = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 56,
        "patch_size": 14,
        "initializer_range": 0.1,
    }
    if family == "internvl":
        text |= {"model_type": "qwen2"}
        return AutoConfig.for_model(
            family,
            text_config=text,
            vision_config=vision,
            image_token_id=token("<IMG_CONTEXT>"),
            image_seq_length=4,
            tie_word_embeddings=True,
        )
    text |= {"model_type": "llama"}
    return AutoConfig.for_model(
        family,
        text_config=text,
        vision_config=vision,
        image_token_id=token("<image>"),
        scale_factor=2,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=True,
    )


def _qwen_vision(family: str) -> dict[str, Any]:
    common: dict[str, Any] = {"depth": 2, "num_heads": 2, "initializer_range": 0.1}
    if family == "qwen2_vl":
        return common | {"embed_dim": 32, "hidden_size": 128, "mlp_ratio": 2}
    common |= {"hidden_size": 32, "intermediate_size": 64, "out_hidden_size": 128}
    if family == "qwen2_5_vl":
        return common | {"window_size": 56, "fullatt_block_indexes": [1]}
    return common | {"patch_size": 16, "num_position_embeddings": 64, "deepstack_visual_indexes": [0]}


def _model_class(family: str) -> Any:
    import transformers

    names = {
        "qwen2_vl": "Qwen2VLForConditionalGeneration",
        "qwen2_5_vl": "Qwen2_5_VLForConditionalGeneration",
        "qwen3_vl": "Qwen3VLForConditionalGeneration",
        "internvl": "InternVLForConditionalGeneration",
        "idefics3": "Idefics3ForConditionalGeneration",
    }
    return getattr(transformers, names[family])
