"""Peak memory of a run: of this process and of those it has started, as the kernel counts it."""

from __future__ import annotations

import os
import resource
from collections.abc import Sequence
from pathlib import Path


def reset() -> None:
    """Count the peak from now on, where the kernel allows it (Linux); else it is the process's."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def peak_mb() -> float:
    """Resident megabytes (10^6 bytes) at the peak, this process and its living children added up;
    pages they share are counted in each."""
    try:
        peaks = [_high(pid) for pid in (os.getpid(), *_children(os.getpid()))]
    except OSError:  # no /proc: the kernel's own sum of ended children instead
        whose = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
        peaks = [resource.getrusage(who).ru_maxrss * 1024 for who in whose]
    return sum(peaks) / 1e6


def _high(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):  # it has just ended
        return 0
    return next((int(x.split()[1]) * 1024 for x in lines if x.startswith("VmHWM")), 0)


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            own = [int(child) for child in (task / "children").read_text().split()]
        except (FileNotFoundError, ProcessLookupError):
            continue
        found += [one for child in own for one in (child, *_children(child))]
    return found


def cpu_s(pids: Sequence[int]) -> float:
    """CPU seconds these processes have used so far; 0 where the kernel does not tell (no /proc)."""
    total, tick = 0.0, os.sysconf("SC_CLK_TCK")
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += (int(fields[11]) + int(fields[12])) / tick
    return total
