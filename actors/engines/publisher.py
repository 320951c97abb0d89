"""The learner's end of each weight transport.

It is here and not in actors/weights/, because two of the three transports are vLLM's, and the two ends of a transport must agree: the
other end is in the engine.
"""

from actors.weights.shm import ShmPublisher
from actors.weights.transport import Publisher
from uec.config.schema import Config
from uec.system.platform import detect


def make_publisher(cfg: Config, rank: int) -> Publisher:
    """Return the publisher of a learner rank for the transport that config and platform give."""
    platform = detect(cfg)
    if platform.weights == "shm":
        return ShmPublisher(rank)
    from actors.engines.vllm.ipc_publisher import IpcPublisher
    from actors.engines.vllm.trainer_transfer import NcclPublisher

    return NcclPublisher(cfg, platform, rank) if platform.weights == "nccl" else IpcPublisher(cfg, platform, rank)
