"""The pages of docs/troubleshooting/ have an entry for each message of the code, and no entry for a message that no longer exists.

tests/support/messages.py defines what a message is, and reads the messages from the source. The pages quote whole messages in the same
form, so that the tests compare pages and code as two sets.

An entry is one line `- MESSAGE` or more of them, followed by one line `  - ADVICE`.
"""

import ast
import re
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support.messages import (
    ELSEWHERE,
    EXCEPTIONS,
    LISTS,
    MAKERS,
    ROOTS,
    Message,
    messages,
    of_python,
    of_shell,
    squeezed,
)  # fmt: skip

PROJECT = Path(__file__).resolve().parents[2]
INDEX = "docs/troubleshooting.md"
FOLDER = "docs/troubleshooting"
FOREIGN = "From other libraries"
"""The section whose entries quote other people's code."""
QUOTE = re.compile(r"(`+)(.+?)(?<!`)\1(?!`)")


@dataclass
class Entry:
    """Messages, and the advice below them."""

    section: str
    messages: list[tuple[str, str]] = field(default_factory=list)
    """(place as page:line, text) of each."""
    advice: str | None = None


@pytest.fixture(scope="module")
def said() -> list[Message]:
    return list(messages(PROJECT))


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    """The text of each page by its path in the project."""
    return {path.relative_to(PROJECT).as_posix(): path.read_text() for path in sorted((PROJECT / FOLDER).glob("*.md"))}


def entries(pages: dict[str, str]) -> list[Entry]:
    """All entries of all pages. Refuse a line of a list that is neither one message nor the advice on the messages above it."""
    found: list[Entry] = []
    for page, text in pages.items():
        section, entry = "", None
        for number, line in enumerate(text.splitlines(), 1):
            if line.startswith("- "):
                quote = QUOTE.fullmatch(line[2:])
                assert quote, f"{page}:{number}: a message stands alone between backticks, two of them where it contains some"
                if entry is None:
                    entry = Entry(section)
                    found.append(entry)
                entry.messages.append((f"{page}:{number}", squeezed(quote[2])))
            elif line.startswith("  - "):
                assert entry, f"{page}:{number}: there is no message above this advice"
                entry.advice, entry = line[4:].strip(), None
            else:
                assert entry is None, f"{page}:{number}: the message above has no advice"
                section = line[3:] if line.startswith("## ") else section
    return found


def quoted(text: str) -> str:
    """A message as a page quotes it."""
    return f"`` {text} ``" if "`" in text else f"`{text}`"


def quotes(pages: dict[str, str]) -> list[tuple[str, str]]:
    """(place, text) of each message of our code in the pages."""
    return [quote for entry in entries(pages) if entry.section != FOREIGN for quote in entry.messages]


def lacking(said: list[Message], pages: dict[str, str]) -> str:
    """Entries to paste for the messages that no page has, each below the places in the code that have the message."""
    there = {text for _, text in quotes(pages)}
    places: dict[str, list[str]] = {}
    for message in said:
        if message.text is not None and message.text not in there:
            places.setdefault(message.text, []).append(message.where)
    return "\n".join(f"{', '.join(where)}\n- {quoted(text)}\n  - CAUSE AND REMEDY" for text, where in places.items())


def stale(said: list[Message], pages: dict[str, str]) -> str:
    """The quotes that no message of the code has, with their places in the pages."""
    texts = {message.text for message in said}
    return "\n".join(f"{place}: {text}" for place, text in quotes(pages) if text not in texts)


def anchors(text: str) -> list[str]:
    """The link target of each section of a page."""
    return [re.sub(r"[^a-z0-9 -]", "", section.lower()).replace(" ", "-") for section in re.findall(r"^## (.+)$", text, re.MULTILINE)]


def test_each_message_of_the_code_has_an_entry(said: list[Message], pages: dict[str, str]) -> None:
    to_add = lacking(said, pages)
    assert not to_add, f"{FOLDER} lacks these. Paste each entry into the section where a user meets the message:\n{to_add}"


def test_each_entry_quotes_a_message_that_there_is(said: list[Message], pages: dict[str, str]) -> None:
    gone = stale(said, pages)
    assert not gone, f"the code no longer has these messages. Correct the quotes, or remove them:\n{gone}"


def test_each_message_can_be_read_off_the_source(said: list[Message]) -> None:
    unread = "\n".join(message.where for message in said if message.text is None)
    advice = "Begin the message with words where it is raised, or list it in ELSEWHERE of tests/support/messages.py"
    assert not unread, f"these have no text in the source. {advice}:\n{unread}"


def test_each_name_by_which_messages_are_found_is_used_in_the_code() -> None:
    files = [path for root in ROOTS for path in (PROJECT / root).rglob("*.py")]
    code = "\n".join(ast.unparse(ast.parse(path.read_text())) for path in files)
    uses = [*(f"{name}(" for name in EXCEPTIONS), *(f"{name}.append(" for name in LISTS), *(f"def {name}(" for name in MAKERS), *ELSEWHERE]
    assert [use for use in uses if use not in code] == [], "renamed in the code: its messages would be missed in silence"


def test_each_entry_gives_advice_and_no_message_stands_twice(pages: dict[str, str]) -> None:
    texts = [text for entry in entries(pages) for _, text in entry.messages]
    assert len(texts) > 300
    assert {text for text in texts if texts.count(text) > 1} == set()
    advice = {entry.messages[0][0]: entry.advice for entry in entries(pages)}
    assert [place for place, text in advice.items() if text is None or len(text) < 20 or "CAUSE AND" in text] == []


def test_the_contents_name_each_section_of_each_page(pages: dict[str, str]) -> None:
    linked = re.findall(r"^- \[(.*)\]\((troubleshooting/.*)\)$", (PROJECT / INDEX).read_text(), re.MULTILINE)
    sections = {page: re.findall(r"^## (.+)$", text, re.MULTILINE) for page, text in pages.items()}
    there = {
        (name, f"{page.removeprefix('docs/')}#{anchor}")
        for page, names in sections.items()
        for name, anchor in zip(names, anchors(pages[page]), strict=True)
    }
    assert len(linked) == len(there) and set(linked) == there


def test_every_link_of_the_pages_leads_to_a_file_and_a_section(pages: dict[str, str]) -> None:
    links = [(page, *link) for page, text in pages.items() for link in re.findall(r"\]\(([^)#\s]*)#?([^)\s]*)\)", text)]
    assert len(links) > 10
    for page, file, anchor in links:
        target = (PROJECT / page).parent / file if file else PROJECT / page
        assert target.is_file(), f"{page}: {file}"
        assert not anchor or anchor in anchors(target.read_text()), f"{page}: {file}#{anchor}"


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
    (found,) = of_python("uec/config/validate_it.py", code)
    assert found.text == text


def test_a_scripts_die_is_read_too() -> None:
    (found,) = of_shell("launch/it.sh", '[ -e x ] ||\n    die "no $name in ${place:-here}, $(tail -n 1 log)"\n')
    assert found == Message("no … in …, …", "launch/it.sh:2")


def test_a_new_message_and_an_entry_of_an_old_one_are_named_with_their_places() -> None:
    page = "## Here\n\n- `old …`\n  - The code had it once.\n- `` a `b` | c ``\n  - The code still has it.\n"
    page += f"\n## {FOREIGN}\n\n- `new …`\n  - It is another library's.\n"
    said = [Message("a `b` | c", "uec/a.py:1"), Message("new …", "uec/b.py:7"), Message("new …", "uec/c.py:9")]
    assert lacking(said, {"page.md": page}) == "uec/b.py:7, uec/c.py:9\n- `new …`\n  - CAUSE AND REMEDY"
    assert stale(said, {"page.md": page}) == "page.md:3: old …"


@pytest.mark.parametrize("page", ["- `a` and more\n  - Some advice.\n", "- `a`\n\nSome advice.\n", "  - Some advice.\n"])
def test_a_line_that_is_no_entry_is_refused(page: str) -> None:
    with pytest.raises(AssertionError, match=r"page\.md:\d: "):
        entries({"page.md": page})
