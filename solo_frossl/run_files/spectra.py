"""``spectrum.bin``: every spectrum that a run measured, appended record by record."""

import json
import os
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from solo_frossl.replacing import replacing

VERSION = 1
_SIZES = ("embeddings", "features", "predictor", "view_correlation")


class SpectraFileError(ValueError):
    """A file is not one that :class:`SpectraFile` wrote."""


class Spectra(NamedTuple):
    """The spectra of a run, by rows: R checks. Eigenvalues are those of the batch's unbiased covariance, descending.

    Attributes:
        step: ``(R,)`` int64: optimiser steps that the measured weights had; 0 is the untrained network.
        epoch: ``(R,)`` float64: the same in epochs; 1.5 is the middle of the second.
        embeddings: ``(R, K)`` float32: eigenvalues of the embeddings of view 1, K = min(N - 1, D).
        features: ``(R, F)`` float32: eigenvalues of the features of view 1.
        predictor: ``(R, P)`` float32: eigenvalues of the closed-form predictor W_P, descending; P is 0 without one.
        alignment: ``(R, P)`` float32: cos(u_i, W_P u_i), see :func:`~solo_frossl.spectrum.predictor_alignment`.
        view_correlation: ``(R, D)`` float32: correlation of views 1 and 2 in each dimension of the embeddings.
        embeddings_rankme: ``(R,)`` float32.
        features_rankme: ``(R,)`` float32.
        variance_share: ``(R,)`` float32: how much of the embeddings' mean square is variance, from 0 (they are all the
            same) to 1 (their mean is 0).
    """

    step: np.ndarray
    epoch: np.ndarray
    embeddings: np.ndarray
    features: np.ndarray
    predictor: np.ndarray
    alignment: np.ndarray
    view_correlation: np.ndarray
    embeddings_rankme: np.ndarray
    features_rankme: np.ndarray
    variance_share: np.ndarray


def record_type(sizes: dict[str, int]) -> np.dtype:
    """The little-endian record of a header's sizes; its fields are those of :class:`Spectra`."""
    predictor = sizes["predictor"]
    return np.dtype(
        [
            ("step", "<i8"),
            ("epoch", "<f8"),
            ("embeddings", "<f4", (sizes["embeddings"],)),
            ("features", "<f4", (sizes["features"],)),
            ("predictor", "<f4", (predictor,)),
            ("alignment", "<f4", (predictor,)),
            ("view_correlation", "<f4", (sizes["view_correlation"],)),
            ("embeddings_rankme", "<f4"),
            ("features_rankme", "<f4"),
            ("variance_share", "<f4"),
        ]
    )


def read_spectra(path: str | Path) -> Spectra:
    """Read a run's ``spectrum.bin``, also while it is being written; a half-written last record is left out.

    Raises:
        FileNotFoundError: no such file.
        SpectraFileError: it is no such file, or one of a later version.
    """
    path = Path(path)
    content = path.read_bytes()
    records = _records(content, *_read_header(path, content))
    return Spectra(*(np.ascontiguousarray(records[name]) for name in Spectra._fields))


def _records(content: bytes, start: int, record: np.dtype) -> np.ndarray:
    """The whole records of a file's content."""
    return np.frombuffer(content, record, (len(content) - start) // record.itemsize, start)


def _read_header(path: Path, content: bytes) -> tuple[int, np.dtype]:
    """Where the records start, and what they are."""
    line, newline, _ = content[:4096].partition(b"\n")
    try:
        header = json.loads(line)
        version, sizes = header["version"], {name: int(header[name]) for name in _SIZES}
    except (ValueError, TypeError, KeyError) as error:
        raise SpectraFileError(f"{path} does not begin as a file of spectra does: {error!r}") from error
    if version != VERSION or not newline or min(sizes.values()) < 0:
        raise SpectraFileError(f"{path} holds spectra of version {version}, and this code reads version {VERSION}")
    return len(line) + 1, record_type(sizes)


class SpectraFile:
    """Writes ``spectrum.bin``; what a kill at any byte leaves is a file that can be read and continued.

    The first line is a JSON header with the sizes of the record's arrays, and appears together with the file. After it
    each record is one append. Continued from step s, the file loses the records from s on, for these steps are being
    run again; so in the end it holds, byte for byte, what the file of a run that was never stopped does.

    Args:
        path: the file; it is made with the first record.

    Attributes:
        records: how many it holds.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._type: np.dtype | None = None
        self.records = 0

    def continue_from(self, step: int) -> np.ndarray:
        """Drop the records from an optimiser step on, and return the others.

        A file that cannot be read is put aside with a warning.

        Returns:
            ``(R,)`` structured array; its fields are those of :class:`Spectra`.
        """
        try:
            content = self.path.read_bytes()
            start, self._type = _read_header(self.path, content)
        except FileNotFoundError:
            return np.zeros(0)
        except SpectraFileError as error:
            self._put_aside(str(error))
            return np.zeros(0)
        records = _records(content, start, self._type)
        self.records = int(np.searchsorted(records["step"], step))
        os.truncate(self.path, start + self.records * self._type.itemsize)
        return records[: self.records]

    def append(self, **values: Any) -> np.void:
        """Write one record, and return it.

        Records whose arrays have other sizes than those before begin a new file; the old one is put aside with a
        warning.

        Args:
            values: one for each field of :class:`Spectra`, without its first dimension.
        """
        sizes = {name: len(values[name]) for name in _SIZES}
        if self._type != record_type(sizes):
            self._begin(sizes)
        record = np.zeros((), self._type)
        for name, value in values.items():
            record[name] = value
        with open(self.path, "ab") as file:
            file.write(record.tobytes())
        self.records += 1
        return record[()]

    def sync(self) -> None:
        """Have the records written to the disk, so that they outlast a machine that stops."""
        if self.records:
            with open(self.path, "ab") as file:
                os.fsync(file.fileno())

    def _begin(self, sizes: dict[str, int]) -> None:
        if self.records:
            self._put_aside(f"the records of {self.path} have other sizes than those of this run")
        self._type, self.records = record_type(sizes), 0
        with replacing(self.path) as part:
            part.write_bytes(json.dumps({"version": VERSION, **sizes}).encode() + b"\n")

    def _put_aside(self, reason: str) -> None:
        number = 1
        while (aside := self.path.with_name(f"{self.path.stem}.earlier-{number}{self.path.suffix}")).exists():
            number += 1
        os.replace(self.path, aside)
        warnings.warn(f"{reason}; kept as {aside.name}, and {self.path.name} starts anew", stacklevel=3)
