"""Find and check a model (a folder in Hugging Face format or a hub name), and load its config and tokenizer."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from uec.config.schema import ModelConfig
from uec.errors import BadInput
from uec.system.hub import why_unreachable
from uec.types import Tokens

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase

FORMS = "a folder in Hugging Face format (config.json, *.safetensors, tokenizer.json), or a hub name such as Qwen/Qwen2.5-0.5B"
EMBEDDINGS = ("model.embed_tokens.weight", "model.language_model.embed_tokens.weight", "language_model.model.embed_tokens.weight")
GENERIC_TOKENIZERS = ("TokenizersBackend", "PreTrainedTokenizerFast")


def resolve_model(model: ModelConfig) -> str:
    """Return the argument for `from_pretrained` and vLLM, as `locate_model` does, and check the weights. Raises BadInput."""
    path = locate_model(model)
    if Path(path).is_dir():
        _check_weights(Path(path), model)
    return path


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
    return _read_config(locate_model(model), model)


def context_length(model: ModelConfig) -> int:
    """Return the maximum tokens of prompt and response together; sys.maxsize if the model sets no limit."""
    text_config = load_config(model).get_text_config()
    length = text_config.to_dict().get(text_config.attribute_map.get("max_position_embeddings", "max_position_embeddings"))
    return sys.maxsize if length is None else int(length)


def is_vision_language(config: "PreTrainedConfig") -> bool:
    """Return whether the model reads images and text and writes text."""
    from transformers import AutoModelForImageTextToText

    return hasattr(config, "vision_config") and type(config) in AutoModelForImageTextToText._model_mapping


def auto_class(config: "PreTrainedConfig") -> Any:
    """Return transformers' class that builds the model of a config: for images and text, or for text."""
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    return AutoModelForImageTextToText if is_vision_language(config) else AutoModelForCausalLM


def full_attention(config: "PreTrainedConfig") -> bool:
    """Return whether every layer attends to all previous tokens, so that one mask serves all layers."""
    text = config.get_text_config()
    kinds = getattr(text, "layer_types", None)
    return set(kinds) == {"full_attention"} if kinds else not getattr(text, "sliding_window", None)


def load_tokenizer(model: ModelConfig) -> "PreTrainedTokenizerBase":
    """Return the tokenizer with its chat template. Raises BadInput if there is none.

    A tokenizer of a generic class is loaded as it was saved: for some architectures, such as Qwen2, AutoTokenizer would rebuild it by the
    rules of the architecture's tokenizer.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    path = locate_model(model)
    generic = _tokenizer_config(path).get("tokenizer_class") in GENERIC_TOKENIZERS
    loader = PreTrainedTokenizerFast if generic else AutoTokenizer
    try:
        tokenizer = loader.from_pretrained(path, trust_remote_code=model.trust_remote_code)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise BadInput(f"model.path: {model.path} has no tokenizer that can be loaded: {_advise_on_code(error, model)}") from error
    if set(tokenizer.get_vocab()) <= set(tokenizer.all_special_tokens):  # transformers makes such a tokenizer if no file exists
        raise BadInput(f"model.path: {model.path} has no tokenizer (tokenizer.json and tokenizer_config.json); save one beside the model")
    if tokenizer.eos_token_id is None:
        raise BadInput(f"model.path: the tokenizer of {model.path} has no eos_token to end a response; set it in tokenizer_config.json")
    return tokenizer


def load_decoder(model: ModelConfig) -> Callable[[list[Tokens]], list[str]]:
    """Return a function that decodes responses [T] to texts without special tokens, as the tokenizer of `load_tokenizer` does.

    A generic tokenizer is loaded by the `tokenizers` package alone: importing transformers and torch takes seconds and hundreds of MB,
    which a process that only decodes does not need.
    """
    path = locate_model(model)
    settings = _tokenizer_config(path)
    file = Path(path) / "tokenizer.json"
    if settings.get("tokenizer_class") in GENERIC_TOKENIZERS and not settings.get("clean_up_tokenization_spaces") and file.is_file():
        from tokenizers import Tokenizer

        backend = Tokenizer.from_file(str(file))
        return lambda responses: backend.decode_batch([response.tolist() for response in responses], skip_special_tokens=True)
    tokenizer = load_tokenizer(model)
    return lambda responses: [str(tokenizer.decode(response.tolist(), skip_special_tokens=True)) for response in responses]


def _check_config(folder: Path) -> Path:
    if not (folder / "config.json").is_file():
        raise BadInput(f"model.path: {folder} has no config.json; give {FORMS}")
    return folder


def _check_weights(folder: Path, model: ModelConfig) -> None:
    """Check that files are complete by their headers, and that the embedding has the sizes of config.json."""
    from safetensors import SafetensorError, safe_open

    files = sorted(folder.glob("*.safetensors"))
    if not files:
        pickled = any(folder.glob("*.bin")) or any(folder.glob("*.pt"))
        advice = "convert them: pickled weights can run code when they are loaded" if pickled else "save it with save_pretrained"
        raise BadInput(f"model.path: {folder} has no weights as .safetensors; {advice}")
    shapes: dict[str, list[int]] = {}
    for file in files:
        try:
            with safe_open(file, framework="np") as tensors:
                shapes |= {name: tensors.get_slice(name).get_shape() for name in EMBEDDINGS if name in tensors.keys()}  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise BadInput(f"model.path: {file} is cut off or no safetensors file ({error}); copy it again") from error
    text = _read_config(str(folder), model).get_text_config()
    for name, shape in shapes.items():
        if shape != (wanted := [text.vocab_size, text.hidden_size]):
            raise BadInput(f"model.path: {name} in {folder} is {shape}, and its config.json says {wanted}; they are of different models")


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


def _read_config(path: str, model: ModelConfig) -> "PreTrainedConfig":
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(path, trust_remote_code=model.trust_remote_code)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise BadInput(f"model.path: the config.json of {model.path} cannot be used: {_advise_on_code(error, model)}") from error


def _advise_on_code(error: Exception, model: ModelConfig) -> str:
    text = str(error).strip()
    if "trust_remote_code" in text and not model.trust_remote_code:
        return "it contains Python code; if you trust its source, set model.trust_remote_code=true"
    return text


def _tokenizer_config(path: str) -> dict[str, Any]:
    """Return tokenizer_config.json, or {} if there is none."""
    file = Path(path) / "tokenizer_config.json"
    if not Path(path).is_dir():
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError

        try:
            file = Path(hf_hub_download(path, "tokenizer_config.json"))
        except EntryNotFoundError:
            return {}
    if not file.is_file():
        return {}
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise BadInput(f"model.path: {file} is not valid JSON: {error}") from error
