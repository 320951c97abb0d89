"""Inference engines behind one contract (base.py). Each folder is one engine, and ENGINES lists them."""

import importlib
import inspect
from typing import cast

from actors.engines.base import Engine
from uec.errors import BadInput
from uec.system.user_code import load_module

ENGINES = {
    "in_actor": "actors.engines.vllm.engine:InActorVllm",
    "async": "actors.engines.vllm.engine:AsyncVllm",
}
"""Module and class by the names of `rollout.backend`."""


def load_engine(name: str) -> type[Engine]:
    """Return the class of a built-in engine, or of the user's: `path/to/file.py:Class` or `package.module:Class`.

    Raises BadInput, which names rollout.backend, if there is none or it lacks a method of the contract.
    """
    if name in ENGINES:
        module_name, _, class_name = ENGINES[name].partition(":")
        return cast(type[Engine], getattr(importlib.import_module(module_name), class_name))
    module, class_name = load_module("rollout.backend", name, ("auto", *ENGINES))
    where = module.__file__ or module.__name__
    found = getattr(module, class_name, None)
    if not inspect.isclass(found):
        raise BadInput(f"rollout.backend: {name}: {where} has no class {class_name}; it must be an Engine as in actors/engines/base.py")
    methods = [method for method, value in vars(Engine).items() if callable(value) and not method.startswith("_")]
    missing = [method for method in methods if not callable(getattr(found, method, None))]
    if missing:
        raise BadInput(f"rollout.backend: {name}: {class_name} in {where} lacks {', '.join(missing)} of actors/engines/base.py")
    return cast(type[Engine], found)


def check_engine(backend: str) -> None:
    """Raise BadInput if `rollout.backend` names no engine; imports the user's code."""
    if backend != "auto":
        load_engine(backend)
