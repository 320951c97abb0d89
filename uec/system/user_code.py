"""A function of the user's, from `path/to/file.py:name` or `package.module:name`."""

import difflib
import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from uec.errors import BadInput


def load_function(field: str, name: str, builtin: tuple[str, ...], wanted: str, arguments: int) -> Callable[..., Any]:
    """What `field` names by file or module; `builtin` names are those it could have meant. Imports the user's code. Raises BadInput.

    `wanted`: the signature, for messages, with NAME for the function's; `arguments`: with how many it is called.
    """
    module, function = load_module(field, name, builtin)
    wanted = wanted.replace("NAME", function)
    found = take_function(field, name, module, function, wanted)
    try:
        inspect.signature(found).bind(*[None] * arguments)
    except (TypeError, ValueError) as error:
        where = module.__file__ or module.__name__
        raise BadInput(f"{field}: {name}: {function} in {where} cannot be called ({error}); it must be {wanted}") from error
    return found


def take_function(field: str, name: str, module: ModuleType, function: str, wanted: str) -> Callable[..., Any]:
    """A module's plain function. Raises BadInput if there is none of that name, or it is async or yields."""
    where = module.__file__ or module.__name__
    if not hasattr(module, function):
        there = [n for n, value in vars(module).items() if inspect.isfunction(value) and value.__module__ == module.__name__]
        raise BadInput(f"{field}: {name}: {where} has no function {function}; it has {', '.join(there) or 'none at all'}")
    found = getattr(module, function)
    if not callable(found):
        raise BadInput(f"{field}: {name}: {function} in {where} is {type(found).__name__}, not a function")
    if inspect.iscoroutinefunction(found) or inspect.isgeneratorfunction(found):
        raise BadInput(f"{field}: {name}: {function} in {where} is async or yields; it must return its result: {wanted}")
    return found


def load_module(field: str, name: str, builtin: tuple[str, ...]) -> tuple[ModuleType, str]:
    """The module and the function's name in it. Raises BadInput for anything else."""
    source, colon, function = name.rpartition(":")
    if not colon or not source or not function:
        near = difflib.get_close_matches(name, builtin, n=1)
        forms = f"{', '.join(builtin)}, path/to/file.py:name or package.module:name"
        raise BadInput(f"{field}: {name!r} is none of {forms}" + (f"; did you mean {near[0]}?" if near else ""))
    if is_path(source):
        return _import_file(field, name, Path(source).expanduser().resolve()), function
    return _import_module(field, name, source), function


def absolute_name(name: str) -> str:
    """The name with an absolute file path, for a process that runs in another folder."""
    source, colon, function = name.rpartition(":")
    return f"{Path(source).expanduser().resolve()}:{function}" if colon and is_path(source) else name


def is_path(source: str) -> bool:
    return source.endswith(".py") or "/" in source


def _import_file(field: str, name: str, path: Path) -> ModuleType:
    if not path.is_file():
        raise BadInput(f"{field}: {name}: there is no file {path}; correct the path, which begins in the working folder if it is relative")
    if path.suffix != ".py":
        raise BadInput(f"{field}: {name}: {path} is no Python file; its name must end in .py")
    # So that the file may import its neighbours; last, so that none of them hides an installed package.
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    module_name = f"uec_user_{path.stem}_{abs(hash(path)):x}"
    if module_name in sys.modules:
        return sys.modules[module_name]  # two functions of one file share what it holds
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise BadInput(f"{field}: {name}: {path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # dataclasses and pickle look a class's module up here
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[module_name]
        raise BadInput(f"{field}: {name}: importing {locate(error, str(path))}") from error
    return module


def _import_module(field: str, name: str, source: str) -> ModuleType:
    # Like `python -m`: modules of the working folder are found, after installed ones.
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    try:
        return importlib.import_module(source)
    except ModuleNotFoundError as error:
        if error.name and (source == error.name or source.startswith(f"{error.name}.")):
            raise BadInput(
                f"{field}: {name}: there is no module {error.name}, neither installed nor in {Path.cwd()}; "
                "give the file instead (path/to/file.py:name) or set PYTHONPATH"
            ) from error
        raise BadInput(f"{field}: {name}: importing {locate(error, '')}") from error
    except (Exception, SystemExit) as error:
        raise BadInput(f"{field}: {name}: importing {locate(error, '')}") from error


def locate(error: BaseException, file: str) -> str:
    """`Type: message (file:line)`: the innermost line in `file`, and where it was raised if that is elsewhere."""
    text = f"{type(error).__name__}: {_message(error)}"
    if isinstance(error, SyntaxError) and error.filename:
        return f"{type(error).__name__}: {error.msg} ({error.filename}:{error.lineno})"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<frozen")]
    ours = [frame for frame in frames if frame.filename == file]
    if not frames:
        return text
    inner = frames[-1]
    if not ours:
        return f"{text} ({inner.filename}:{inner.lineno})"
    at = f"{ours[-1].filename}:{ours[-1].lineno} in {ours[-1].name}"
    return f"{text} ({at})" if inner is ours[-1] else f"{text} ({at}; raised at {inner.filename}:{inner.lineno})"


def _message(error: BaseException) -> str:
    try:
        return str(error)[:500]
    except Exception as broken:  # a __str__ of the user's own
        return f"(its message cannot be read: {type(broken).__name__})"
