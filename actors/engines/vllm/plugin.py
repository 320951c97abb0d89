"""vLLM's plugin: it makes the weight transfer engine `shm` known in each of vLLM's processes."""


def register() -> None:
    """Register the engine; vLLM calls this once or more in each process (the entry point is uec/commands/vllm_plugin.py)."""
    from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory

    if "shm" not in WeightTransferEngineFactory._registry:
        WeightTransferEngineFactory.register_engine("shm", "actors.engines.vllm.shm_receiver", "ShmWeightTransferEngine")
