"""Whether transformers' AutoTokenizer, which vLLM uses too, reads a model's tokenizer as it was saved."""

from uec.config.schema import ModelConfig
from uec.models.source import load_tokenizer, resolve_model

AT_ONCE = 1000


def is_rebuilt(model: ModelConfig) -> bool:
    """True if AutoTokenizer makes another tokenizer of the same files, as it does by the rules of some architectures' own tokenizer.

    Told by what the two make of every token of the vocabulary.
    """
    from transformers import AutoTokenizer

    ours = load_tokenizer(model)
    theirs = AutoTokenizer.from_pretrained(resolve_model(model), trust_remote_code=model.trust_remote_code)
    ids = sorted(ours.get_vocab().values())
    for begin in range(0, len(ids), AT_ONCE):
        text = str(ours.decode(ids[begin : begin + AT_ONCE]))
        if str(theirs.decode(ids[begin : begin + AT_ONCE])) != text or ours(text).input_ids != theirs(text).input_ids:
            return True
    return False
