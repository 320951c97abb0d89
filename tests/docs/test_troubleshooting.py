"""docs/troubleshooting.md has a row for each message that the code has for a person, and no row for one that it has not.

What a message is, and how it is read off the source, is tests/support/messages.py. The page quotes messages the same way, so that page and
code are compared as two sets.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.messages import Message, messages, of_python, of_shell, squeezed

PROJECT = Path(__file__).resolve().parents[2]
PAGE = "docs/troubleshooting.md"
FOREIGN = "## From the libraries below"
"""Rows below this heading quote other people's code."""
QUOTE = re.compile(r"(`+)(.+?)(?<!`)\1(?!`)")


@pytest.fixture(scope="module")
def said() -> list[Message]:
    return list(messages(PROJECT))


@pytest.fixture(scope="module")
def page() -> str:
    return (PROJECT / PAGE).read_text()


def rows(page: str) -> Iterator[tuple[int, str, str]]:
    """(line, message cell, advice) of each row of each table."""
    for number, line in enumerate(page.splitlines(), 1):
        if line.startswith("|") and not line.startswith(("|---", "| message |")):
            cells = re.split(r"(?<!\\)\|", line)
            assert len(cells) == 4, f"{PAGE}:{number}: a row has two cells; a | inside one is written \\|"
            yield number, cells[1].strip(), cells[2].strip()


def quotes(cell: str) -> list[str]:
    """The messages in a cell: what stands between backticks, two of them where the message has some."""
    return [squeezed(text.replace("\\|", "|")) for _, text in QUOTE.findall(cell)]


def quoted(text: str) -> str:
    """A message as a cell has it."""
    text = text.replace("|", "\\|")
    return f"`` {text} ``" if "`" in text else f"`{text}`"


def lacking(said: list[Message], page: str) -> str:
    """Rows to paste for the messages that the page has not, each below the place in the code that says it."""
    there = {text for _, cell, _ in rows(page.partition(FOREIGN)[0]) for text in quotes(cell)}
    places: dict[str, list[str]] = {}
    for message in said:
        if message.text is not None and message.text not in there:
            places.setdefault(message.text, []).append(message.where)
    return "\n".join(f"{', '.join(where)}\n| {quoted(text)} | CAUSE AND REMEDY |" for text, where in places.items())


def stale(said: list[Message], page: str) -> str:
    """The quotes that no message has, with their lines in the page."""
    texts = {message.text for message in said}
    own = rows(page.partition(FOREIGN)[0])
    return "\n".join(f"{PAGE}:{line}: {text}" for line, cell, _ in own for text in quotes(cell) if text not in texts)


def test_each_message_of_the_code_has_a_row(said: list[Message], page: str) -> None:
    rows_to_add = lacking(said, page)
    assert not rows_to_add, f"{PAGE} lacks these. Paste each row into the section where one meets it:\n{rows_to_add}"


def test_each_row_quotes_a_message_that_there_is(said: list[Message], page: str) -> None:
    gone = stale(said, page)
    assert not gone, f"the code says these no more. Correct the quotes, or remove the rows:\n{gone}"


def test_each_message_can_be_read_off_the_source(said: list[Message]) -> None:
    unread = "\n".join(message.where for message in said if message.text is None)
    advice = "Give it words of its own where it is raised, or list it in ELSEWHERE of tests/support/messages.py"
    assert not unread, f"these have no text in the source. {advice}:\n{unread}"


def test_each_row_gives_advice_and_no_message_stands_twice(page: str) -> None:
    texts = [text for _, cell, _ in rows(page) for text in quotes(cell)]
    assert len(texts) > 300
    assert {text for text in texts if texts.count(text) > 1} == set()
    assert [f"{PAGE}:{line}" for line, cell, advice in rows(page) if not quotes(cell) or len(advice) < 20 or "CAUSE AND" in advice] == []
    assert [f"{PAGE}:{line}" for line, cell, _ in rows(page) if re.sub(r"<br>|\s", "", QUOTE.sub("", cell))] == [], "only messages there"


def test_the_contents_name_each_section(page: str) -> None:
    sections = re.findall(r"^## (.+)$", page, re.MULTILINE)
    anchors = [f"- [{section}](#{re.sub(r'[^a-z0-9 -]', '', section.lower()).replace(' ', '-')})" for section in sections]
    assert re.findall(r"^- \[.*\]\(#.*\)$", page, re.MULTILINE) == anchors


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ('raise BadInput(f"{name} has {n:.2f} rows")', "… has … rows"),
        ('raise RunFailed(f"{a}{b}: too many" + (f"; see {c}" if c else ""))', "…: too many…"),
        ('def f():\n    text = f"no {thing}"\n    raise RunFailed(text)', "no …"),
        ('tracker.event(f"{member} is back")', "… is back"),
        ('problems.append("two\\nlines")', "two lines"),
        ('yield f"{_given(cfg, \'rollout.n\')} is odd"', "rollout.n=… is odd"),
        ('def notes(cfg):\n    return [f"{key} does nothing"]', "… does nothing"),
        ('def f(found):\n    raise BadInput(found)', None),
    ],
)  # fmt: skip
def test_a_message_is_its_text_with_dots_for_what_varies(code: str, text: str | None) -> None:
    (found,) = of_python("uec/validate_it.py", code)
    assert found.text == text


def test_a_scripts_die_is_read_too() -> None:
    (found,) = of_shell("launch/it.sh", '[ -e x ] ||\n    die "no $name in ${place:-here}, $(tail -n 1 log)"\n')
    assert found == Message("no … in …, …", "launch/it.sh:2")


def test_a_new_message_and_a_row_of_an_old_one_are_named_with_their_places() -> None:
    page = "| message | what |\n|---|---|\n| `old …` | It was once said by the code. |\n| `` a `b` \\| c `` | This one still is. |\n"
    said = [Message("a `b` | c", "uec/a.py:1"), Message("new …", "uec/b.py:7"), Message("new …", "uec/c.py:9")]
    assert lacking(said, page) == "uec/b.py:7, uec/c.py:9\n| `new …` | CAUSE AND REMEDY |"
    assert stale(said, page) == f"{PAGE}:3: old …"
