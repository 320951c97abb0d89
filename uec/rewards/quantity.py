"""Numbers as people write them, with their units, read exactly: no value is rounded, and what follows a number is read too."""

import re
from dataclasses import dataclass
from fractions import Fraction

LONGEST_NUMBER = 400  # characters; longer ones are compared as texts
LARGEST_EXPONENT = 1000


@dataclass(frozen=True, slots=True)
class Quantity:
    """A value, its unit in a normal form (empty: none) and its number base."""

    value: Fraction
    unit: str = ""
    base: int = 10


def equal(wanted: Quantity, found: Quantity) -> bool:
    """Return whether two quantities are equal. A unit that only one of them has is ignored; `5%` equals `5` and `0.05`."""
    if wanted.base != found.base:
        return False
    if wanted.unit == found.unit:
        return wanted.value == found.value
    if wanted.unit and found.unit:
        return wanted.value == found.value and (_qualifies(wanted.unit, found.unit) or _qualifies(found.unit, wanted.unit))
    if wanted.value == found.value:
        return True
    percent, other = (wanted, found) if wanted.unit == "%" else (found, wanted)
    return percent.unit == "%" and percent.value == 100 * other.value


def _qualifies(unit: str, longer: str) -> bool:
    """Return whether `longer` is the unit and further words: `minute` and `minute long`, but not `N` and `N m`."""
    more = longer.removeprefix(f"{unit} ")
    return more != longer and len(more) > 2 and more.replace(" ", "").isalpha()


NUMBER = re.compile(
    r"(?P<thousands>[1-9][0-9]{0,2}(?:,[0-9]{3})+|[1-9][0-9]?(?:,[0-9]{2})+,[0-9]{3}"
    r"|[1-9][0-9]{0,2}(?: [0-9]{3})+|[1-9][0-9]{0,2}(?:'[0-9]{3})+)"
    r"(?![0-9])(?P<decimals>\.[0-9]+)?(?P<repeating>\([0-9]+\))?"
    r"|(?P<points>[1-9][0-9]{0,2}(?:\.[0-9]{3})+,[0-9]+|[1-9][0-9]{0,2}(?:\.[0-9]{3}){2,})(?![0-9.,])"
    r"|(?P<comma>[0-9]+,[0-9]+)(?![0-9.,])"
    r"|(?P<simple>[0-9]*\.(?=\([0-9])|[0-9]+(?:\.[0-9]+)?|\.[0-9]+)(?P<repeating2>\([0-9]+\))?"
)
CURRENCIES = {"$": "dollar", "us$": "dollar", "€": "euro", "£": "pound sterling", "¥": "yen", "₹": "rupee", "rs.": "rupee", "₩": "won"}
CURRENCY_BEHIND = re.compile(r"\s?([$€£¥₹₩])(?![\w.])")
SIGN = re.compile(r"\s*(?P<sign>[-+](?:\s*)|(?:negative|minus)\s+)?(?P<currency>US\$|[$€£¥₹₩]|Rs\.)?\s*(?P<sign2>[-+])?", re.IGNORECASE)
FRACTION = re.compile(r"\s?/\s?(?P<sign>-)?(?P<below>[0-9]+(?:\.[0-9]+)?)(?![0-9,.]*[0-9]|\s?/)")
MIXED = re.compile(r"(?: | ?(?:and|&) )(?P<above>[0-9]+)\s?/\s?(?P<below>[0-9]+)(?![0-9.]*[0-9]|\s?/)")
POWER = re.compile(r"(?:[eE](?P<e>[-+]?[0-9]+)|\s?[*×·x]\s?10\s?\^\s?[({]?(?P<ten>[-+]?[0-9]+)[)}]?)(?![0-9.]*[0-9]|[A-Za-z])")
TEN_POWER = re.compile(r"10\s?\^\s?[({]?(?P<ten>[-+]?[0-9]+)[)}]?(?![0-9.])")
BASED = re.compile(r"(?P<digits>[0-9]+|[0-9A-F]+)(?:_\s?[({]?|(?:\sin)?\s\(?base[ -])(?P<base>[0-9]{1,2}|[a-z]+)[)}]*(?![0-9A-Za-z])")
BASES = {"two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10, "twelve": 12, "sixteen": 16}
SCALE = re.compile(r"\s?(hundred|thousand|million|billion|trillion|dozen|万|亿|萬|億)(?![A-Za-z])", re.IGNORECASE)
SCALES = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9, "trillion": 10**12, "dozen": 12}
SCALES |= {"万": 10**4, "萬": 10**4, "亿": 10**8, "億": 10**8}
PERCENT = re.compile(r"\s?(?:%|per ?cent\b|percentage points?\b|percentage\b|pct\b)", re.IGNORECASE)
DEGREE = re.compile(r"\s?(?:°|degrees?\b)(?:\s?(?P<scale>C|F|K|celsius|fahrenheit)\b)?", re.IGNORECASE)
ORDINAL = re.compile(r"\^?(?:st|nd|rd|th)\b")
UNITS = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen"
TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
WORDS = {word: value for value, word in enumerate(UNITS.split())} | {word: 20 + 10 * i for i, word in enumerate(TENS.split())}
ONES = "|".join(UNITS.split()[1:10])
WORD = re.compile(rf"\s*(?:({'|'.join(TENS.split())})(?:[- ]({ONES}))?|({'|'.join(UNITS.split())}))\b", re.IGNORECASE)


def read_number(text: str, start: int = 0, *, decimal_comma: bool = True) -> tuple[Quantity, int] | None:
    """Return the number that begins at `start`, its sign and currency included, and where it ends; None if none begins there.

    `%`, a degree sign, a base and words such as `million` belong to the number; its unit does not. `decimal_comma`: `1,5` is 1.5;
    without it, it is a list.
    """
    lead = SIGN.match(text, start)
    if lead is None:
        return None
    negative = (lead["sign"] or "").strip().lower() in ("-", "negative", "minus") or lead["sign2"] == "-"
    at = lead.end()
    number: tuple[Fraction, int] | None
    based = BASED.match(text, at)
    if based:
        return _based(based, negative)
    if word := WORD.match(text, at):
        number = (Fraction(WORDS[(word[1] or word[3]).lower()] + WORDS.get((word[2] or "").lower(), 0)), word.end())
    else:
        number = _magnitude(text, at, decimal_comma)
    if number is None or number[1] - at > LONGEST_NUMBER:
        return None
    value, end = number
    unit = CURRENCIES.get((lead["currency"] or "").lower(), "")
    if scale := SCALE.match(text, end):
        value, end = value * SCALES[scale[1].lower()], scale.end()
    if percent := PERCENT.match(text, end):
        unit, end = "%", percent.end()
    elif currency := CURRENCY_BEHIND.match(text, end):
        unit, end = CURRENCIES[currency[1]], currency.end()
    elif degree := DEGREE.match(text, end):
        unit, end = "°" + (degree["scale"] or "")[:1].lower(), degree.end()
    elif ordinal := ORDINAL.match(text, end):
        end = ordinal.end()
    return Quantity(-value if negative else value, unit), end


def _based(match: re.Match[str], negative: bool) -> tuple[Quantity, int] | None:
    base = int(match["base"]) if match["base"].isdigit() else BASES.get(match["base"], 0)
    try:
        value = int(match["digits"], base) if 2 <= base <= 36 and len(match["digits"]) <= LONGEST_NUMBER else None
    except ValueError:
        return None  # a digit that the base does not have
    return None if value is None else (Quantity(Fraction(-value if negative else value), base=base), match.end())


def _magnitude(text: str, at: int, decimal_comma: bool) -> tuple[Fraction, int] | None:
    """Return a number without sign, a fraction, a mixed number, or one with a power of ten, and where it ends."""
    if power := TEN_POWER.match(text, at):
        return _scaled(Fraction(1), int(power["ten"]), power.end()) if len(power["ten"]) < 6 else None
    match = NUMBER.match(text, at)
    if match is not None and match["comma"] and not decimal_comma:
        match = re.compile(r"(?P<simple>[0-9]+)(?P<thousands>x)?(?P<points>x)?(?P<comma>x)?").match(text, at)
    if match is None or len(match[0]) > LONGEST_NUMBER:
        return None
    value, end = _digits(match), match.end()
    if power := POWER.match(text, end):
        digits = power["e"] or power["ten"]
        return _scaled(value, int(digits), power.end()) if len(digits) < 6 else None
    if fraction := FRACTION.match(text, end):
        below = Fraction(fraction["below"])
        if below == 0 or " " in match[0]:
            return None
        return (-value if fraction["sign"] else value) / below, fraction.end()
    if value.denominator == 1 and (mixed := MIXED.match(text, end)):
        part, whole = int(mixed["above"]), int(mixed["below"])
        return (value + Fraction(part, whole), mixed.end()) if 0 < part < whole and " " not in match[0] else None
    return value, end


def _scaled(value: Fraction, exponent: int, end: int) -> tuple[Fraction, int] | None:
    return (value * Fraction(10) ** exponent, end) if abs(exponent) <= LARGEST_EXPONENT else None


def _digits(match: re.Match[str]) -> Fraction:
    """Return the value of a match of NUMBER."""
    groups = match.groupdict()
    if groups["thousands"]:
        text = re.sub("[, ']", "", groups["thousands"]) + (groups["decimals"] or "")
    elif groups["points"]:
        text = groups["points"].replace(".", "").replace(",", ".")
    else:
        text = (groups["comma"] or groups["simple"]).replace(",", ".")
    value = Fraction("0" + text)
    repeating = groups.get("repeating") or groups.get("repeating2")
    if repeating and "." in match[0]:
        places = len(text.partition(".")[2])
        value += Fraction(int(repeating[1:-1]), (10 ** (len(repeating) - 2) - 1) * 10**places)
    elif repeating:
        value = value * int(repeating[1:-1])  # 5(3) is a product
    return value


SYNONYMS = {
    **{"centimeter": "cm", "centimetre": "cm", "meter": "m", "metre": "m", "kilometer": "km", "kilometre": "km", "millimeter": "mm"},
    **{"millimetre": "mm", "inche": "inch", "in": "inch", "feet": "foot", "ft": "foot", "yd": "yard", "mi": "mile", "kilogram": "kg"},
    **{"gram": "g", "gm": "g", "milligram": "mg", "lb": "pound", "liter": "l", "litre": "l", "milliliter": "ml", "millilitre": "ml"},
    **{"sec": "second", "s": "second", "min": "minute", "h": "hour", "hr": "hour", "yr": "year", "usd": "dollar", "buck": "dollar"},
    **{"eur": "euro", "gbp": "pound sterling", "米": "m", "公里": "km", "厘米": "cm", "千克": "kg", "元": "yuan"},
    **{"mph": "mile/hour", "kmh": "km/hour", "kph": "km/hour", "newton": "n", "joule": "j", "watt": "w", "volt": "v", "people": "person"},
    **{"小时": "hour", "分钟": "minute"},
    **{"children": "child", "men": "man", "women": "woman", "radian": "rad", "秒": "second", "克": "g", "sq": "square", "cu": "cubic"},
}
SHORT = set("m g s h l L N J W V A K C F Ω".split())
KNOWN = SHORT | set("cm mm km kg mg ml mL in ft yd mi lb lbs oz sec min hr hrs yr mph kmh kph Hz kHz Pa kPa eV mol rad USD EUR GBP".split())
KNOWN |= set("dollars dollar euros meters metres feet foot inches inch miles hours hour minutes seconds days years dm kW MW kJ".split())
UNIT = re.compile(r"[ -]?(?P<word>[^\W\d_]+)(?P<power>(?:\^-?[1-9]|-?[23])(?![0-9]|\.[0-9]))?")
MORE_UNIT = re.compile(r"(?P<by> ?/ ?| ?· ?| per | )(?P<word>[^\W\d_]+)(?P<power>(?:\^-?[1-9]|-?[23])(?![0-9]|\.[0-9]))?")
NO_UNIT = set(
    "or to and times plus minus over out divided by squared cubed factorial root through until x y z sqrt mod point half halves thirds "
    "power third quarters quarter fourths fifths sixths tenths hundredths thousandths than versus vs e i pi π".split()
)
JOINING = set("because since as so is are which for where given but not that after before while in at on with due if when of the".split())
JOINING |= {"it", "we"}
NO_UNIT |= JOINING | set("或 到 至 和 from a an this these would be".split())


def read_unit(text: str, start: int) -> tuple[str, int]:
    """Return the unit that begins at `start` in its normal form, and where it ends; ("", start) if there is none.

    A word that follows a space is a unit unless it calculates. Letters that touch the number must be a unit that is known, since `5x`
    is a product.
    """
    first = UNIT.match(text, start)
    if first is None:
        return "", start
    word = first["word"]
    touches, cjk = text[start : start + 1].isalpha(), ord(word[0]) > 0x2E80
    if word.lower() in NO_UNIT and not (word == "in" and re.match(r"\s*\.?$", text[first.end() :])):
        return "", start
    if not cjk and word not in KNOWN and (touches or len(word) == 1):
        return "", start
    unit, end = _normal(word, first["power"]), first.end()
    for _ in range(4):
        more = MORE_UNIT.match(text, end)
        if more is None or more["word"].lower() in NO_UNIT or (len(more["word"]) == 1 and more["word"] not in SHORT):
            break
        by = more["by"].strip()
        unit, end = f"{unit}{'/' if by in ('/', 'per') else by or ' '}{_normal(more['word'], more['power'])}", more.end()
    unit = re.sub(r"square ([^\W\d_]+)", r"\1^2", re.sub(r"cubic ([^\W\d_]+)", r"\1^3", unit))
    return unit, end


def _normal(word: str, power: str | None) -> str:
    word = word.lower() if len(word) > 1 or word == "L" else word
    word = SYNONYMS.get(word, word)
    if len(word) > 3 and word.endswith("s") and not word.endswith("ss"):
        word = word[:-1]
    return SYNONYMS.get(word, word) + (f"^{power.lstrip('^')}" if power else "")


def read_whole(text: str, *, decimal_comma: bool = True) -> Quantity | None:
    """Return the quantity that the text is, with its unit and nothing else but outer punctuation, or None."""
    text = text.strip()
    if len(text) > LONGEST_NUMBER:
        return None
    if text.startswith("(") and text.endswith(")"):
        text = text[1:-1]
    read = read_number(text, decimal_comma=decimal_comma)
    if read is None:
        return None
    quantity, end = read
    unit, after = read_unit(text, end)
    if not re.fullmatch(r"\s*[.;]?\s*", text[after:]):
        return None
    return with_unit(quantity, unit)


def with_unit(quantity: Quantity, unit: str) -> Quantity:
    """Return the quantity with the unit that follows it; one that it has already (a currency, a percent sign) stays."""
    return quantity if quantity.unit or not unit else Quantity(quantity.value, unit, quantity.base)


def show(quantity: Quantity) -> str:
    """Return the value as text: equal values are equal texts. The unit is left out."""
    value = quantity.value
    below = value.denominator
    for prime in (2, 5):
        while below % prime == 0:
            below //= prime
    if below != 1:
        text = f"{value.numerator}/{value.denominator}"
    elif value.denominator == 1:
        text = str(value.numerator)
    else:
        places = max(_exponent(value.denominator, 2), _exponent(value.denominator, 5))
        digits = str(abs(value.numerator) * 10**places // value.denominator).rjust(places + 1, "0")
        text = f"{'-' if value < 0 else ''}{digits[:-places]}.{digits[-places:]}"
    return text if quantity.base == 10 else f"{text} (base {quantity.base})"


def _exponent(number: int, prime: int) -> int:
    count = 0
    while number % prime == 0:
        number, count = number // prime, count + 1
    return count
