"""The exact value of a number, however it is written."""

import re
from fractions import Fraction

LARGEST_POWER = 400  # decimal digits; a larger power of ten is left to math-verify and its deadline

_WHOLE = r"(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]{1,3}(?: [0-9]{3})+|[0-9]{1,400})"
_DECIMAL = re.compile(rf"(?:{_WHOLE}(?:\.[0-9]{{0,400}})?|\.[0-9]{{1,400}})")
_REPEATING = re.compile(
    rf"(?P<whole>{_WHOLE})?\.(?P<once>[0-9]{{0,100}}) ?\\(?:overline|bar) ?"
    r"(?:\{ ?(?P<again>[0-9]{1,100}) ?\}|(?P<digit>[0-9]))"
)
_MIXED = re.compile(rf"(?:(?P<whole>{_WHOLE}) )?(?P<top>{_WHOLE})/(?P<bottom>{_WHOLE})")
_LATEX = re.compile(
    rf"(?:(?P<whole>{_WHOLE}) ?)?\\frac ?\{{ ?(?P<sign>[+-]?) ?(?P<top>{_WHOLE}) ?\}} ?\{{ ?(?P<bottom>{_WHOLE}) ?\}}"
)
_POWER = re.compile(
    r"(?:(?P<mantissa>.+?) ?(?:\\times|\\cdot|\*) ?)?10 ?\^ ?(?:\{ ?(?P<long>[+-]?[0-9]+) ?\}|(?P<short>[0-9]))"
)
_EXPONENT = re.compile(r"(?P<mantissa>[0-9.]+)[eE](?P<exponent>[+-]?[0-9]+)")
_ONES = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
]
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_COUNT = {word: n for n, word in enumerate(_ONES)} | {word: 10 * n for n, word in enumerate(_TENS, 2)}
_PARTS = {
    "half": 2,
    "halves": 2,
    "third": 3,
    "quarter": 4,
    "fourth": 4,
    "fifth": 5,
    "sixth": 6,
    "eighth": 8,
    "tenth": 10,
}


def value(text: str) -> Fraction | None:
    """The value of a plain number, or None for anything else.

    Integers with or without thousands separators, decimals, `3/4`, `\\frac{3}{4}`, mixed numbers (`2 1/2`), powers of
    ten (`1.5e-5`, `3 \\times 10^{8}`), repeating decimals (`0.1\\overline{6}`), and words up to
    "nine hundred ninety-nine" or "two thirds". Spaces are single.
    """
    text = text.strip()
    sign = -1 if text.startswith("-") else 1
    text = text[1:].strip() if text[:1] in ("-", "+") and text else text
    found = _plain(text)
    if found is None and text[:1].isalpha():
        found = _words(text.casefold())
    return None if found is None else sign * found


def _plain(text: str) -> Fraction | None:
    if _DECIMAL.fullmatch(text):
        return Fraction(_digits(text))
    if repeated := _REPEATING.fullmatch(text):
        again = repeated["again"] or repeated["digit"]
        once = Fraction(f"{_digits(repeated['whole'] or '0')}.{repeated['once'] or '0'}")
        return once + Fraction(int(again), (10 ** len(again) - 1) * 10 ** len(repeated["once"]))
    for pattern in (_MIXED, _LATEX):
        if parts := pattern.fullmatch(text):
            top, bottom = Fraction(_digits(parts["top"])), Fraction(_digits(parts["bottom"]))
            minus = parts.groupdict().get("sign") == "-"
            if not bottom or (minus and parts["whole"]):
                return None
            return Fraction(_digits(parts["whole"] or "0")) + (-top if minus else top) / bottom
    if (parts := _EXPONENT.fullmatch(text)) or (parts := _POWER.fullmatch(text)):
        groups = parts.groupdict()
        exponent = int((groups.get("exponent") or groups.get("long") or groups.get("short") or "0")[:9])
        mantissa = _plain(groups["mantissa"]) if groups["mantissa"] else Fraction(1)
        if mantissa is not None and abs(exponent) <= LARGEST_POWER:
            return mantissa * Fraction(10) ** exponent
    return None


def _digits(text: str) -> str:
    return text.replace(",", "").replace(" ", "")


def _words(text: str) -> Fraction | None:
    """`twelve`, `twenty-one`, `three hundred and five`, `one half`, `two thirds`."""
    words = [word for word in re.split(r"[ -]+", text) if word != "and"]
    part = _PARTS.get(words[-1], _PARTS.get(words[-1].removesuffix("s"))) if words else None
    if part and len(words) > 1:
        count = _words(" ".join(words[:-1])) if words[:-1] not in (["a"], ["an"]) else Fraction(1)
        return None if count is None else count / part
    total = 0
    for place, word in enumerate(words):
        before = _COUNT.get(words[place - 1], 0) if place else 0
        if word == "hundred" and 0 < before < 10 and place == 1:
            total *= 100
        elif word in _COUNT and (
            not place or words[place - 1] == "hundred" or (before >= 20 and 0 < _COUNT[word] < 10)
        ):
            total += _COUNT[word]
        else:
            return None
    return Fraction(total) if words else None
