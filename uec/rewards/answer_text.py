r"""From a response to the text of its final answer: thoughts, boxes, markers, tags, Unicode and LaTeX that only formats.

Every function takes one pass, or a bounded number of them, over any text.
"""

import re
import unicodedata

# An escaped character, brace or not, is consumed whole, so that `\{` opens nothing.
BOX_TOKEN = re.compile(r"\\(?:boxed|fbox)\s*\{|\\.|[{}]", re.DOTALL)
# What may stand between the boxes of one answer: `\boxed{3} and \boxed{5}`, `$\boxed{3}$, $\boxed{5}$`.
BETWEEN_BOXES = re.compile(r"[\s$]*(?:[,;&]|\b(?:and|or)\b|,\s*(?:and|or)\b)[\s$]*")
LONGEST_BETWEEN = 20
MOST_BOXES = 20
LONGEST_LINE = 10_000  # of a final answer; what is longer is no answer

SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻", "0123456789+-")
SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")
LETTERS = {
    **dict.fromkeys("−–‐‑‒﹣－", "-"),
    **dict.fromkeys("—―", " - "),
    **dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff\u00ad", ""),
    **dict.fromkeys("’‘′ʼ", "'"),
    **dict.fromkeys("“”″", '"'),
    **{"∕": "/", "⁄": "/", "∗": "*", "∙": "·", "⋅": "·"},
    **{"٫": ".", "٬": ",", "。": ".", "、": ",", "º": "°", "˚": "°", "℃": "°C", "℉": "°F"},
}


def fold(text: str) -> str:
    """Return the text with ASCII digits, signs and fractions: `５½` is `5 1/2`, `x²` is `x^2`, `1011₂` is `1011_2`, an en dash is `-`."""
    if text.isascii():
        return text
    text = re.sub("[⁺⁻]?[⁰¹²³⁴-⁹]+", lambda run: "^" + run[0].translate(SUPERSCRIPTS), text)
    text = re.sub("[₀-₉]+", lambda run: "_" + run[0].translate(SUBSCRIPTS), text)
    text = re.sub(r"(?<=\d)(?=[¼-¾⅐-⅞])", " ", text)
    return re.sub(r"[^\x00-\x7f]", lambda letter: _fold_letter(letter[0]), text)


def _fold_letter(letter: str) -> str:
    if letter in LETTERS:
        return LETTERS[letter]
    if letter.isdecimal():
        return str(unicodedata.decimal(letter))
    return unicodedata.normalize("NFKC", letter).replace("⁄", "/")


PROMPT_OPENS_THINK = "prompt_opens_think"
"""Key in a row for reward functions: True where the prompt ends with `<think>`, so that a response begins inside the thought."""


def without_thought(response: str) -> str:
    """Return what follows the thought; nothing if the thought is never closed."""
    if "<think>" not in response and "</think>" not in response:
        return response
    answer = response.rpartition("</think>")[2]
    return answer.partition("<think>")[0]


def boxes(text: str) -> list[tuple[int, int, int, int]]:
    r"""Return (start of the command, start and end of the content, end) of each box whose braces balance, by start."""
    opened: list[tuple[int, int]] = []  # where command and content of each open brace begin; -1: a brace that is no box
    found = []
    for token in BOX_TOKEN.finditer(text):
        if token[0] == "{":
            opened.append((-1, -1))
        elif token[0] == "}":
            command, start = opened.pop() if opened else (-1, -1)
            if start >= 0:
                found.append((command, start, token.start(), token.end()))
        elif token[0].endswith("{") and token[0] != "\\{":
            opened.append((token.start(), token.end()))
    return sorted(found)


def last_box(text: str) -> str | None:
    r"""Return the content of the last-opened \boxed{...} or \fbox{...} whose braces balance, or None."""
    found = boxes(text)
    return None if not found else text[found[-1][1] : found[-1][2]]


def boxed_answer(text: str) -> str | None:
    r"""Return the content of the last box, with those of the boxes that a comma, `and` or `or` joins to it, or None."""
    found = boxes(text)
    if not found:
        return None
    found = found[-MOST_BOXES:]
    contents = [text[found[-1][1] : found[-1][2]]]
    for before, after in zip(reversed(found[:-1]), reversed(found[1:]), strict=True):
        between = text[before[3] : after[0]]
        if len(between) > LONGEST_BETWEEN or not BETWEEN_BOXES.fullmatch(between):
            break
        contents.insert(0, text[before[1] : before[2]])
    return ", ".join(dict.fromkeys(contents))


# `answer is`, `answer:`, `answer, then, is`, `answer to the question is`, a heading `### Answer`, and other languages.
MARKER = re.compile(
    r"(?<!#)####(?!#)"
    r"|\banswers?(?:\s*,[^,.:\n]{1,30},)?(?:\s+(?:to|for|of|here|in)\b[^.,:=\n]{0,40}?)?"
    r"\s*(?:(?:\b(?:is|are|was|equals|must\s+be|should\s+be|would\s+be)\b|(?P<negated>\bisn't\b|\b(?:cannot|can't)\s+be\b))(?:\s*[:=])?|[:=])"
    r"|^[ \t]*(?:\#{1,6}[ \t]*)?(?:the[ \t]+)?(?:final[ \t]+)?answer[ \t]*$"
    r"|(?:答案|答え|정답|回答)\s*(?:是|为|は|:)\s*:?"
    r"|\b(?:antwort|respuesta|réponse|resposta|risposta|ответ)\s*(?:\b(?:ist|lautet|es|est|è|é)\b\s*:?|:)",
    re.IGNORECASE | re.MULTILINE,
)
HINTS = ("####", "answer", "答", "정답", "回答", "antwort", "respuesta", "réponse", "resposta", "risposta", "ответ")
EMPHASIS = re.compile(r"(?<![\w)])\*\*|\*\*(?![\w(])|(?<!\w)__|__(?!\w)")
ANSWER_TAG = re.compile(r"<(?:final_)?answer>", re.IGNORECASE)
ANSWER_END = re.compile(r"</(?:final_)?answer>", re.IGNORECASE)
ALTERNATIVE = re.compile(r"\W*(?:or|alternatively|maybe|perhaps)\b", re.IGNORECASE)


def final_answer(response: str) -> tuple[str, bool]:
    """Return the folded text that holds the final answer, and whether a marker, a tag or a box points at it.

    The line that follows is kept if it offers an alternative, so that the answer is seen to be no single one.
    """
    text = fold(without_thought(response))
    if "**" in text or "__" in text:
        text = EMPHASIS.sub("", text)
    tags = list(ANSWER_TAG.finditer(text))
    if tags:
        text = ANSWER_END.split(text[tags[-1].end() :], maxsplit=1)[0]
    markers = _markers(text)
    if markers:
        if markers[-1]["negated"]:
            return "", True
        return _first_line(text[markers[-1].end() :]), True
    if tags:
        return _first_line(text), True
    box = boxed_answer(text)
    return (text, False) if box is None else (box, True)


def _markers(text: str) -> list[re.Match[str]]:
    """Return all matches of MARKER. It is tried only behind the first word of one, which is much faster to find."""
    small = text.lower()
    starts = [start for hint in HINTS if (start := small.find(hint)) >= 0]
    if not starts:
        return []
    first = 0 if len(small) != len(text) else text.rfind("\n", 0, min(starts)) + 1
    return list(MARKER.finditer(text, first))


def _first_line(text: str) -> str:
    """Return the first line that says something, clipped."""
    lines = iter(text.splitlines())
    first = next((line for line in lines if plain(line[:LONGEST_LINE]).strip("*_#:. ")), "")[:LONGEST_LINE]
    after = next((line for line in lines if line.strip()), "")
    return f"{first} {after[:LONGEST_LINE]}" if ALTERNATIVE.match(after) else first


COMMANDS = {
    **{"times": "*", "cdot": "*", "div": "/", "pi": "π", "degree": "°", "circ": "°", "approx": "≈", "infty": "∞", "pm": "±", "ne": "≠"},
    **{"neq": "≠", "le": "≤", "leq": "≤", "ge": "≥", "geq": "≥", "lt": "<", "gt": ">", "ldots": "...", "dots": "...", "sqrt": "√"},
    **dict.fromkeys(("left", "right", "displaystyle", "limits", "big", "Big", "bigl", "bigr"), ""),
    **dict.fromkeys(("quad", "qquad", "text", "textbf", "textit", "textrm", "mathrm", "mathbf", "mathit", "mbox", "boldsymbol"), " "),
    **dict.fromkeys(("boxed", "fbox", "textnormal", "operatorname", "mathsf", "bf", "rm", "bm", "emph", "underline"), " "),
}
COMMAND = re.compile(r"\\[a-zA-Z]+")
PIECE = r"\s*(?:\{\s*([^{}]*?)\s*\}|([0-9a-zA-Z]))"
FRACTION = re.compile(rf"\\[dtc]?frac{PIECE}{PIECE}")
TAG = re.compile(r"</?[A-Za-z][\w-]*(?:\s[^<>]*)?/?>")


def plain(text: str) -> str:
    r"""Return the text without LaTeX, tags and emphasis: `$\frac{1}{2}$` is `1/2`, `5\,\text{cm}` is `5 cm`, `40^\circ` is `40°`."""
    text = " ".join(text.split())
    if "<" in text:
        text = TAG.sub(" ", text)
    if "\\" in text or "~" in text or re.search(r"[_^]\{|\{,\}", text):
        text = re.sub(r"\{\s*,\s*\}(?=[0-9]{3}(?![0-9]))", ",", text)
        text = re.sub(r"\{\s*,\s*\}", ".", text)  # a decimal comma
        text = text.replace("\\!", "").replace("\\\\", " ").replace("~", " ")
        text = re.sub(r"\\[,;: ]", " ", text)
        text = re.sub(r"\\[()\[\]]", " ", text)
        text = re.sub(r"\\(?:overline|dot)\s*\{([0-9]+)\}", r"(\1)", text)  # a repeating decimal
        text = FRACTION.sub(_slash, text)
        text = text.replace("\\{", "⦃").replace("\\}", "⦄").replace("\\lbrace", "⦃").replace("\\rbrace", "⦄")
        text = re.sub(r"\\([%$#&_])", r"\1", text)
        text = COMMAND.sub(lambda command: COMMANDS.get(command[0][1:], command[0]), text)
        text = re.sub(r"([_^])\s*\{\s*\(?([-+]?\w*°?)\s*\)?\s*\}", r"\1\2", text)
        text = text.replace("^°", "°")
        if "\\" not in text:
            text = re.sub(r"\s+([_^])", r"\1", text.replace("{", " ").replace("}", " "))
        text = text.replace("⦃", "{").replace("⦄", "}")
    text = re.sub(r"(?<!\w)\(([0-9A-F]+)\)(?=_)", r"\1", text)  # (101)_2
    text = re.sub(r"(?<=[\w)])\*\*(?=[\w(+-])", "^", _without_dollars(text).replace("`", " "))
    return re.sub(r" (?=[.,;!?](?: |$))", "", " ".join(text.split()))


def _slash(fraction: re.Match[str]) -> str:
    above, below = fraction[1] or fraction[2] or "", fraction[3] or fraction[4] or ""
    bare = re.compile(r"[-+]?[\w.]+")
    above, below = (part if bare.fullmatch(part) else f"({part})" for part in (above, below))
    return f" {above}/{below} "


def _without_dollars(text: str) -> str:
    """Remove the `$` of formulas; one in front of a number, without a partner behind it, is a currency."""
    return re.sub(r"\$\$?([^$]*?[^$\s])\s*\$\$?", r" \1 ", text) if text.count("$") > 1 else re.sub(r"\$(?!\s*[-+]?[.0-9])", " ", text)


def comparable(text: str) -> str:
    """Return the plain text without case, outer punctuation, and spaces beside signs."""
    text = plain(text).strip("$*\"'# ").rstrip("!?,;: ")
    text = (text if text.endswith("...") else text.rstrip(".!?,;: ")).strip("$*\"' ").casefold()
    return re.sub(r"\s*([^\w\s.])\s*", r"\1", text)
