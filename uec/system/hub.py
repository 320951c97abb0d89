"""Whether the Hugging Face hub can be asked at all, found out within seconds."""

import ssl
import urllib.error
import urllib.request

CONNECT_TIMEOUT_S = 5.0


def is_offline() -> bool:
    """HF_HUB_OFFLINE is set: only what is in the cache of this machine is to be used."""
    from huggingface_hub import constants

    return constants.is_offline_mode()


def why_unreachable() -> str | None:
    """None if the hub answers, or else the reason.

    Asked before a download is tried: the hub client retries for more than 20 s before it says that there is no network.
    """
    from huggingface_hub import constants

    if is_offline():
        return "HF_HUB_OFFLINE is set"
    try:
        urllib.request.urlopen(urllib.request.Request(constants.ENDPOINT, method="HEAD"), timeout=CONNECT_TIMEOUT_S).close()
    except urllib.error.HTTPError:
        return None  # it answered
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        if isinstance(reason, ssl.SSLError):
            return None  # it is there; the hub client may know certificates that Python does not
        return f"{constants.ENDPOINT} cannot be reached: {reason}"
    return None
