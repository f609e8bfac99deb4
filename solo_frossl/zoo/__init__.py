"""The checkpoint zoo: an index of checkpoints, a cache of their files, downloads that are checked.

Nothing here imports torch or a network library before it is needed, so that listing starts at once.
"""

from solo_frossl.zoo.cache import TIMEOUT, cache_folder, cached_path, check_file, fetch, remove_cached
from solo_frossl.zoo.errors import ZooError
from solo_frossl.zoo.files import read_about, write_weights
from solo_frossl.zoo.index import Entry, Index, read_index, remove_entry, shipped_index, write_index
from solo_frossl.zoo.places import Place, parse_place

__all__ = [
    "TIMEOUT",
    "Entry",
    "Index",
    "Place",
    "ZooError",
    "cache_folder",
    "cached_path",
    "check_file",
    "fetch",
    "parse_place",
    "read_about",
    "read_index",
    "remove_cached",
    "remove_entry",
    "shipped_index",
    "write_index",
    "write_weights",
]
