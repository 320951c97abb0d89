"""Load the user's functions from `path/to/file.py:name` or `package.module:name`, and describe the errors that they raise.

In all functions, `field` is the config field that names the code, and is used in messages only.
"""

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
from uec.paths import check_path


def load_function(field: str, name: str, builtin: tuple[str, ...], wanted: str, arguments: int) -> Callable[..., Any]:
    """Import the user's code and return the function. Raises BadInput.

    `builtin`: names to suggest for a misspelt one; `wanted`: the signature for messages, with NAME for the function's name;
    `arguments`: the number of arguments that the function is called with.
    """
    module, function = load_module(field, name, builtin)
    wanted = wanted.replace("NAME", function)
    found = get_function(field, name, module, function, wanted)
    try:
        inspect.signature(found).bind(*[None] * arguments)
    except (TypeError, ValueError) as error:
        where = module.__file__ or module.__name__
        raise BadInput(f"{field}: {name}: {function} in {where} cannot be called ({error}); it must be {wanted}") from error
    return found


def get_function(field: str, name: str, module: ModuleType, function: str, wanted: str) -> Callable[..., Any]:
    """Return a function of a module. Raises BadInput if there is no such function, or if it is async or a generator."""
    where = module.__file__ or module.__name__
    if not hasattr(module, function):
        functions = [n for n, value in vars(module).items() if inspect.isfunction(value) and value.__module__ == module.__name__]
        raise BadInput(f"{field}: {name}: {where} has no function {function}; it has {', '.join(functions) or 'none at all'}")
    found = getattr(module, function)
    if not callable(found):
        raise BadInput(f"{field}: {name}: {function} in {where} is {type(found).__name__}, not a function")
    if inspect.iscoroutinefunction(found) or inspect.isgeneratorfunction(found):
        raise BadInput(f"{field}: {name}: {function} in {where} is async or yields; it must return its result: {wanted}")
    return found


def load_module(field: str, name: str, builtin: tuple[str, ...]) -> tuple[ModuleType, str]:
    """Import the module and return it with the function's name. Raises BadInput if it cannot be imported."""
    source, colon, function = name.rpartition(":")
    if not colon or not source or not function:
        near = difflib.get_close_matches(name, builtin, n=1)
        forms = f"{', '.join(builtin)}, path/to/file.py:name or package.module:name"
        raise BadInput(f"{field}: {name!r} is none of {forms}" + (f"; did you mean {near[0]}?" if near else ""))
    if is_path(source):
        check_path(source, field)
        return _import_file(field, name, Path(source).expanduser().resolve()), function
    return _import_module(field, name, source), function


def absolute_name(name: str) -> str:
    """Return the name with an absolute file path, for a process with another working directory."""
    source, colon, function = name.rpartition(":")
    return f"{Path(source).expanduser().resolve()}:{function}" if colon and is_path(source) else name


def is_path(source: str) -> bool:
    """Return whether the text before the colon is a file, not a module."""
    return source.endswith(".py") or "/" in source


def _import_file(field: str, name: str, path: Path) -> ModuleType:
    if not path.is_file():
        raise BadInput(f"{field}: {name}: there is no file {path}; correct the path (a relative one starts from the working directory)")
    if path.suffix != ".py":
        raise BadInput(f"{field}: {name}: {path} is not a Python file; its name must end in .py")
    # The file may import its neighbours. Their folder comes last, so that they hide no installed package.
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    module_name = f"uec_user_{path.stem}_{abs(hash(path)):x}"
    if module_name in sys.modules:
        return sys.modules[module_name]  # functions of one file share its globals
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise BadInput(f"{field}: {name}: {path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # dataclasses and pickle look up the module of a class here
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[module_name]
        raise BadInput(f"{field}: {name}: importing {describe_error(error, str(path))}") from error
    return module


def _import_module(field: str, name: str, source: str) -> ModuleType:
    # Modules in the working directory are found as with `python -m`, but after installed ones.
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
        raise BadInput(f"{field}: {name}: importing {describe_error(error, '')}") from error
    except (Exception, SystemExit) as error:
        raise BadInput(f"{field}: {name}: importing {describe_error(error, '')}") from error


def describe_error(error: BaseException, file: str) -> str:
    """Return `Type: message (file:line)` with the innermost line in `file`, and the line that raised the error if it is in another file."""
    text = f"{type(error).__name__}: {_message(error)}"
    if isinstance(error, SyntaxError) and error.filename:
        return f"{type(error).__name__}: {error.msg} ({error.filename}:{error.lineno})"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<frozen")]
    in_file = [frame for frame in frames if frame.filename == file]
    if not frames:
        return text
    raised = frames[-1]
    if not in_file:
        return f"{text} ({raised.filename}:{raised.lineno})"
    at = f"{in_file[-1].filename}:{in_file[-1].lineno} in {in_file[-1].name}"
    return f"{text} ({at})" if raised is in_file[-1] else f"{text} ({at}; raised at {raised.filename}:{raised.lineno})"


def _message(error: BaseException) -> str:
    """Return the first 500 characters of an error's message."""
    try:
        return str(error)[:500]
    except Exception as broken:  # the user's class has a broken __str__
        return f"(its message cannot be read: {type(broken).__name__})"
