"""Find out within seconds whether the Hugging Face hub is reachable."""

import ssl
import urllib.error
import urllib.request

CONNECT_TIMEOUT_S = 5.0


def is_offline() -> bool:
    """Return whether HF_HUB_OFFLINE is set, so that only the local cache may be used."""
    from huggingface_hub import constants

    return constants.is_offline_mode()


def why_unreachable() -> str | None:
    """Return why the hub cannot be reached, or None if it answers.

    Call this before a download: without a network the hub client retries for more than 20 s before it fails.
    """
    from huggingface_hub import constants

    if is_offline():
        return "HF_HUB_OFFLINE is set"
    try:
        urllib.request.urlopen(urllib.request.Request(constants.ENDPOINT, method="HEAD"), timeout=CONNECT_TIMEOUT_S).close()
    except urllib.error.HTTPError:
        return None  # the hub answered
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        if isinstance(reason, ssl.SSLError):
            return None  # the hub answered; the hub client may have certificates that Python does not
        return f"{constants.ENDPOINT} cannot be reached: {reason}"
    return None
