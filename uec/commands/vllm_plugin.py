"""vLLM's plugin, in setup.cfg the entry point `uec_weights`. It lies in `uec`, because `actors` is importable only after `uec`."""


def register() -> None:
    """Register the weight transfer engine `shm`; vLLM calls this in each of its processes, possibly more than once."""
    from actors.engines.vllm.plugin import register

    register()
