"""The Countdown tokenizer: one token for each word; spaces separate words."""

import json
from pathlib import Path

from tokenizers import AddedToken, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from uec.tasks.countdown.data import HINT, LARGEST_VALUE

PAD, BOS, EOS = "<pad>", "<bos>", "<eos>"
SPECIAL = (PAD, BOS, EOS)
# `;` is reserved for demonstrations of several attempts in a row, which this cold start does not contain.
WORDS = [*SPECIAL, "+", "-", "*", "=", ",", ";", ":", HINT, *map(str, range(LARGEST_VALUE + 1))]


def build() -> PreTrainedTokenizerFast:
    """Return the tokenizer of 111 words. A text encodes to `<bos>` and its words; any other word is an error.

    Each word is also an added token. AutoTokenizer of transformers 5 ignores the saved rules of a tokenizer in a Qwen2
    folder and rebuilds it by Qwen2's rules, which split numbers into digits, but it keeps added tokens. So it finds the
    same ids, and only its decoding lacks the spaces. `uec.models.pretrained.load_tokenizer` loads the tokenizer as saved.
    """
    vocabulary = {word: index for index, word in enumerate(WORDS)}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token=None))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.post_processor = TemplateProcessing(single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, vocabulary[BOS])])
    words = WORDS[len(SPECIAL) :]
    tokenizer.add_tokens([AddedToken(word, single_word=word.isdigit(), lstrip=True, normalized=False) for word in words])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PAD, bos_token=BOS, eos_token=EOS, unk_token=None, clean_up_tokenization_spaces=False
    )


def save(folder: Path) -> None:
    """Write tokenizer.json and tokenizer_config.json, with `unk_token: null`: without it AutoTokenizer adds a 112th token."""
    build().save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**settings, "unk_token": None}, indent=2) + "\n", encoding="utf-8")
