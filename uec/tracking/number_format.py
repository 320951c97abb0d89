"""Formats of numbers for people."""

MISSING = "-"


def duration(number: float) -> str:
    """Format seconds: 9 -> 0:09, 3725 -> 1:02:05."""
    minutes, rest = divmod(round(number), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def seconds(number: float) -> str:
    """Format seconds: 2.13 -> 2.1 s, 75 -> 1:15."""
    return f"{number:.1f} s" if number < 60 else duration(number)


def count(number: float | None) -> str:
    """Format a count: 950 -> 950, 6812 -> 6.8k, 1234567 -> 1.2M."""
    if number is None:
        return MISSING
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        # Compares the rounded number, so that 999950 is 1.0M and not 1000.0k.
        if abs(number) >= size * (1 - 5e-5 if size > 1e3 else 1):
            return f"{number / size:.1f}{unit}"
    return f"{number:.0f}"


def share(number: float | None) -> str:
    """Format a share: 0.343 -> 34 %."""
    return MISSING if number is None else f"{100 * number:.0f} %"


def decimal(number: float | None, digits: int = 3) -> str:
    """Format a number: 0.30273 -> 0.303; a number that would round to zero keeps its magnitude: 2e-06."""
    if number is None:
        return MISSING
    if number and abs(number) < 0.5 * 10**-digits:
        return f"{number:.0e}"
    if abs(number) >= 1e5:
        return f"{number:.0e}"  # an exploding loss must not widen the line
    return f"{number:.{digits if abs(number) < 1000 else 0}f}"
