"""What every part of a configuration is made of: frozen groups of keys, paths, seeds."""

import os
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


def _home(path: str) -> str:
    """`~` and `~name` are home directories."""
    if not path.strip():
        raise ValueError("a path of blanks is none")
    full = os.path.expanduser(path)
    if full.startswith("~"):
        raise ValueError("there is no such home directory")
    if len(os.fsencode(os.path.basename(full))) > 255:
        raise ValueError("a name may have 255 bytes")
    return full


LocalPath = Annotated[str, Field(min_length=1), AfterValidator(_home)]
"""A path, or what may be one."""
Seed = Annotated[int, Field(ge=0, lt=2**32)]


class Section(BaseModel):
    """A frozen group of keys. Values are what they look like: text is no number, and a number is finite."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        protected_namespaces=(),
    )
