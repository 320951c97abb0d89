"""Every message of the code to its user, read from the source: the text, with `…` for each value that the code fills in.

`raise BadInput(f"{name} has {count} rows")` is the message `… has … rows`. A message is the text of an exception or of an event of
a run, a problem of a config, a note, a failed grading, a finding of the doctor, or a line on standard error.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOTS = ("uec", "actors", "launch", "bench")
EXCEPTIONS = ("BadInput", "RunFailed")  # and each name that ends in Error
LISTS = ("problems", "warnings", "advice")  # each text that is appended to a list of this name is a message
DOCTOR = ("uec/doctor", "actors/programs/doctor", "actors/programs/gpu")
MAKERS = ("_not_started", "account", "notes", "dropped", "_dropped", "_apply", "stop_note", "_how_to_continue", "instead_of")
"""Functions that return a message or a list of messages."""
ELSEWHERE = {
    "str(error)": "the text of an exception, passed on",
    "str(failure)": "`… failed: …; …`: who failed, why, and what the run did about it",
    "str(answer[-1])": "the BadInput of load_reward, in the grading process",
    "error": "the text of a grading process, passed on",
    "'\\n'.join(dict.fromkeys(problems))": "each problem is a message by itself",
    "'\\n'.join(problems)": "each problem is a message by itself",
    "'\\n'.join([f'uec: {lines[0]}', *(f'     {line}' for line in lines[1:])])": "uec.commands.cli shows an exception's text",
    "f'{entry!r:.200}'": "the end of `its grading process sent no result but …`",
    "f'{label} {done}/{total}'": "the progress of an evaluation, not a message",
    "f'{error}\\n{instead_of(named)}'": "the text of load_held_out, with the advice of instead_of",
    "said + [f'{result.bench} failed: {result.error}' for result in results if result.error]": "each part is a message by itself",
}
"""Texts without words, whose parts are found where the code makes them."""


@dataclass(frozen=True)
class Message:
    """A text (None where the source does not show it), and its place as file:line."""

    text: str | None
    where: str


def messages(project: Path) -> Iterator[Message]:
    """Yield the messages of all files under ROOTS."""
    for path in (path for root in ROOTS for path in sorted((project / root).rglob("*"))):
        name = path.relative_to(project).as_posix()
        if path.suffix == ".py":
            yield from of_python(name, path.read_text())
        elif path.suffix == ".sh":
            yield from of_shell(name, path.read_text())


def of_python(name: str, code: str) -> Iterator[Message]:
    """Yield the messages of a Python file."""
    tree = ast.parse(code)
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    for node in ast.walk(tree):
        for said in _said(node, name):
            text = squeezed(_text(said, parents))
            if re.search(r"\w", text):
                yield Message(text, f"{name}:{said.lineno}")
            elif not isinstance(said, ast.Constant) and not _is_elsewhere(said):
                yield Message(None, f"{name}:{said.lineno}: {ast.unparse(said)}")


def of_shell(name: str, code: str) -> Iterator[Message]:
    """Yield the arguments of a script's calls of `die`."""
    for variable in (r"\$\(\([^()\n]*\)\)", r"\$\([^()\n]*\)", r"\$\{[^}\n]*\}", r"\$\w+"):
        code = re.sub(variable, "…", code)
    for call in re.finditer(r'\bdie((?:\s+(?:\\\n\s*)?"[^"\n]+")+)', code):
        for text in re.findall(r'"([^"\n]*\w[^"\n]*)"', call[1]):
            yield Message(squeezed(text), f"{name}:{code.count(chr(10), 0, call.start()) + 1}")


def squeezed(text: str) -> str:
    """Join the lines, and replace several … in a row by one."""
    return re.sub(r"…{2,}", "…", " ".join(text.split()))


def _said(node: ast.AST, file: str) -> Iterator[ast.expr]:
    """Yield the texts that this node shows to the user."""
    match node:
        case ast.Call(func=ast.Name(id=name), args=[text, *_]) if name in EXCEPTIONS or name.endswith("Error"):
            yield text
        case ast.Call(func=ast.Attribute(attr="failure"), args=[text, *_]):
            yield text
        case ast.Call(func=ast.Name(id="fail" | "note"), args=[_, text, *_]) if file.startswith(DOCTOR):
            yield text
        case ast.Call(func=ast.Name(id="print"), args=[text], keywords=[*_, ast.keyword(arg="file")]):
            yield text
        case ast.Call(func=ast.Attribute(attr="exit", value=ast.Name(id="sys")), args=[ast.Constant() | ast.JoinedStr() as text]):
            yield text
        case ast.Call(func=ast.Attribute(attr="append", value=ast.Name(id=name) | ast.Attribute(attr=name)), args=[text]) if name in LISTS:
            if not isinstance(text, ast.Call):  # a call gives the place of a problem, not its text
                yield text
        case ast.Call(func=ast.Attribute(attr="event"), args=[text]) if not isinstance(text, ast.Name):  # a name stands for a note
            yield text
        case ast.Yield(value=ast.expr() as text) if file.startswith("uec/config/validate"):
            yield text
        case ast.FunctionDef(name=name) if name in MAKERS:
            for line in ast.walk(node):
                match line:
                    case ast.Return(value=ast.List(elts=texts)):
                        yield from texts
                    case ast.Return(value=ast.ListComp(elt=text)) | ast.Return(value=ast.JoinedStr() | ast.BinOp() as text):
                        yield text


def _is_elsewhere(said: ast.expr) -> bool:
    made = isinstance(said, ast.Call) and ast.unparse(said.func).rpartition(".")[2] in MAKERS
    return made or ast.unparse(said) in ELSEWHERE


def _text(node: ast.expr, parents: dict[ast.AST, ast.AST], depth: int = 3) -> str:
    """Return the text that a user reads, with … for values that only a run knows."""
    match node:
        case ast.Constant(value=str() as text):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(_text(part, parents, depth) for part in parts)
        case ast.FormattedValue(value=value):
            return _text(value, parents, depth)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _text(left, parents, depth) + _text(right, parents, depth)
        case ast.Call(func=ast.Name(id="_given"), args=[_, ast.Constant(value=key)]):
            return f"{key}=…"
        case ast.Name(id=name) if depth and (value := _assigned(name, node, parents)) is not None:
            return _text(value, parents, depth - 1)
    return "…"


def _assigned(name: str, at: ast.AST, parents: dict[ast.AST, ast.AST]) -> ast.expr | None:
    """Return the value of a name in its function, if the function assigns it exactly once."""
    while not isinstance(at, ast.FunctionDef | ast.AsyncFunctionDef):
        if at not in parents:
            return None
        at = parents[at]
    found: list[ast.expr | None] = []
    for node in ast.walk(at):
        match node:
            case ast.Assign(targets=[ast.Name(id=target)], value=value) if target == name:
                found.append(value)
            case ast.Assign(targets=[ast.Tuple(elts=targets)], value=ast.Tuple(elts=values)):
                found += [value for target, value in zip(targets, values, strict=True) if ast.unparse(target) == name]
            case ast.AugAssign(target=ast.Name(id=target)) | ast.For(target=ast.Name(id=target)) if target == name:
                found.append(None)
    return found[0] if len(found) == 1 else None
