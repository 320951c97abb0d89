"""The model and the processor of the geometry task: Qwen2.5-VL's architecture with a small tokenizer, both very small."""

from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence
from tokenizers.trainers import BpeTrainer
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
)

from uec.tasks.geometry.data import QUESTIONS
from uec.tasks.geometry.shapes import CELL

PAD, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
VISION_START, VISION_END, IMAGE, VIDEO = "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"
# In the order of their ids, from 0.
SPECIAL = (PAD, START, END, VISION_START, VISION_END, "<|vision_pad|>", IMAGE, VIDEO)
VOCABULARY = 384
"""Rows of the embedding; the tokenizer has fewer tokens."""
CONTEXT = 1024
LEAST_PIXELS, MOST_PIXELS = 56 * 56, 140 * 140

WORDS = (
    *("user\n", "assistant\n", "system\n", *dict.fromkeys(QUESTIONS.values())),
    *("w=", " h=", " w*h=", " w+h=", " w*w=", " h*h=", " cut w=", " hole w=", " half=", " sum=", " diff=", " \\boxed{", "}"),
)
"""Texts that are one token each. Any other text is encoded as bytes."""

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] in ('image', 'image_url') %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Return a byte-level BPE tokenizer: any text encodes, and each digit is one token. It pads on the left, for generation."""
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = Sequence([Digits(individual_digits=True), ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = ByteLevelDecoder()
    trainer = BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(WORDS * 2, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END,
        pad_token=PAD,
        additional_special_tokens=[token for token in SPECIAL if token not in (PAD, END)],
        model_max_length=CONTEXT,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


def build_processor() -> Qwen2_5_VLProcessor:
    """Return the tokenizer, the chat template, and Qwen2-VL's image processor for images of 56 x 56 to 140 x 140 pixels."""
    pixels = {"min_pixels": LEAST_PIXELS, "max_pixels": MOST_PIXELS}
    return Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(**pixels),
        tokenizer=build_tokenizer(),
        video_processor=Qwen2VLVideoProcessor(**pixels),
        chat_template=CHAT_TEMPLATE,
    )


def new_model() -> Qwen2_5_VLForConditionalGeneration:
    """Return a random model of 1.12 M parameters, 0.28 M of them vision. It draws from torch's global generator, so seed that first."""
    width, spread = 128, 0.05
    pad, end = SPECIAL.index(PAD), SPECIAL.index(END)
    text = {
        "vocab_size": VOCABULARY,
        "hidden_size": width,
        "intermediate_size": 384,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": CONTEXT,
        "rms_norm_eps": 1e-6,
        "initializer_range": spread,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 6, 6]},
        "bos_token_id": pad,
        "eos_token_id": end,
        "pad_token_id": pad,
        "tie_word_embeddings": True,
    }
    vision = {
        "depth": 2,
        "hidden_size": 64,
        "intermediate_size": 192,
        "num_heads": 2,
        "out_hidden_size": width,
        "fullatt_block_indexes": [0, 1],
        "window_size": 8 * CELL,
        "patch_size": CELL,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "in_channels": 3,
        "initializer_range": spread,
    }
    config = Qwen2_5_VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=SPECIAL.index(IMAGE),
        video_token_id=SPECIAL.index(VIDEO),
        vision_start_token_id=SPECIAL.index(VISION_START),
        vision_end_token_id=SPECIAL.index(VISION_END),
        tie_word_embeddings=True,
        dtype="float32",
    )
    model = Qwen2_5_VLForConditionalGeneration(config)
    generation = model.generation_config
    generation.bos_token_id, generation.eos_token_id, generation.pad_token_id = pad, end, pad
    return model
