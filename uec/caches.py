"""Where compiled code is kept from one run to the next: in the driver's environment, and in that of each actor."""

import os
import sys
from pathlib import Path


def environment() -> dict[str, str]:
    """Environment variables for torch's two compilers; what the user has set himself is left out.

    torch.compile's cache goes by content, so that it may be shared; its own place, /tmp, is lost when the machine restarts. An
    extension (DeepSpeed's communication operator) is built against one environment's headers: in torch's own place, which all
    environments share, each would build it anew after another.
    """
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    places = {"TORCHINDUCTOR_CACHE_DIR": home / "uec-rl" / "inductor"}
    if os.access(sys.prefix, os.W_OK):
        places["TORCH_EXTENSIONS_DIR"] = Path(sys.prefix) / "cache" / "torch_extensions"
    return {name: str(place) for name, place in places.items() if name not in os.environ}


def in_force() -> dict[str, str]:
    """The same variables as they stand here: the actors of a cluster that runs already inherit its environment, not the driver's."""
    return {name: os.environ[name] for name in ("TORCHINDUCTOR_CACHE_DIR", "TORCH_EXTENSIONS_DIR") if name in os.environ}
