"""The final answer of a response in prose, as a quantity, a choice or a text, and its comparison with a reference.

What stands before and behind a number is read too: the number counts only where it is the whole answer, so neither `5x`, `10:30`,
`2-5`, `5 or 6` nor `not 5` is 5.
"""

import re

from uec.rewards.answer_text import comparable, final_answer, fold, plain
from uec.rewards.quantity import JOINING, Quantity, equal, read_number, read_unit, read_whole, with_unit

LONGEST_TEXT = 1000  # beyond twice the reference: longer answers are not compared as texts

# Where the answer ends and its explanation begins: `15, as 3 * 5 shows`, `15. Since 3 < 5`.
EXPLAINED = re.compile(
    r"[,;(]?\s*(?:[-:]\s)?\b(?:because|since|as|which|where|so that|given|due to|but not|not)\b.*|(?<=[\w)%°\]])[.!?]\s.*"
    r"|[,;]\s(?!\s*[-+$(]*[0-9]|\s*(?:or|and|to|maybe|perhaps)\b).*",
    re.DOTALL,
)
HEDGED = re.compile(
    r"\b(?:or|to|through|until|and|versus|vs|maybe|perhaps|alternatively|possibly)\b[^0-9]{0,30}[0-9]|^\s*[,;]\s*[-+$(]*\.?[0-9]"
    r"|^\s*(?:in|of|per)\s+[0-9]|\bmod(?:ulo)?\b"
    r"|\b(?:or|maybe|perhaps|alternatively)\b",
    re.IGNORECASE,
)
# Words in front of a number that make another answer of it, at most two words before it.
CHANGED = re.compile(
    r"(?:\b(?:not|never|neither|nor|cannot|no|wrong|unlikely|hardly|but|except|without|incorrect|either|or|from|between|base"
    r"|(?:less|more|fewer|greater|larger|smaller) than|at least|at most|up to|below|under|above|exceeds|twice|thrice|double|triple|half"
    r"|(?:half|root|square|cube|power|sum|product) of|plus|times|minus|divided by|multiplied by|modulo|mod|log|ln|sin|cos|tan|exp|sqrt)"
    r"|n't)(?:\s+[^\W\d]+){0,2}\s*[($]*$",
    re.IGNORECASE,
)
# `x = 3, y = 4`; and in front of the last number of a response: `2 to `, `between 2 and `, `5, `.
SEVERAL = re.compile(r"\b[A-Za-z]\w?\s*=[^=]*(?:[,;]|\bor\b|\band\b)\s*[A-Za-z]\w?\s*=")
NOT_FIRST = re.compile(r"[0-9]\s*(?:to|or|through|until)\s*$|\bbetween\b[^.]*[0-9]\s*and\s*$|^(?:[-+.0-9]+\s*[,;]\s*)+$", re.IGNORECASE)
TAKEN_BACK = re.compile(
    r"[\s.,;!?)-]*(?:(?:or|maybe|perhaps|alternatively|wait|hmm|actually|sorry|correction|i mean)\b|no\s*[,.:!])", re.IGNORECASE
)
CALCULATES = set("than times plus minus divided squared cubed mod or to versus vs x y z through until root pi power".split())
SPACED_SIGN = re.compile(r"[^\W\d_]{2,}$")
NUMBER_START = re.compile(r"[0-9]|\.[0-9]|(?<![^\W\d_])[0-9A-F]+_")
LEADING = re.compile(
    r"\s*(?:(?:about|approximately|approx\.?|exactly|equal to|just|only|simply|probably|that|the number|:)\s+)*", re.IGNORECASE
)
CHOICE = re.compile(
    r"(?:(?:option|choice|answer)\s+)?(?:\(\s*([A-Z])\s*\)|([A-Z]))(?![^\W_]|['-]\w|\+)(?P<rest>.*)", re.DOTALL | re.IGNORECASE
)
CAUSE = re.compile(r"\b(?:because|since|as|due to|for|given)\b")
ANOTHER_CHOICE = re.compile(r"\b(?:or|and|nor)\b|[,/&]\s*\(?[A-Z]\)?(?![^\W_])|(?<![^\W_])\([A-Z]\)|(?<![^\W_])[B-HJ-Z][).:]", re.ASCII)


def is_right(response: str, answer: str) -> bool:
    """Return whether the response's final answer equals the reference, as a text, a choice, a list or a quantity."""
    reference = reference_text(answer)
    text, marked = final_answer(response)
    if len(text) < 2 * len(reference) + LONGEST_TEXT and comparable(text) == comparable(reference) != "":
        return True
    if marked:
        letter = choice(reference)
        if letter is not None:
            return _chooses(text, letter, reference)
        items = list_items(reference)
        if items is not None:
            found = list_items(_clause(plain(text)))
            return found is not None and len(found) == len(items) and all(map(_same_item, items, found))
        if _agrees(plain(text), comparable(reference)):
            return True
    wanted = read_whole(plain(reference))
    if wanted is None:
        return False
    quantity = final_quantity(text, marked)
    return quantity is not None and equal(wanted, quantity)


def reference_text(answer: str) -> str:
    """Return the reference, folded; of raw GSM8K what follows `####`."""
    return fold(answer.rpartition("####")[2])


def final_quantity(text: str, marked: bool) -> Quantity | None:
    """Return the quantity that the final answer is: the first one of a marked text, else the last one; None if it is none."""
    if marked:
        return _first_quantity(plain(text))
    line = next((line for line in reversed(text.splitlines()) if re.search("[0-9]", line)), None)
    return None if line is None else _last_quantity(plain(line[-2000:]))


def _clause(text: str) -> str:
    """Return the part of a marked text that states the answer, without its explanation, behind the last `=`."""
    stated = EXPLAINED.sub("", text, count=1) or text
    return re.split(r"(?<![<>!])=(?![<>])|≈", stated)[-1]


def _first_quantity(text: str) -> Quantity | None:
    if SEVERAL.search(CAUSE.split(text, maxsplit=1)[0]):
        return None
    clause = _clause(text)
    clause = clause[LEADING.match(clause).end() :]  # type: ignore[union-attr]  # it matches the empty text
    words = read_number(clause)
    start = NUMBER_START.search(clause)
    if words is not None and (start is None or words[1] >= start.start()):
        at = 0
    elif start is None:
        return None
    else:
        at = _sign_start(clause, start.start())
    rest = text[text.find(clause) + len(clause) :] if clause else ""
    return _quantity_at(clause, at, rest)


def _last_quantity(line: str) -> Quantity | None:
    at, found = 0, -1
    while (start := NUMBER_START.search(line, at)) is not None:
        found = _sign_start(line, start.start())
        read = read_number(line, found)
        if read is None or read[1] <= start.start():
            at = start.start() + 1
            while at < len(line) and line[at].isdigit():
                at += 1
        else:
            at = read_unit(line, read[1])[1]
    return None if found < 0 or NOT_FIRST.search(line[:found]) else _quantity_at(line, found, "")


def _sign_start(text: str, digit: int) -> int:
    """Return where the number whose first digit is at `digit` begins: its sign and its currency belong to it."""
    before = re.search(r"(?:(?<![\w)])[-+])?(?:(?:US\$|[$€£¥₹₩])\s?[-+]?)?$", text[:digit])
    at = digit if before is None else before.start()
    if at == digit or not text[at:digit].strip():
        # `- 3` at the beginning of an answer, and `minus 3`
        sign = re.search(r"(?:^|[(:=]\s*)(?P<sign>[-+]\s+|(?:minus|negative)\s+)$", text[:digit], re.IGNORECASE)
        at = digit if sign is None else sign.start("sign")
    return at


def _quantity_at(text: str, at: int, beyond: str) -> Quantity | None:
    """Return the quantity at `at` if nothing around it makes another answer of it. `beyond` is the explanation that was cut off."""
    left = text[:at].rstrip()
    if left and not _stands_alone(left, text[len(left) : at] != ""):
        return None
    sentence = re.split(r"[.;!?]\s", left)[-1]
    if CHANGED.search(sentence):
        return None
    read = read_number(text, at)
    if read is None:
        return None
    quantity, end = read
    unit, after = read_unit(text, end)
    tail = text[after:]
    if not re.match(r"$|[.,;:!?)\]\"'*]+(?:\s|$)|\s*$|\s+[^\W\d_]{2,}|\s*\((?=[^\W\d_])|\s+-\s*[^\W\d_]{2,}|\s*[.!?)\]]+$", tail):
        return None
    word = re.match(r"\s+([^\W\d_]+)", tail)
    if word and word[1].lower() in CALCULATES:
        return None
    if word and not unit and word[1].lower() not in JOINING and word[1].lower() not in ("per", "each"):
        return None
    if re.match(r"\s*\.\.", tail) or HEDGED.search(re.split(r"(?<=[^\W\d_])[.!?]\s", tail)[0]):
        return None
    if TAKEN_BACK.match(beyond):
        return None
    if unit and re.match(r",?\s*(?:and\s+)?[0-9]", tail):
        return None  # 5 feet 6 inches
    return with_unit(quantity, unit)


def _stands_alone(left: str, spaced: bool) -> bool:
    """Return whether what stands before a number leaves it a number of its own."""
    last = left[-1]
    if last.isalnum():
        return spaced and (len(left) < 2 or left[-2].isalnum() or last in "aI" or last.isdigit())
    if last == ":":
        return spaced or not left[:-1][-1:].isdigit()
    if last == "-":
        return not spaced and SPACED_SIGN.search(left[:-1].rstrip()) is not None and not left[-2:-1].isalnum()
    if last == "=":
        return left[-2:-1] not in ("!", "<", ">")
    if last == "(":
        return not left[-2:-1].isalnum()
    return last not in "*/^_√×·+<>≤≥≠±|&\\~[{" or left == "~"


def choice(reference: str) -> str | None:
    """Return the letter of a reference that is a choice: `B`, `(B)`, `B)`, `B. Paris`; None if it is none."""
    match = re.fullmatch(r"\(?([A-J])(?:[).:](?:\s+.*)?)?", plain(reference).strip("$*\"' "), re.DOTALL)
    return match[1] if match else None


def chosen(text: str) -> tuple[str, str] | None:
    """Return the letter that an answer chooses and the text behind it, or None. `A dog` chooses nothing; `A, C` neither."""
    text = plain(text).strip("$*\"' ")
    match = CHOICE.match(text)
    if match is None:
        return None
    letter, rest = match[1] or match[2], match["rest"]
    named = match[1] is not None or re.match(r"(?:option|choice)\b", text, re.IGNORECASE) is not None
    if letter.islower() and not named and rest.strip(" .!)"):
        return None
    if not (named or re.match(r"\s*$|[).:](?:\s|$)|[.!,;](?:\s|$)|\s+[-(]", rest)):
        word = re.match(r"\s+([^\W\d_]+)", rest)
        if word is None or word[1].lower() not in JOINING:
            return None
    if ANOTHER_CHOICE.search(CAUSE.split(rest, maxsplit=1)[0]):
        return None
    return letter.upper(), rest.strip(" .):,;-!*")


def _chooses(text: str, letter: str, reference: str) -> bool:
    found = chosen(text)
    if found is None or found[0] != letter:
        return False
    wanted = plain(reference).strip("$*\"' (").removeprefix(letter).strip(" .):")
    return not wanted or not found[1] or comparable(found[1]) == comparable(wanted)


def list_items(text: str) -> list[str] | None:
    """Return the bracket and the items of a list (`[3, 4]`, `3, 4`, `3 and 4`), or None if the text is no list of two or more."""
    text = plain(text).strip().rstrip(".").strip()
    bracket = text[:1] + text[-1:] if text[:1] in "([{" and text[-1:] in ")]}" else ""
    inner = text[1:-1] if bracket else text
    if re.search(r"[()\[\]{}]", inner) or (not bracket and not re.search("[0-9]", inner)):
        return None
    items = re.split(r"\s*;\s*|,\s+(?:and\s+)?|\s+and\s+" if not bracket else r"\s*[,;]\s*", inner.strip())
    return None if len(items) < 2 or not all(items) else [bracket, *items]


def _same_item(wanted: str, found: str) -> bool:
    if comparable(wanted) == comparable(found):
        return True
    first, second = read_whole(plain(wanted)), read_whole(plain(found))
    return first is not None and second is not None and equal(first, second)


def _agrees(text: str, reference: str) -> bool:
    """Return whether the reference is yes, no, true or false, and the answer begins with it and then explains."""
    if reference not in ("yes", "no", "true", "false"):
        return False
    match = re.fullmatch(rf"{reference}\b(?P<stop>[,.;!:]|\s+-)?(?P<rest>.*)", text.casefold().strip("\"'* "), re.DOTALL)
    if match is None or re.search(r"\b(?:yes|no|true|false|or|but|not)\b", match["rest"]):
        return False
    first = re.search(r"[^\W\d_]+", match["rest"])
    return match["stop"] is not None or first is None or first[0] in JOINING
