r"""Finds the answer that a response puts in \boxed{...}."""

import re

# An escaped character, brace or not, is consumed whole, so that `\{` opens nothing.
TOKEN = re.compile(r"\\boxed\s*\{|\\.|[{}]", re.DOTALL)


def last_box(text: str) -> str | None:
    r"""The content of the last-opened \boxed{...} whose braces balance, or None. One pass, whatever the text."""
    opened: list[int] = []  # where the content of each open brace begins; -1: a brace that is no box
    best: tuple[int, int] | None = None
    for token in TOKEN.finditer(text):
        if token[0] == "{":
            opened.append(-1)
        elif token[0] == "}":
            start = opened.pop() if opened else -1
            if start >= 0 and (best is None or start > best[0]):
                best = (start, token.start())
        elif token[0].startswith("\\boxed") and token[0].endswith("{"):
            opened.append(token.end())
    return None if best is None else text[best[0] : best[1]]
