"""What every record that reaches the disk has in common. No torch here."""

import math
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator

FORMAT_VERSION = 1


class Record(BaseModel):
    """A frozen piece of a result file."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")


class Estimate(Record):
    """A number with its 95% interval."""

    value: float
    low: float
    high: float
    n: int
    """Independent units behind the interval (problems, not samples)."""

    @field_validator("low", "high", mode="before")
    @classmethod
    def _without_end(cls, value: Any, info: ValidationInfo) -> Any:
        """JSON has no infinity: an end that was written as null is none."""
        return (-math.inf if info.field_name == "low" else math.inf) if value is None else value

    def text(self, form: "Quantity" = "percent", sign: bool = False, unit: str = "") -> str:
        """`52.1 [48.0, 56.2]`: the value, with `unit` behind it, and its interval; `sign` marks a difference."""
        scale, digits = QUANTITIES[form]
        value, low, high = (f"{scale * v:{'+' if sign else ''}{digits}}" for v in (self.value, self.low, self.high))
        return f"{value}{unit} [{low}, {high}]"


Quantity = Literal["percent", "nats", "seconds", "tokens"]
QUANTITIES: dict[Quantity, tuple[int, str]] = {
    "percent": (100, ".1f"),
    "nats": (1, ".3f"),
    "seconds": (1, ".3g"),
    "tokens": (1, ".0f"),
}
"""Factor and digits of each form."""


def as_text(estimate: Estimate | None, form: Quantity = "percent", sign: bool = False, unit: str = "") -> str:
    """`Estimate.text`, or a dash for what was not measured."""
    return "-" if estimate is None else estimate.text(form, sign, unit)
