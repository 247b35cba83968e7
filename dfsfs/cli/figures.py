"""Times, sizes and numbers as the commands show them to people."""

from __future__ import annotations


def format_time(seconds: float) -> str:
    """A time for people: 0.4 ms, 12 s, 3 min, 2 h 5 min."""
    if seconds < 0:
        return f"-{format_time(-seconds)}"
    if seconds < 1:
        return f"{seconds * 1000:.1f} ms"
    whole = round(seconds)
    if whole < 120:
        return f"{whole} s"
    if whole < 7200:
        return f"{whole // 60} min"
    return f"{whole // 3600} h {whole % 3600 // 60} min" if whole < 172_800 else f"{whole // 86_400} days"


def format_left(seconds: float) -> str:
    """How long something is still good, for people."""
    return format_time(seconds) if seconds > 0 else "expired"


def format_size(size: float) -> str:
    """Bytes for people: 999 B, 1.5 MiB."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"
