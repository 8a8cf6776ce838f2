"""What the machine refuses (room, permission, memory) as one sentence: what, where, what is kept, how to go on."""

import errno
import re

KEPT = "What was finished before is kept"
AGAIN = "the same command then goes on"
LOST = re.compile(r"gloo.*(closed|reset|refused|[Tt]imed out)|NCCL")
OUT_OF_MEMORY = re.compile(r"can't allocate memory|out of memory|Cannot allocate memory", re.IGNORECASE)
SYSTEM_ERROR = re.compile(r"\(os error (\d+)\)")
"""How libraries written in Rust quote the system."""


def sentence(error: BaseException) -> str | None:
    """The sentence for an error that is not the program's fault; None for any other."""
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and OUT_OF_MEMORY.search(str(error))):
        return f"Memory ran out. {KEPT}; with a smaller optim.micro_batch_tokens or eval.batch_size, or with more memory, {AGAIN}."
    if isinstance(error, RuntimeError) and LOST.search(str(error)):
        return f"Another process of this run has ended or does not answer, so this one ends too. {KEPT}; {AGAIN}."
    number = getattr(error, "errno", None) if isinstance(error, OSError) else _quoted(error)
    if number is None:
        return None
    where = f"{error.filename}: " if isinstance(error, OSError) and error.filename else ""
    if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"{where}no room is left to write. {KEPT}; make room, and {AGAIN}."
    if number in (errno.EACCES, errno.EPERM, errno.EROFS):
        why = "the file system is read-only" if number == errno.EROFS else "permission denied"
        return f"{where}{why}. {KEPT}; change that or name another directory, and {AGAIN}."
    if number in (errno.EMFILE, errno.ENFILE):
        return f"{where}too many files are open. {KEPT}; raise the limit (`ulimit -n`), and {AGAIN}."
    if number == errno.ENOENT:
        return f"{where}it is gone: removed or moved while this command ran. {KEPT}; give the command again."
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return f"{where}{reason}. {KEPT}; when that is mended, {AGAIN}."


def _quoted(error: BaseException) -> int | None:
    found = SYSTEM_ERROR.search(str(error))
    return int(found[1]) if found else None
