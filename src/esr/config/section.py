"""What every part of a configuration is made of: frozen groups of keys, paths, seeds."""

import os
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field


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


def _urls(urls: list[str]) -> list[str]:
    """Base URLs, as a server prints them: with or without a last `/` or `/v1`."""
    for url in urls:
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"{url!r} is no address; write it like http://127.0.0.1:8000")
    return [url.rstrip("/").removesuffix("/v1") for url in urls]


Urls = Annotated[list[str], BeforeValidator(lambda v: [v] if isinstance(v, str) else v), AfterValidator(_urls)]
"""One or several addresses of servers of the same model."""


class ConfigSection(BaseModel):
    """A frozen group of keys. Values are what they look like: text is no number, and a number is finite."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        protected_namespaces=(),
    )


def require_server(engine: str, server: list[str]) -> None:
    """Raise `ValueError` unless an engine and the addresses of its servers are both given or both left out."""
    if (engine == "vllm") != bool(server):
        raise ValueError("engine: vllm and server: ADDRESS go together; give both or neither")
