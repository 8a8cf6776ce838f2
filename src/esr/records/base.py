"""What every record that reaches the disk has in common. No torch here."""

import math
from typing import Any

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
