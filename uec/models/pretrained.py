"""Find and check a model (a folder in Hugging Face format or a hub name), and load its config and tokenizer."""

import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from uec.config.schema import ModelConfig
from uec.errors import BadInput
from uec.models.model_config import advise_on_code, meta_model, read_config
from uec.models.weight_files import read_json, weight_files
from uec.system.hub import why_unreachable
from uec.types import Tokens

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase

FORMS = "a folder in Hugging Face format (config.json, *.safetensors, tokenizer.json), or a hub name such as Qwen/Qwen2.5-0.5B"
ADAPTER = "adapter_config.json"
GENERIC_TOKENIZERS = ("TokenizersBackend", "PreTrainedTokenizerFast")


def resolve_model(model: ModelConfig) -> str:
    """Return what `locate_model` returns, and check the weights by their headers if they are on this machine. Raises BadInput.

    Programs call this once, before any actor starts; an actor calls `locate_model`.
    """
    path = locate_model(model)
    if Path(path).is_dir():
        check_weights_in(Path(path), model)
    return path


def check_weights_are_there(model: ModelConfig) -> None:
    """Raise BadInput for a folder without weights."""
    path = Path(locate_model(model))
    if path.is_dir():
        weight_files(path)


def check_weights_in(folder: Path, model: ModelConfig) -> None:
    """Check the weights in a folder, which may be a downloaded hub model's. Raises BadInput."""
    from uec.models.weight_check import check_weights

    check_weights(folder, meta_model(read_config(str(folder), model), model))


def locate_model(model: ModelConfig) -> str:
    """Return the location of config.json, tokenizer and processor: the absolute path of a folder, or a hub name. Ignores weights.

    If the hub is unreachable, this is the model's folder in the local cache. Raises BadInput.
    """
    folder = Path(model.path).expanduser()
    if folder.is_dir():
        return str(_check_config(folder.resolve()))
    if folder.is_file():
        raise BadInput(f"model.path: {folder} is a file; give {FORMS}")
    if not may_be_hub_name(model.path):
        raise BadInput(f"model.path: there is no folder {folder.absolute()}; give {FORMS}")
    return _resolve_hub_name(model.path)


def absolute_path(model: ModelConfig) -> str:
    """Return `model.path` for a process with another working directory: the absolute path of a folder, or the hub name."""
    folder = Path(model.path).expanduser()
    return str(folder.absolute()) if folder.is_dir() else model.path


def load_config(model: ModelConfig) -> "PreTrainedConfig":
    """Return config.json. Raises BadInput if transformers cannot read it or does not know the architecture."""
    return read_config(locate_model(model), model)


def context_length(model: ModelConfig) -> int:
    """Return the maximum tokens of prompt and response together; sys.maxsize if the model sets no limit."""
    text_config = load_config(model).get_text_config()
    length = text_config.to_dict().get(text_config.attribute_map.get("max_position_embeddings", "max_position_embeddings"))
    return sys.maxsize if length is None else int(length)


def load_tokenizer(model: ModelConfig) -> "PreTrainedTokenizerBase":
    """Return the tokenizer with its chat template. Raises BadInput if there is none.

    A tokenizer of a generic class is loaded as it was saved: for some architectures, such as Qwen2, AutoTokenizer would rebuild it by the
    rules of the architecture's tokenizer.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    path = locate_model(model)
    generic = read_model_json(path, "tokenizer_config.json").get("tokenizer_class") in GENERIC_TOKENIZERS
    loader = PreTrainedTokenizerFast if generic else AutoTokenizer
    try:
        tokenizer = loader.from_pretrained(path, trust_remote_code=model.trust_remote_code)
        tokenizer.decode(tokenizer("1 + 1").input_ids)
    except Exception as error:  # the tokenizer's files decide what fails, and the Rust tokenizer raises plain Exception
        raise BadInput(f"model.path: {model.path} has no tokenizer that can be loaded: {advise_on_code(error, model)}") from error
    if set(tokenizer.get_vocab()) <= set(tokenizer.all_special_tokens):  # transformers makes such a tokenizer if no file exists
        raise BadInput(f"model.path: {model.path} has no tokenizer (tokenizer.json and tokenizer_config.json); save one beside the model")
    if tokenizer.eos_token_id is None:
        raise BadInput(f"model.path: the tokenizer of {model.path} has no eos_token to end a response; set it in tokenizer_config.json")
    return tokenizer


def load_decoder(model: ModelConfig, ends: Collection[int] = ()) -> Callable[[list[Tokens]], list[str]]:
    """Return a function that decodes responses [T] to texts. Only end and padding tokens are left out: others, such as `<think>`, are text.

    `ends`: tokens that end a response besides those of the model's files. A generic tokenizer is loaded by the `tokenizers` package
    alone: importing transformers and torch takes seconds and hundreds of MB, which a process that only decodes does not need.
    """
    path = locate_model(model)
    settings = read_model_json(path, "tokenizer_config.json")
    file = Path(path) / "tokenizer.json"
    omitted: set[int | None] = {*ends, *end_tokens(read_model_json(path, "generation_config.json"))}
    if settings.get("tokenizer_class") in GENERIC_TOKENIZERS and not settings.get("clean_up_tokenization_spaces") and file.is_file():
        from tokenizers import Tokenizer

        backend = Tokenizer.from_file(str(file))
        settings = read_model_json(path, "special_tokens_map.json") | settings  # where older tokenizers have them
        omitted |= {backend.token_to_id(_content(settings.get(name))) for name in ("eos_token", "pad_token")}
        return lambda responses: backend.decode_batch([_without(response, omitted) for response in responses], skip_special_tokens=False)
    tokenizer = load_tokenizer(model)
    omitted |= {tokenizer.eos_token_id, tokenizer.pad_token_id}
    return lambda responses: [str(tokenizer.decode(_without(response, omitted), skip_special_tokens=False)) for response in responses]


def end_tokens(generation: dict[str, Any]) -> list[int]:
    """Return the tokens that end a response by generation_config.json. Raises BadInput for a value that is no token id."""
    ends = generation.get("eos_token_id")
    found = ends if isinstance(ends, list) else [] if ends is None else [ends]
    if not all(isinstance(end, int) and end >= 0 for end in found):
        raise BadInput(f"model.path: generation_config.json has eos_token_id={str(ends)[:60]}; expected a token id, or a list of them")
    return list(found)


def _content(token: Any) -> str:
    """Return a special token's text, from tokenizer_config.json."""
    return str(token.get("content", "") if isinstance(token, dict) else token or "")


def _without(response: Tokens, omitted: Collection[int | None]) -> list[int]:
    return [token for token in response.tolist() if token not in omitted]


def _check_config(folder: Path) -> Path:
    """Refuse a folder without config.json, naming the base model where it holds an adapter."""
    if (folder / "config.json").is_file():
        return folder
    if not (folder / ADAPTER).is_file():
        raise BadInput(f"model.path: {folder} has no config.json; give {FORMS}")
    adapter = read_json(folder / ADAPTER)
    base = str(adapter.get("base_model_name_or_path") or "its base model (base_model_name_or_path is empty)")[:200]
    kind = str(adapter.get("peft_type") or "PEFT")[:20].upper().replace("LORA", "LoRA")
    raise BadInput(
        f"model.path: {folder} is a {kind} adapter of {base}, not a model. Merge it first: "
        f"PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained({base!r}), {folder.name!r}).merge_and_unload()"
        ".save_pretrained('merged'), save the tokenizer beside it, and give that folder"
    )


def may_be_hub_name(path: str) -> bool:
    """Return whether `path` has the form of a hub name."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(path)
    except HFValidationError:
        return False
    return True


def _resolve_hub_name(name: str) -> str:
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

    nothing = f"model.path: there is no folder {name}, and as a hub name"
    instead = "Give a folder in Hugging Face format instead"
    reason = why_unreachable()
    if reason is not None:
        cached = try_to_load_from_cache(name, "config.json")
        if not isinstance(cached, str):
            raise BadInput(f"{nothing} it is not in the cache and the hub cannot be asked ({reason}). {instead}")
        return str(_check_config(Path(cached).parent))
    try:
        hf_hub_download(name, "config.json")
    except GatedRepoError as error:
        raise BadInput(f"{nothing} it is gated: accept its licence on the hub, then `hf auth login`") from error
    except RepositoryNotFoundError as error:
        raise BadInput(f"{nothing} the hub has no model that you may read (a private one needs `hf auth login`). {instead}") from error
    except EntryNotFoundError as error:
        raise BadInput(f"{nothing} it has no config.json, so it is no transformers model. {instead}") from error
    except (HfHubHTTPError, OSError) as error:
        raise BadInput(f"{nothing} it cannot be downloaded: {error}. {instead}") from error
    return name


def read_model_json(path: str, name: str) -> dict[str, Any]:
    """Return a JSON file of the model that `locate_model` found, {} if it has none. Raises BadInput if it is no object."""
    file = Path(path) / name
    if not Path(path).is_dir():
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError

        try:
            file = Path(hf_hub_download(path, name))
        except EntryNotFoundError:
            return {}
    return read_json(file) if file.is_file() else {}
