import json
import struct

import numpy as np
import pytest

from solo_frossl.run_files import Spectra, SpectraFile, SpectraFileError, read_spectra


def values(step, embeddings=3, features=2, predictor=2, dimensions=4):
    return {
        "step": step,
        "epoch": step / 4,
        "embeddings": np.arange(embeddings)[::-1] + step,
        "features": np.arange(features) + 0.5,
        "predictor": np.ones(predictor),
        "alignment": np.full(predictor, np.nan),
        "view_correlation": np.linspace(-1, 1, dimensions),
        "embeddings_rankme": 2.5,
        "features_rankme": 1.5,
        "variance_share": 0.25,
    }


def write(path, steps, **sizes):
    file = SpectraFile(path)
    for step in steps:
        file.append(**values(step, **sizes))
    return path


def test_what_is_written_is_read(tmp_path):
    spectra = read_spectra(write(tmp_path / "spectrum.bin", [0, 50, 100]))
    assert spectra.step.tolist() == [0, 50, 100]
    assert spectra.epoch.tolist() == [0, 12.5, 25]
    assert spectra.embeddings.tolist() == [[2, 1, 0], [52, 51, 50], [102, 101, 100]]
    assert spectra.features.shape == (3, 2)
    assert spectra.predictor.shape == spectra.alignment.shape == (3, 2)
    assert np.isnan(spectra.alignment).all()
    assert spectra.view_correlation.shape == (3, 4)
    assert spectra.embeddings_rankme.tolist() == [2.5] * 3
    assert spectra.variance_share.tolist() == [0.25] * 3
    assert [p.name for p in tmp_path.iterdir()] == ["spectrum.bin"]


def test_the_layout_is_a_line_of_json_and_little_endian_records(tmp_path):
    content = write(tmp_path / "s.bin", [7, 8]).read_bytes()
    line, _, records = content.partition(b"\n")
    assert json.loads(line) == {"version": 1, "embeddings": 3, "features": 2, "predictor": 2, "view_correlation": 4}
    size = 8 + 8 + 4 * (3 + 2 + 2 + 2 + 4 + 3)
    assert len(records) == 2 * size
    assert struct.unpack_from("<qd3f2f", records) == (7, 1.75, 9, 8, 7, 0.5, 1.5)
    assert struct.unpack_from("<q", records, size) == (8,)


def test_without_a_predictor_its_arrays_are_empty(tmp_path):
    spectra = read_spectra(write(tmp_path / "s.bin", [0, 1], predictor=0))
    assert spectra.predictor.shape == spectra.alignment.shape == (2, 0)


def test_killed_at_any_byte_it_ends_as_if_it_never_was(tmp_path):
    whole = write(tmp_path / "whole.bin", [0, 2, 3, 4])
    content = whole.read_bytes()
    path = tmp_path / "s.bin"
    header, size = content.index(b"\n") + 1, 80
    for length in range(header, len(content) + 1):  # the header comes with the file or not at all
        path.write_bytes(content[:length])
        whole_records = [0, 2, 3, 4][: (length - header) // size]
        assert read_spectra(path).step.tolist() == whole_records
        for resumed in (0, 1, 2, 3, 4):
            path.write_bytes(content[:length])
            file = SpectraFile(path)
            kept = file.continue_from(resumed)["step"].tolist()
            assert kept == [step for step in whole_records if step < resumed]
            for step in [step for step in (0, 2, 3, 4) if step not in kept]:
                file.append(**values(step))
            assert path.read_bytes() == content


def test_killed_before_the_first_record(tmp_path):
    path = tmp_path / "s.bin"
    content = write(path, [0]).read_bytes()
    path.write_bytes(content[: content.index(b"\n") + 1])
    assert read_spectra(path).step.shape == (0,)
    file = SpectraFile(path)
    assert len(file.continue_from(0)) == 0
    file.append(**values(0))
    assert path.read_bytes() == content


def test_no_file_is_nothing_to_continue(tmp_path):
    assert len(SpectraFile(tmp_path / "s.bin").continue_from(5)) == 0
    assert list(tmp_path.iterdir()) == []


def test_other_sizes_begin_a_new_file_and_keep_the_old_one(tmp_path):
    path = write(tmp_path / "spectrum.bin", [0, 1])
    before = path.read_bytes()
    file = SpectraFile(path)
    file.continue_from(2)
    with pytest.warns(UserWarning, match=r"other sizes .*; kept as spectrum\.earlier-1\.bin, and spectrum\.bin starts"):
        file.append(**values(2, embeddings=5))
    assert (tmp_path / "spectrum.earlier-1.bin").read_bytes() == before
    assert read_spectra(path).embeddings.shape == (1, 5)
    assert file.records == 1


def test_other_sizes_after_a_start_from_nothing_leave_nothing_behind(tmp_path):
    path = write(tmp_path / "spectrum.bin", [0, 1])
    file = SpectraFile(path)
    file.continue_from(0)
    file.append(**values(0, embeddings=5))
    assert read_spectra(path).embeddings.shape == (1, 5)
    assert [p.name for p in tmp_path.iterdir()] == ["spectrum.bin"]


@pytest.mark.parametrize(
    "content",
    [b"", b"epoch,train/loss\n0,1\n", b"\x00" * 9000, b'{"version": 1}\n', b"[1]\n", b'{"version": 1, "embeddings": 3'],
)
def test_another_file_is_refused_and_put_aside(tmp_path, content):
    path = tmp_path / "spectrum.bin"
    path.write_bytes(content)
    with pytest.raises(SpectraFileError, match=r"spectrum\.bin does not begin as a file of spectra does"):
        read_spectra(path)
    file = SpectraFile(path)
    with pytest.warns(UserWarning, match=r"kept as spectrum\.earlier-1\.bin"):
        file.continue_from(3)
    assert (tmp_path / "spectrum.earlier-1.bin").read_bytes() == content
    file.append(**values(3))
    assert read_spectra(path).step.tolist() == [3]


def test_a_later_version_is_named(tmp_path):
    path = write(tmp_path / "s.bin", [0])
    path.write_bytes(path.read_bytes().replace(b'"version": 1', b'"version": 2'))
    with pytest.raises(SpectraFileError, match="version 2, and this code reads version 1"):
        read_spectra(path)


def test_a_missing_file_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_spectra(tmp_path / "none.bin")


def test_the_fields_are_those_of_a_record(tmp_path):
    record = SpectraFile(tmp_path / "s.bin").append(**values(4))
    assert record.dtype.names == Spectra._fields
    assert record["embeddings"].tolist() == [6, 5, 4]
