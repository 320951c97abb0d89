"""The names, shapes and dtypes that a weight update must have."""

from actors.weights.shm import packed_size
from uec.config.schema import LoraConfig, ModelConfig
from uec.errors import RunFailed
from uec.types import WeightUpdate


def expected_parameters(model: ModelConfig, lora: LoraConfig | None = None, exchange: str = "none") -> dict[str, list[int]]:
    """Return names and shapes of the tensors that a learner publishes (`PolicyModel.exported`); of tied parameters only one is named.

    `exchange`: as `Platform.lora`.
    """
    from uec.models.policy_model import meta_policy_model

    return {name: list(tensor.shape) for name, tensor in meta_policy_model(model, lora, exchange != "adapter").exported()}


def check(update: WeightUpdate, expected: dict[str, list[int]]) -> None:
    """Raise RunFailed unless an update names every parameter of the model with its shape, and nothing else.

    vLLM accepts an incomplete list without an error, and after a wrong list it cannot be used.
    """
    found = dict(zip(update.names, update.shapes, strict=True))
    problems = [f"{name} is missing" for name in expected.keys() - found.keys()]
    problems += [f"{name} is no parameter of the model" for name in found.keys() - expected.keys()]
    problems += [
        f"{name} has shape {found[name]} instead of {shape}"
        for name, shape in expected.items()
        if name in found and list(found[name]) != shape
    ]
    problems += [f"{name} is no dtype of weights" for name in set(update.dtypes) - {"float32", "bfloat16", "float16"}]
    if len(update.names) != len(found):
        problems.append("a name is there twice")
    if not problems:
        nbytes = packed_size(update.dtypes, update.shapes)
        if nbytes != update.nbytes:
            problems.append(f"the parameters have {nbytes} bytes, published were {update.nbytes}")
    if problems:
        shown = "; ".join(sorted(problems)[:5]) + (f"; and {len(problems) - 5} more" if len(problems) > 5 else "")
        raise RunFailed(f"weights version {update.version} do not fit the engine's model: {shown}")
