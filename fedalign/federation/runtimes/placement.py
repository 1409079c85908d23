"""Which worker process trains on which device: dealt in turn, so many each, or as memory allows."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from fedalign.core.errors import ConfigError

GIB = 2**30
WITHOUT_HINTS = 2  # workers on processors where nothing else is asked for


@dataclass(frozen=True)
class Place:
    """A device with what is free on it. name: a torch device ("cpu", "cuda:1"). free_bytes: its
    unused memory (>= 0). slots: workers it serves at most, None where only memory limits them."""

    name: str
    free_bytes: int
    slots: int | None = None


def seen(names: Sequence[str]) -> list[Place]:
    """What this machine says of these devices; a processor serves as many workers as it has cores."""
    places = []
    for name in names:
        device = torch.device(name)
        if device.type == "cuda":
            places.append(Place(name, torch.cuda.mem_get_info(device)[0]))
        else:
            places.append(Place(name, _free_memory(), len(os.sched_getaffinity(0))))
    return places


def workers(
    places: Sequence[Place],
    processes: int | None = None,
    clients_per_device: int | None = None,
    client_gib: float | None = None,
) -> list[str]:
    """The device of every worker, devices in turn: cuda:0, cuda:1, cuda:0 ...

    processes: workers in all (>= 1); None: as many as the rest allows, without it one per GPU and
    two on processors. clients_per_device: at most so many on each (>= 1). client_gib: what one
    client needs (> 0, GiB); a device serves as many as fit in its free memory. ConfigError where
    an argument is out of range or no device has room.
    """
    _check(processes, clients_per_device, client_gib)
    room = [_room(place, clients_per_device, client_gib) for place in places]
    if clients_per_device is None and client_gib is None:
        on_cards = any(place.name.startswith("cuda") for place in places)
        count = processes or (len(places) if on_cards else WITHOUT_HINTS)
        return [places[i % len(places)].name for i in range(count)]
    if not sum(room):
        free = ", ".join(f"{p.name} {p.free_bytes / GIB:.1f} GiB" for p in places)
        raise ConfigError(
            f"runtime.client_gib={client_gib:g} fits on no device; free are: {free}. Lower it, "
            "take a smaller model or block, or other runtime.devices."
        )
    dealt = [p.name for turn in range(max(room)) for p, many in zip(places, room, strict=True)
             if turn < many]  # fmt: skip
    return dealt if processes is None else dealt[:processes]


def refuse(runtime: Mapping[str, Any], devices: Sequence[str]) -> None:
    """ConfigError where a config's `runtime` asks for workers that cannot be had here; devices:
    what there is of the asked kind."""
    if "clients_per_device" not in runtime:
        return
    asked = runtime["devices"] or devices
    for name in asked:
        known = name == "cpu" or name in devices
        if not known:
            raise ConfigError(
                f"runtime.devices names {name!r}; here are {', '.join(devices) or 'none'}."
            )
    keys = ("processes", "clients_per_device", "client_gib")
    workers(seen(asked), *(runtime[key] for key in keys))


def _room(place: Place, clients_per_device: int | None, client_gib: float | None) -> int:
    """Workers that a device can serve."""
    limits = []
    if clients_per_device is not None:
        limits.append(clients_per_device)
    if client_gib is not None:
        limits.append(int(place.free_bytes // (client_gib * GIB)))
        limits += [] if place.slots is None or clients_per_device else [place.slots]
    return min(limits, default=1)


def _check(processes: int | None, clients_per_device: int | None, client_gib: float | None) -> None:
    for name, value in (("processes", processes), ("clients_per_device", clients_per_device)):
        if value is not None and value < 1:
            raise ConfigError(f"runtime.{name} must be 1 or more, or null, got {value}.")
    if client_gib is not None and client_gib <= 0:
        raise ConfigError(f"runtime.client_gib must be above 0, or null, got {client_gib}.")


def _free_memory() -> int:
    """Main memory that is free, bytes."""
    try:
        with open("/proc/meminfo") as file:
            words = dict(line.split(":", 1) for line in file)
        return int(words["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError):  # no Linux: what is installed
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
