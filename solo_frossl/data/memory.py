"""How much memory is free, so that the choice of where images live can be automatic."""

import os
from pathlib import Path

import torch

MEMORY_FRACTION = 0.5
"""Image files are decoded into memory when this machine's processes together need at most this part of what is free."""

DEVICE_FRACTION = 0.25
"""Resident images move to the GPU when they take at most this part of its free memory; the rest is the network's."""


def free_memory() -> int:
    """Bytes that can still be allocated: what the system calls available, or less where a control group limits it."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        available = next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):  # not Linux
        available = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([available, *_control_group_room()])


def free_device_memory(device: torch.device) -> int:
    """Bytes free on a CUDA device; 0 for any other accelerator, whose free memory torch does not tell."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0


def _control_group_room() -> list[int]:
    """Bytes left under the memory limit of each control group (version 2) that this process is in."""
    root = Path("/sys/fs/cgroup")
    room = []
    try:
        own = next(line[3:] for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::"))
    except (OSError, StopIteration):
        return room
    group = root / own.lstrip("/")
    for folder in (group, *group.parents):
        if not folder.is_relative_to(root):
            break
        try:
            limit = (folder / "memory.max").read_text().strip()
            used = int((folder / "memory.current").read_text())
            cache = next(
                int(line.split()[1])
                for line in (folder / "memory.stat").read_text().splitlines()
                if line.startswith("inactive_file ")  # file cache counts as used, but is given back on demand
            )
        except (OSError, StopIteration):
            continue
        if limit != "max":
            room.append(max(0, int(limit) - used + cache))
    return room
