"""Says of an exception what it was and where in the user's file it came from."""

import traceback


def locate(error: BaseException, file: str) -> str:
    """`Type: message (file:line)`: the innermost line in `file`, and where it was raised if that is elsewhere."""
    text = f"{type(error).__name__}: {_message(error)}"
    if isinstance(error, SyntaxError) and error.filename:
        return f"{type(error).__name__}: {error.msg} ({error.filename}:{error.lineno})"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<frozen")]
    ours = [frame for frame in frames if frame.filename == file]
    if not frames:
        return text
    inner = frames[-1]
    if not ours:
        return f"{text} ({inner.filename}:{inner.lineno})"
    at = f"{ours[-1].filename}:{ours[-1].lineno} in {ours[-1].name}"
    return f"{text} ({at})" if inner is ours[-1] else f"{text} ({at}; raised at {inner.filename}:{inner.lineno})"


def _message(error: BaseException) -> str:
    try:
        return str(error)[:500]
    except Exception as broken:  # a __str__ of the user's own
        return f"(its message cannot be read: {type(broken).__name__})"
