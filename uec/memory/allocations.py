"""Named amounts of memory, the processes that hold them, and the devices that the processes run on."""

from dataclasses import dataclass, field

GIB = 1 << 30
MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Allocation:
    """A number of bytes and their purpose."""

    name: str
    bytes: float


@dataclass(frozen=True, slots=True)
class Holder:
    """A process, or `count` equal ones, with the allocations of one at its peak."""

    name: str
    allocations: list[Allocation]
    count: int = 1

    @property
    def bytes(self) -> float:
        """Return the bytes of one process."""
        return sum(allocation.bytes for allocation in self.allocations)


@dataclass(frozen=True, slots=True)
class DeviceEstimate:
    """A device, or several equal ones, with everything that holds memory on it, and the settings that reduce this."""

    device: str
    holders: list[Holder]
    advice: list[str] = field(default_factory=list)

    @property
    def bytes(self) -> float:
        """Return the bytes on one device."""
        return sum(holder.count * holder.bytes for holder in self.holders)


def gib(size: float) -> str:
    """Format bytes as GiB, or as MiB below one GiB."""
    return f"{size / MIB:.0f} MiB" if size < GIB else f"{size / GIB:.1f} GiB"
