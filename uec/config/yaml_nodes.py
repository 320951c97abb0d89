"""Compose YAML text into nodes, and refuse text that would never end, fill the memory, or hold Python objects.

A node is YAML before it has values. What a setting needs is small: the limits here are far above any config file.
"""

import re
import stat
from pathlib import Path

import yaml

from uec.brief import brief
from uec.errors import BadInput

LONGEST_FILE = 1 << 20
"""Bytes of a config file."""
DEEPEST = 20
"""Levels of sections, lists and mappings."""
MOST_NODES = 20_000
"""Values of a file, each alias counted as what it stands for: a few lines of aliases can stand for billions of values."""
PLAIN_TAGS = ("str", "int", "float", "bool", "null", "seq", "map", "merge", "timestamp", "value")
TAG = "tag:yaml.org,2002:"
DECIMAL = r"(0|[1-9][0-9_]*)?(\.[0-9_]*)?([eE][-+]?[0-9]+)?"
NUMBER = re.compile(rf"[-+]?({DECIMAL}|0x[0-9a-f_]+|\.inf|\.nan)", re.IGNORECASE)
"""The numbers of YAML 1.1 that mean what they look like: 010 would be 8, and 1:30 would be 90."""


class Unfit(yaml.MarkedYAMLError):
    """YAML that is well formed and that no config may hold."""


def read_text(path: Path, subject: str) -> str:
    """Return the text of a config file. Raises BadInput; `subject` begins the message.

    A named pipe and a device are refused, because reading them may never end.
    """
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            kind = "a folder" if stat.S_ISDIR(mode) else "a named pipe" if stat.S_ISFIFO(mode) else "a device or a socket"
            raise BadInput(f"{subject} is {kind}; give a YAML file")
        if path.stat().st_size > LONGEST_FILE:
            size = path.stat().st_size >> 20
            raise BadInput(f"{subject} has {size} MiB; a config file has at most {LONGEST_FILE >> 20}: give a YAML file")
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise BadInput(f"{subject} does not exist (looked in {Path.cwd() if not path.is_absolute() else path.parent})") from None
    except OSError as error:
        raise BadInput(f"{subject} cannot be read: {error.strerror}; give a readable YAML file") from error
    except UnicodeDecodeError as error:
        raise BadInput(f"{subject} is not UTF-8 text (byte {error.start + 1}); save it as UTF-8") from error
    except ValueError as error:  # a zero byte in the path
        raise BadInput(f"{subject} cannot be read: {error}; correct the path") from error


def compose(text: str) -> yaml.Node | None:
    """Return the root node of YAML text, or None for empty text. Raises yaml.YAMLError."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except RecursionError:
        raise Unfit(problem=f"lists or mappings are nested more than {DEEPEST} levels deep") from None
    if node is not None:
        _count(node, {}, set(), 0)
    return node


def check_numbers(node: yaml.Node) -> None:
    """Raise Unfit for a number below the node that YAML reads to another base than ten or sixteen."""
    if isinstance(node, yaml.ScalarNode) and node.tag in (f"{TAG}int", f"{TAG}float") and not NUMBER.fullmatch(node.value):
        raise _unfit(node, f"YAML reads {brief(node.value)} to another base than ten; write a decimal number, or put quotes around a text")
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            check_numbers(item)
    elif isinstance(node, yaml.MappingNode):
        for _, item in node.value:
            check_numbers(item)


def _count(node: yaml.Node, known: dict[int, int], open_nodes: set[int], depth: int) -> int:
    """Return the number of values below a node, with aliases written out. Raises Unfit."""
    if id(node) in open_nodes:
        raise _unfit(node, "a value contains itself by an alias (*); write the values out")
    if depth > DEEPEST:
        raise _unfit(node, f"lists or mappings are nested more than {DEEPEST} levels deep")
    if id(node) in known:
        return known[id(node)]
    kind = node.tag.removeprefix(TAG)
    if kind not in PLAIN_TAGS:
        raise _unfit(node, f"the tag {node.tag.replace(TAG, '!!')[:60]!r} is not allowed; write plain text, numbers, lists and mappings")
    children: list[yaml.Node] = []
    if isinstance(node, yaml.SequenceNode):
        children = node.value
    elif isinstance(node, yaml.MappingNode):
        children = [part for pair in node.value for part in pair]
    total = 1
    for child in children:
        total += _count(child, known, open_nodes | {id(node)}, depth + 1)
        if total > MOST_NODES:
            raise _unfit(node, f"this stands for more than {MOST_NODES} values; write out what you need, with fewer aliases (*)")
    known[id(node)] = total
    return total


def _unfit(node: yaml.Node, problem: str) -> Unfit:
    return Unfit(problem=problem, problem_mark=node.start_mark)


def foreign_digits(value: object) -> bool:
    """Return whether a text has digits of another script than 0 to 9, which Python's int() and float() would read."""
    return isinstance(value, str) and re.search(r"\d", value) is not None and not value.isascii()
