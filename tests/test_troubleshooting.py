"""docs/troubleshooting.md has a row for each message that the code raises, and no other row.

A message is read off the source, not off a run: its text with `…` for whatever is filled in. The page quotes it the same way, so that
page and code can be compared as two sets.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

PAGE = "docs/troubleshooting.md"
FOREIGN = "## From the libraries below"
"""Rows behind this heading quote other people's code."""
ROOTS = ("uec", "actors", "launch", "bench")

RAISED = ("BadInput", "RunFailed", "GradingError")
MAKERS = ("_not_started", "account", "notes", "dropped", "_apply")
"""Functions whose return value is a message, or a list of some."""

PASSED_ON = {
    ("uec/config_file.py", r"'\n'.join(dict.fromkeys(problems))"): "each problem is a message by itself",
    ("uec/validate.py", r"'\n'.join(problems)"): "each problem is a message by itself",
    ("uec/rewards/process.py", "str(answer[-1])"): "the BadInput of load_reward in the grading process",
    ("uec/rewards/process.py", "f'{entry!r:.200}'"): "part of `its grading process sent no result but …`",
    ("uec/rewards/pool.py", "result.error"): "the error of a Result",
    ("uec/validate_algorithm.py", "str(error)"): "the BadInput of load_estimator and load_policy_loss",
    ("actors/checkpoint.py", "supervisor.account(supervisor.replay, error)"): "Supervisor.account",
    ("actors/image_store.py", "self.supervisor.account(asked.worker, error)"): "Supervisor.account",
    ("actors/learner_group.py", "self.supervisor.account(rank, error)"): "Supervisor.account",
    ("actors/stabiliser.py", "self.supervisor.account(replay, error)"): "Supervisor.account",
    ("actors/stream.py", "self.supervisor.account(grader, error)"): "Supervisor.account",
    ("actors/supervisor.py", "self._not_started([starts[task] for task in pending])"): "Supervisor._not_started",
    ("actors/supervisor.py", "self.account(starts[task], error)"): "Supervisor.account",
    ("actors/supervisor.py", "self.account(member, error)"): "Supervisor.account",
}
"""Texts made elsewhere, by file and expression, and where: without a word of their own there is nothing to find."""


@dataclass(frozen=True)
class Message:
    """What the code says, with … for what varies, and where."""

    text: str
    where: str


# --- from the code


class Source:
    """A Python file whose messages are read."""

    def __init__(self, name: str, code: str) -> None:
        self.name = name
        self.tree = ast.parse(code)
        self.inside: dict[ast.AST, ast.AST] = {child: node for node in ast.walk(self.tree) for child in ast.iter_child_nodes(node)}

    def messages(self) -> Iterator[Message]:
        for node in ast.walk(self.tree):
            for said in self._said(node):
                text = squeezed(self._text(said))
                if re.search(r"\w", text):
                    yield Message(text, f"{self.name}:{said.lineno}")
                elif not isinstance(said, ast.Constant) and (self.name, ast.unparse(said)) not in PASSED_ON:
                    yield Message(f"(passed on: {ast.unparse(said)})", f"{self.name}:{said.lineno}")

    def passed_on(self) -> set[tuple[str, str]]:
        return {(self.name, ast.unparse(said)) for node in ast.walk(self.tree) for said in self._said(node)}

    def _said(self, node: ast.AST) -> Iterator[ast.expr]:
        """The expressions that this node makes known as messages."""
        match node:
            case ast.Raise(exc=ast.Call(func=ast.Name(), args=[first, *_])):
                yield first
            case ast.Call(func=ast.Name(id=name), args=[first, *_]) if name in RAISED and not isinstance(self.inside[node], ast.Raise):
                yield first
            case ast.Call(func=ast.Attribute(attr="event"), args=[first]):
                if not isinstance(first, ast.Name):  # a name: a note or a sink's line, said where it is made
                    yield first
            case ast.Call(func=ast.Attribute(attr="append", value=place), args=[first]) if "problems" in ast.unparse(place).split("."):
                if not isinstance(first, ast.Call):
                    yield first
            case ast.Call(func=ast.Attribute(attr="append", value=ast.Name(id="said")), args=[first]):
                yield first
            case ast.Call(func=ast.Name(id="Result"), args=[ast.Constant(value=None), first, *_]):
                yield first
            case ast.Call(func=ast.Name(id="print"), args=[first], keywords=[*_, ast.keyword(arg="file")]):
                yield first
            case ast.Call(func=ast.Name(id="print"), args=[first]) if self.name.startswith("launch/") and "Mend" in ast.unparse(first):
                yield first
            case ast.Call(func=ast.Attribute(attr="exit", value=ast.Name(id="sys")), args=[ast.Constant() | ast.JoinedStr() as first]):
                yield first
            case ast.Yield(value=ast.expr() as first) if self.name.startswith("uec/validate"):
                yield first
            case ast.FunctionDef(name=name) if name in MAKERS:
                yield from self._returned(node)

    def _returned(self, maker: ast.FunctionDef) -> Iterator[ast.expr]:
        for node in ast.walk(maker):
            match node:
                case ast.Return(value=ast.List(elts=several)):
                    yield from several
                case ast.Return(value=ast.ListComp(elt=one)):
                    yield one
                case ast.Return(value=ast.JoinedStr() | ast.BinOp() as one):
                    yield one

    def _text(self, node: ast.expr, depth: int = 3) -> str:
        """As a person reads it, … where it cannot be known from the source."""
        match node:
            case ast.Constant(value=str() as text):
                return text
            case ast.JoinedStr(values=parts):
                return "".join(self._text(part, depth) for part in parts)
            case ast.FormattedValue(value=value):
                return self._text(value, depth)
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                return self._text(left, depth) + self._text(right, depth)
            case ast.Call(func=ast.Name(id="_given"), args=[_, ast.Constant(value=key)]):
                return f"{key}=…"
            case ast.Name(id=name) if depth:
                value = self._assigned(name, node)
                return "…" if value is None else self._text(value, depth - 1)
        return "…"

    def _assigned(self, name: str, at: ast.AST) -> ast.expr | None:
        """What a function's own name stands for, if it is assigned once."""
        while not isinstance(at, ast.FunctionDef | ast.AsyncFunctionDef):
            if at not in self.inside:
                return None
            at = self.inside[at]
        found: list[ast.expr] = []
        for node in ast.walk(at):
            match node:
                case ast.Assign(targets=[ast.Name(id=target)], value=value) if target == name:
                    found.append(value)
                case ast.Assign(targets=[ast.Tuple(elts=targets)], value=ast.Tuple(elts=values)):
                    found += [value for target, value in zip(targets, values, strict=True) if ast.unparse(target) == name]
                case ast.AugAssign(target=ast.Name(id=target)) | ast.For(target=ast.Name(id=target)) if target == name:
                    return None
        return found[0] if len(found) == 1 else None


def shell_messages(name: str, code: str) -> Iterator[Message]:
    """The texts that a script's `die` is given."""
    for pattern in (r"\$\(\([^()\n]*\)\)", r"\$\([^()\n]*\)", r"\$\{[^}\n]*\}", r"\$\w+"):
        code = re.sub(pattern, "…", code)
    for call in re.finditer(r'\bdie((?:\s+(?:\\\n\s*)?"[^"]*")+)', code):
        for said in re.findall(r'"([^"]*)"', call[1]):
            yield Message(squeezed(said), f"{name}:{code.count(chr(10), 0, call.start()) + 1}")


def squeezed(text: str) -> str:
    """On one line, with one … for several in a row."""
    return re.sub(r"…{2,}", "…", " ".join(text.split()))


@pytest.fixture(scope="module")
def code(project: Path) -> list[Message]:
    return list(messages_of(project))


def messages_of(project: Path) -> Iterator[Message]:
    for root in ROOTS:
        for path in sorted((project / root).rglob("*.py")):
            name = path.relative_to(project).as_posix()
            yield from Source(name, path.read_text()).messages()
        for path in sorted((project / root).rglob("*.sh")):
            yield from shell_messages(path.relative_to(project).as_posix(), path.read_text())


# --- from the page


def rows_of(page: str) -> list[tuple[int, str, str]]:
    """(line, message cell, advice) of each row of each table."""
    found = []
    for number, line in enumerate(page.splitlines(), 1):
        cells = re.split(r"(?<!\\)\|", line)
        if line.startswith("|") and not set(line) <= set("|- ") and not line.startswith("| message |"):
            assert len(cells) == 4, f"{PAGE}:{number}: two cells a row"
            found.append((number, cells[1].strip(), cells[2].strip()))
    return found


def quoted(cell: str) -> list[str]:
    """The messages in a cell: code spans, in double backticks where they hold some."""
    return [squeezed(text.replace("\\|", "|")) for _, text in re.findall(r"(`+)(.+?)(?<!`)\1(?!`)", cell)]


@pytest.fixture(scope="module")
def page(project: Path) -> str:
    return (project / PAGE).read_text()


def as_quoted(text: str) -> str:
    """How the page has to quote a message."""
    text = text.replace("|", "\\|")
    return f"`` {text} ``" if "`" in text else f"`{text}`"


# --- both


def test_each_message_of_the_code_has_its_row(code: list[Message], page: str) -> None:
    there = {text for _, cell, _ in rows_of(page.partition(FOREIGN)[0]) for text in quoted(cell)}
    missing = [message for message in code if message.text not in there]
    assert not missing, f"{PAGE} lacks {len(missing)} messages; add a row with cause and remedy for each:\n" + "\n".join(
        f"{message.where}\n| {as_quoted(message.text)} |  |" for message in missing
    )


def test_each_row_quotes_a_message_that_there_is(code: list[Message], page: str) -> None:
    said = {message.text for message in code}
    stale = [
        f"{PAGE}:{line}: {text}" for line, cell, _ in rows_of(page.partition(FOREIGN)[0]) for text in quoted(cell) if text not in said
    ]
    assert not stale, f"{len(stale)} quoted messages are not in the code any more; remove or correct them:\n" + "\n".join(stale)


def test_each_row_says_something_and_no_message_stands_twice(page: str) -> None:
    rows = rows_of(page)
    assert all(quoted(cell) and len(advice) > 10 for _, cell, advice in rows), [row for row in rows if not quoted(row[1]) or not row[2]]
    assert not [cell for _, cell, _ in rows if re.sub(r"(`+)(.+?)(?<!`)\1(?!`)|<br>|\s", "", cell)], "only messages in the first column"
    texts = [text for _, cell, _ in rows for text in quoted(cell)]
    assert not {text for text in texts if texts.count(text) > 1}
