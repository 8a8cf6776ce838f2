"""Whether the Hugging Face hub answers: asked once, quickly, before anything is loaded from it."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Literal

from esr.errors import UserError

PROBE_SECONDS = 5.0


def trouble(kind: Literal["model", "dataset"], name: str) -> str:
    """Why the hub cannot be reached, or "" if it can: one request, since the libraries try for half a minute.

    Raises `UserError` if the hub answers that there is no such repository, or that it is not for this user.
    """
    import huggingface_hub
    from huggingface_hub import constants, errors

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    api = huggingface_hub.HfApi()
    ask = api.model_info if kind == "model" else api.dataset_info
    what = "model" if kind == "model" else "data set"
    try:
        ask(name, timeout=PROBE_SECONDS)
    except errors.GatedRepoError:
        raise UserError(
            f"{name}: this {what} is gated; ask for access on its page, then run `hf auth login`."
        ) from None
    except errors.RepositoryNotFoundError:
        raise UserError(f"{name}: there is no such {what} on the hub (or it is private: `hf auth login`).") from None
    except Exception as error:  # whichever HTTP client the library uses
        return " ".join(str(error).split())[:120] or type(error).__name__
    return ""


def patient(problem: str) -> AbstractContextManager[None]:
    """Load inside this: with a `trouble`, from the local cache at once, without the libraries' retries."""
    return _offline() if problem else nullcontext()


@contextmanager
def _offline() -> Iterator[None]:
    import datasets
    from huggingface_hub import constants

    modules: tuple[Any, ...] = (constants, datasets.config)
    before = [module.HF_HUB_OFFLINE for module in modules]
    try:
        for module in modules:
            module.HF_HUB_OFFLINE = True
        yield
    finally:
        for module, value in zip(modules, before, strict=True):
            module.HF_HUB_OFFLINE = value


def file(name: str, filename: str, revision: str | None, away: str) -> Path | None:
    """A file of a model repository, from the cache if the hub is `away`; None if the model ships none.

    Raises `UserError` if the network's trouble leaves open which: a file that may be there is never taken for missing.
    """
    from huggingface_hub import constants, errors, hf_hub_download

    chosen = constants.HF_HUB_OFFLINE
    try:
        with patient(away):
            return Path(hf_hub_download(name, filename, revision=revision))
    except (errors.LocalEntryNotFoundError, OSError) as error:
        if chosen or isinstance(error, errors.RemoteEntryNotFoundError) or _known_missing(name, filename, revision):
            return None
        reason = away or " ".join(str(error).split())[:120]
        raise UserError(
            f"{name}: whether it ships {filename} cannot be told now ({reason}); try again, or give a local directory."
        ) from None


def _known_missing(name: str, filename: str, revision: str | None) -> bool:
    import huggingface_hub

    known = huggingface_hub.try_to_load_from_cache(name, filename, revision=revision)
    return known is not None and not isinstance(known, str)


def gated(error: BaseException | None) -> bool:
    """Whether an error, or one that caused it, says that a repository is gated."""
    from huggingface_hub.errors import GatedRepoError

    while error is not None:
        if isinstance(error, GatedRepoError) or "gated repo" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False
