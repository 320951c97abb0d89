"""Merge an adapter into its base model: a folder that plain transformers and vLLM load."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from uec.errors import BadInput
from uec.models.adapter_folder import WEIGHTS, is_adapter, read_config
from uec.models.base_model import BaseModel


def merge_adapter(adapter: Path, to: Path, trust_remote_code: bool = False) -> None:
    """Write the model of an adapter folder, with the folder's tokenizer or processor, to the empty folder `to`.

    Raises BadInput if the base model is missing, or not the one that the adapter was trained on.
    """
    from peft import PeftModel
    from transformers import AutoProcessor, AutoTokenizer

    from uec.config.schema import ModelConfig
    from uec.models.model_config import is_vision_language
    from uec.models.policy import load_model
    from uec.models.pretrained import load_config, resolve_model

    config, saved = read_config(adapter), BaseModel.read(adapter)
    path = saved.path if saved is not None else config.get("base_model_name_or_path")
    if not isinstance(path, str) or not path:
        raise BadInput(f"{adapter} does not name its base model (base_model_name_or_path in adapter_config.json); add it")
    if not (adapter / WEIGHTS).is_file():
        raise BadInput(f"{adapter} has no {WEIGHTS}; give a folder with both files of an adapter")
    model = ModelConfig(path=path, trust_remote_code=trust_remote_code)
    hf = load_model(model, resolve_model(model), "bfloat16" if saved is None else saved.dtype)
    if saved is not None:
        BaseModel.of(path, hf).check(adapter)
    merged = PeftModel.from_pretrained(hf, str(adapter)).merge_and_unload()
    merged.save_pretrained(to)
    loader = AutoProcessor if is_vision_language(load_config(model)) else AutoTokenizer
    source = adapter if (adapter / "tokenizer_config.json").is_file() else resolve_model(model)
    loader.from_pretrained(str(source), trust_remote_code=trust_remote_code).save_pretrained(to)


@contextmanager
def merged(path: str) -> Iterator[str]:
    """Yield the folder of a model, where `path` is an adapter's folder: a temporary one with the adapter merged; else `path` itself."""
    if not is_adapter(Path(path)):
        yield path
        return
    with TemporaryDirectory(prefix="uec-merged-") as folder:
        merge_adapter(Path(path), Path(folder))
        yield folder
