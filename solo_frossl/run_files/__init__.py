"""What a run leaves in its folder: the names of its files, their formats, how they are read and written.

Nothing here imports torch, so that programs which only read runs start at once.
"""

from solo_frossl.run_files.folder import RunFolder, find_run, new_run
from solo_frossl.run_files.metrics import MetricsFileError, Rows, parse_metrics, read_metrics, write_metrics
from solo_frossl.run_files.spectra import Spectra, SpectraFile, SpectraFileError, read_spectra, record_type
from solo_frossl.run_files.statistics import TOP, condition_number, effective_rank, shannon_entropy
from solo_frossl.run_files.status import RunStatus, State, process_began, read_status, write_status

__all__ = [
    "TOP",
    "MetricsFileError",
    "Rows",
    "RunFolder",
    "RunStatus",
    "Spectra",
    "SpectraFile",
    "SpectraFileError",
    "State",
    "condition_number",
    "effective_rank",
    "find_run",
    "new_run",
    "parse_metrics",
    "process_began",
    "read_metrics",
    "read_spectra",
    "read_status",
    "record_type",
    "shannon_entropy",
    "write_metrics",
    "write_status",
]
