"""An amount of memory under a name, and who holds it."""

from dataclasses import dataclass, field

GIB = 1 << 30
MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Part:
    """So many bytes, and what they are for."""

    name: str
    bytes: float


@dataclass(frozen=True, slots=True)
class Holder:
    """A process, or some that are alike, and what one of them holds at its peak."""

    name: str
    parts: list[Part]
    count: int = 1

    @property
    def bytes(self) -> float:
        """Of one."""
        return sum(part.bytes for part in self.parts)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A device, or some that are alike, with all that holds memory on it; and what one would change if it is too much."""

    device: str
    holders: list[Holder]
    advice: list[str] = field(default_factory=list)

    @property
    def bytes(self) -> float:
        """Of one device."""
        return sum(holder.count * holder.bytes for holder in self.holders)


def gib(size: float) -> str:
    """Bytes in words: MiB below one GiB."""
    return f"{size / MIB:.0f} MiB" if size < GIB else f"{size / GIB:.1f} GiB"
