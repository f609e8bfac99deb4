"""Counter-based randomness: every draw is a function of (seed, stream, epoch, step, process), never of history."""

import hashlib

import torch


def seed_for(seed: int, stream: str, epoch: int = 0, step: int = 0, process: int = 0) -> int:
    """A 63-bit seed that depends on all five values and on nothing else.

    Args:
        seed: the run's seed.
        stream: what the draw is for (``"order"``, ``"views"``, ...), so that two uses never share numbers.
        epoch: epoch, from 0.
        step: batch number within the epoch, from 0.
        process: rank of the process that draws.

    >>> seed_for(0, "views", 1, 2) == seed_for(0, "views", 1, 2)
    True
    >>> seed_for(0, "views", 1, 2) == seed_for(0, "views", 2, 1)
    False
    """
    key = f"{seed}/{stream}/{epoch}/{step}/{process}".encode()
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "little") >> 1


def generator(seed: int, stream: str, epoch: int = 0, step: int = 0, process: int = 0) -> torch.Generator:
    """A fresh CPU generator for one draw; arguments as for :func:`seed_for`."""
    return torch.Generator().manual_seed(seed_for(seed, stream, epoch, step, process))
