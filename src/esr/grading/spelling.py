"""One spelling for answers that are written in many ways, without throwing away what separates two answers."""

import re
import unicodedata
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from esr.grading.values import value

LONGEST = 5_000  # characters of an answer that are read; what is longer is nobody's answer

WRAPPED = re.compile(
    r"\\(?:text|textbf|textit|textrm|textsf|texttt|textnormal|mathrm|mathbf|mathit|mathsf|boldsymbol|bm|operatorname|mbox)"
    r"\s*\{([^{}]*)\}"
)
_DASHES = re.compile("[‐-―−﹘﹣－]")
_SYMBOLS = str.maketrans({
    "π": r"\pi ", "∞": r"\infty ", "×": r"\times ", "·": r"\cdot ", "⋅": r"\cdot ", "∗": "*", "÷": "/", "⁄": "/", "∕": "/",
    "≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ", "∪": r"\cup ", "∩": r"\cap ", "∈": r"\in ", "∅": r"\emptyset ", "±": r"\pm ",
    "°": r"^\circ ", "º": r"^\circ ", "θ": r"\theta ", "α": r"\alpha ", "β": r"\beta ", "λ": r"\lambda ", "ℝ": r"\mathbb{R}",
    "’": "'", "，": ", ", "（": "(", "）": ")", "∶": ":", "\u200b": "", "\ufeff": "",
})  # fmt: skip
_RAISED, _LOWERED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ", "0123456789+-n"), str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")
_LAYOUT = re.compile(
    r"\\(?:left|right|big[lr]?|Big[lr]?|displaystyle|textstyle|limits|boxed|fbox|underline)(?![a-zA-Z])|(?<!\\)\\[()\[\]!]|\{\}"
)
_SPACE = re.compile(r"\\(?:quad|qquad|enspace|thinspace)(?![a-zA-Z])|(?<!\\)\\[,;: ]|~|\s+")
_ROOT = re.compile(
    r"(?:√|(?<![\\a-zA-Z])sqrt(?![a-zA-Z])|\\sqrt(?=\s*[0-9a-zA-Z(])) ?(?:\(([^()]*)\)|\{([^{}]*)\}|([0-9]+|[a-zA-Z]))"
)
_GREEK = re.compile(r"(?<![\\a-zA-Z])(pi|infinity|infty|theta|alpha|beta|lambda)(?![a-zA-Z])")
_DEGREES = re.compile(r"\^ ?(?:\\circ(?![a-zA-Z])|\{ ?\\circ ?\})|\\degree(?![a-zA-Z])")
_CURRENCY = re.compile(r"\\?([$€£¥])")
_UNIT = re.compile(
    r"(?P<value>.*?[0-9}).]) ?(?P<unit>(?:\\text ?\{[^{}]*\}|\\%|%|°|(?<= )[mgJNC]/(?:s|h|kg|[lLm])(?![a-zA-Z])|"
    r"[a-zA-Z]{2,}[.]?(?:[ /-][a-zA-Z]+[.]?){0,4})"
    r"(?: ?\^ ?\{?[23]\}?)?)"
)
_BARE_UNITS = frozenset(["m", "g", "s", "h", "l", "L", "K", "J", "N", "W", "V", "A", "C", "F"])
_NO_UNITS = frozenset(
    [
        "pi",
        "sqrt",
        "sin",
        "cos",
        "tan",
        "log",
        "ln",
        "exp",
        "mod",
        "and",
        "or",
        "to",
        "of",
        "base",
        "infinity",
        "choose",
        "by",
        "bmod",
    ]
)
_UNIT_NAMES = {
    "degree": "°", "deg": "°", "percent": "%", "dollar": "$", "usd": "$", "euro": "€", "pound": "£", "centimeter": "cm",
    "centimetre": "cm", "meter": "m", "metre": "m", "kilometer": "km", "kilometre": "km", "millimeter": "mm", "inche": "in",
    "inch": "in", "foot": "ft", "feet": "ft", "hour": "h", "hr": "h", "minute": "min", "second": "s", "sec": "s", "gram": "g",
    "kilogram": "kg", "liter": "l", "litre": "l", "mile": "mi", "yard": "yd",
}  # fmt: skip
_BASE = re.compile(r"([0-9A-F]+) ?_ ?(?:\{ ?(?:base ?)?([0-9]{1,2}|[a-z]+) ?\}|([0-9]))")
_BASES = {"two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7", "eight": "8", "nine": "9", "ten": "10",
          "sixteen": "16"}  # fmt: skip
_LABEL = re.compile(
    r"(?:(?:option|choice|answer) ?)?(?:\(([A-J])\)|([A-J])[).:])(?: ?(?P<rest>.*))?|(?:option|choice) ?([A-J])(?![a-z])(?:[.: ].*)?",
    re.IGNORECASE | re.DOTALL,
)
_NAMED = re.compile(
    r"(?:(?:\\vec ?\{ ?[a-zA-Z]{1,2} ?\}|[a-zA-Z])(?: ?_ ?(?:\{\w+\}|\w))?(?: ?\([a-z]\))?|\\[a-z]+) ?"
    r"(?:=|\\in(?![a-z])) ?(?=[^=])"
)
_WORDS = re.compile(r"[^\W\d_][^\W\d_ .,'-]*(?:[ .,'-]+[^\W\d_]+)*[.!]?")


@dataclass(frozen=True)
class AnswerParts:
    """An answer taken apart."""

    text: str
    """LaTeX without layout, wrappers, label and unit: what math-verify gets."""
    key: str
    """The same without spaces that mean nothing; a number in lowest terms; words in lower case."""
    value: Fraction | None = None
    decimal: bool = False
    """Written with a decimal point, so perhaps rounded."""
    unit: str = ""
    label: str = ""
    """Letter of a multiple choice: `(B)`, `B.`, `Option B`."""
    base: str = ""
    """Of a number with a subscript: `52_8`; ten is no base."""
    words: bool = False
    name: str = ""
    """`x` of `x = 5`."""


@lru_cache(maxsize=4096)
def spell(answer: str) -> AnswerParts:
    """Take an answer apart."""
    text, label = _label(_clean(answer[:LONGEST]))
    text, unit = _unit(text)
    text = _bare(text)
    if (based := _BASE.fullmatch(text)) and (base := _BASES.get(based[2], based[2]) or based[3]).isdigit():
        number = value(based[1]) if base == "10" else None
        return AnswerParts(based[1], based[1], number, unit=unit, label=label, base="" if base == "10" else base)
    name = named[0] if (named := _NAMED.match(text)) else ""
    number = value(text[len(name) :])
    if number is not None:
        return AnswerParts(text[len(name) :], str(number), number, "." in text, unit, label, name=squeeze(name))
    if not name and is_words(text):
        key = " ".join(part for part in re.split(r"[ .,'!-]+", text.casefold()) if part)
        return AnswerParts(text, key, unit=unit, label=label, words=True)
    return AnswerParts(text, squeeze(text), unit=unit, label=label, name=squeeze(name))


def is_words(text: str) -> bool:
    """Whether it is said in words, not in symbols: three letters in a row, or an o or u, which hardly name a quantity.

    So `no` is a word and `p - q` is not; to math-verify a word is a product of its letters.
    """
    return bool(_WORDS.fullmatch(text)) and bool(re.search(r"[^\W\d_]{3}|^[a-z]?[ou][a-z]?$", text, re.IGNORECASE))


def squeeze(text: str) -> str:
    """Without the spaces that mean nothing. One stays between digits (`1 2`), and after a command or a lone letter where
    a name would change (`\\pi r`, `x 2`)."""
    text = re.sub(r" ?([^0-9A-Za-z\\ ]) ?", r"\1", re.sub(r"([_^]) ?\{ ?(\w) ?\}", r"\1\2", text))
    text = re.sub(r"(?<=[0-9]) (?=[A-Za-z\\])", "", text)
    return re.sub(r"(?<![A-Za-z\\])([A-Za-z]) (?=[A-Za-z](?![A-Za-z]))", r"\1", text).strip()


def _clean(answer: str) -> str:
    """Unicode and Markdown as LaTeX; degrees as `°`; spaces single; `\\text` stays, since it may hold a unit."""
    text = answer.encode("utf-8", "replace").decode()
    text = re.sub("([⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ]+)", lambda m: f"^{{{m[0].translate(_RAISED)}}}", text)
    text = re.sub("([₀₁₂₃₄₅₆₇₈₉]+)", lambda m: f"_{{{m[0].translate(_LOWERED)}}}", text)
    text = "".join(_fraction(c) for c in text) if not text.isascii() else text
    text = unicodedata.normalize("NFKC", _DASHES.sub("-", text.translate(_SYMBOLS)))
    text = re.sub(r"(?<=[0-9])\{,\}(?=[0-9]{3})|(?<=[0-9]),\\!(?=[0-9]{3})", ",", text)
    text = re.sub(r"(?<=[0-9])(?:\\[,;: ]|~)(?=[0-9]{3}(?![0-9]))", ",", text)
    text = re.sub(r"\\(?:textbf|textit|textrm|textsf|texttt|textnormal|mathrm|mbox)(?=\s*\{)", r"\\text", text)
    text = re.sub(r"\\colon(?![a-zA-Z])|\{ ?: ?\}", ":", text)
    text = re.sub(r"\\log ?_ ?(?:e(?![a-zA-Z])|\{ ?e ?\})", r"\\ln ", text)
    text = _SPACE.sub(" ", _LAYOUT.sub("", text)).strip()
    text = re.sub(r"\\[dtc]frac", r"\\frac", text)
    text = re.sub(r"\\frac ?([0-9]) ?([0-9])", r"\\frac{\1}{\2}", text)
    text = re.sub(r"\\frac ?([0-9]) ?\{", r"\\frac{\1}{", re.sub(r"(\\frac ?\{[^{}]*\}) ?([0-9])", r"\1{\2}", text))
    text = _DEGREES.sub("°", re.sub(r"\\(?:varnothing|O)(?![a-zA-Z])", r"\\emptyset", text))
    text = _ROOT.sub(lambda m: rf"\sqrt{{{m[1] or m[2] or m[3]}}}", text)
    text = _GREEK.sub(lambda m: "\\" + m[0].replace("infinity", "infty"), text)
    text = re.sub(r"(?<=[0-9A-Za-z}]) ?\* ?(?=[A-Za-z\\(])", " ", text)
    return re.sub(" +", " ", _outside(text)).strip()


def _fraction(c: str) -> str:
    """`½` as ` 1/2`, so that `2½` stays a mixed number; other digits of the world as 0 to 9."""
    if unicodedata.category(c) == "No" and "⁄" in unicodedata.normalize("NFKC", c):
        return " " + unicodedata.normalize("NFKC", c)
    return str(unicodedata.decimal(c, c))


def _outside(text: str) -> str:
    """Without what stands around the whole of it: `$...$`, `**...**`, code spans, quotes, a full stop."""
    before = None
    while before != text:
        before, text = text, text.strip().rstrip(".;").strip() if not text.endswith("..") else text
        for mark in ("$$", "$", "**", "*", "```", "`", '"', "__"):
            if (
                len(text) > 2 * len(mark)
                and text.startswith(mark)
                and text.endswith(mark)
                and not text.endswith("\\" + mark)
            ):
                text = text[len(mark) : -len(mark)]
    return text


def _bare(text: str) -> str:
    """Without wrappers, and without braces around the whole."""
    before = None
    while before != text:
        before, text = text, re.sub(" +", " ", WRAPPED.sub(r" \1 ", text)).strip().rstrip(".").strip()
    return text


def _label(text: str) -> tuple[str, str]:
    """The answer without the letter of a multiple choice, and that letter. The letter alone is left in place."""
    found = _LABEL.fullmatch(_bare(text))
    if not found:
        return text, ""
    letter = (found[1] or found[2] or found[4]).upper()
    return (found["rest"] or "").strip() or letter, letter


def _unit(text: str) -> tuple[str, str]:
    """The answer without its unit, and the unit: one name for each, `°`, `%` and currencies included."""
    if (money := _CURRENCY.match(text)) and re.match(r" ?-?[0-9.]", text[money.end() :]):
        rest = text[money.end() :].strip()
        return (_unit(rest)[0] if _CURRENCY.sub("", rest) == rest else rest), money[1]
    if re.fullmatch(r".*[0-9}] ?\\?[€£$]", text):
        return re.sub(r" ?\\?[€£$]$", "", text), text[-1]
    if text.endswith("°"):
        return text[:-1].strip(), "°"
    found = _UNIT.fullmatch(text)
    if not found:
        lone = re.fullmatch(r"(.*[0-9]) ([A-Za-z])", text)
        return (lone[1], lone[2]) if lone and lone[2] in _BARE_UNITS and value(lone[1]) is not None else (text, "")
    unit = re.sub(r"\\text|[{}\\ ^.]+", " ", found["unit"]).strip().lower()
    words = unit.split()
    if (
        not words
        or set(words) & _NO_UNITS
        or not ("text" in found["unit"] or value(found["value"]) is not None or re.fullmatch("[0-9:]+", found["value"]))
    ):
        return text, ""
    return found["value"].strip(), " ".join(_unit_name(word) for word in words)


def _unit_name(word: str) -> str:
    single = word if word.endswith("ss") else word.removesuffix("s") if len(word) > 2 else word
    return _UNIT_NAMES.get(word, _UNIT_NAMES.get(single, single))
