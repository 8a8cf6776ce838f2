"""What an analysis can be told. No torch here."""

from collections.abc import Mapping
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from esr.errors import UserError


class Settings(BaseModel):
    """An analysis's choices, frozen: each field is an option of its command, and the field's docstring is the help.

    The defaults are the whole protocol. Raises `UserError` for a value that makes no sense.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    QUICK: ClassVar[Mapping[str, Any]] = {}
    """What a first look in a minute or two has instead of the defaults."""
    PAPER: ClassVar[Mapping[str, Any]] = {}
    """What the paper's own protocol has instead, where it is another one."""

    def __init__(self, **given: Any):
        """A mistake is one sentence that names the option, wherever the settings come from."""
        try:
            super().__init__(**given)
        except ValidationError as error:
            raise UserError("; ".join(map(_explain, error.errors())) + ".") from None

    @classmethod
    def of(cls, given: Mapping[str, Any], quick: bool = False) -> Self:
        """The choices `given` over the paper's, if they name its protocol, over the quick ones, over the defaults."""
        paper = cls.PAPER if given.get("protocol") == "paper" else {}
        return cls(**{**(cls.QUICK if quick else {}), **paper, **given})

    @classmethod
    def quick(cls, **given: Any) -> Self:
        """The quick values, but for those `given`."""
        return cls.of(given, quick=True)

    @classmethod
    def paper(cls, **given: Any) -> Self:
        """The paper's protocol, but for the values `given`. Raises `UserError` if the analysis has no other one."""
        return cls.of({"protocol": "paper", **given})

    def variant(self) -> str:
        """What the record's name has behind the analysis's, so that both protocols' records stand side by side."""
        return "-paper" if getattr(self, "protocol", "") == "paper" else ""


def _explain(error: Any) -> str:
    text = error["msg"].removeprefix("Value error, ")
    if not error["loc"]:
        return text
    return f"--{str(error['loc'][0]).replace('_', '-')} {error['input']}: {text[0].lower()}{text[1:]}"
