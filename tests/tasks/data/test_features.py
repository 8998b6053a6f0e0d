"""Files of features: what is read, and what is refused."""

import io
import pickle
import zipfile

import numpy as np
import pytest

from parbench.bench.util.errors import UserError
from parbench.tasks.data.features import MOST_SEGMENTS, load, save, shape_of

RIGHT = np.arange(12, dtype=np.float16).reshape(4, 3)


def archive(path, **members):
    with zipfile.ZipFile(path, "w") as file:
        for name, content in members.items():
            file.writestr(f"{name}.npy", content)
    return path


def array(values):
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_what_numpy_writes_is_read(tmp_path, dtype, write):
    write(tmp_path / "it.npz", features=RIGHT.astype(dtype), other=np.zeros(3))
    assert shape_of(tmp_path / "it.npz", "it") == (4, 3)
    found = load(tmp_path / "it.npz", "it")
    assert found.dtype == np.float32
    assert np.array_equal(found, RIGHT)


def test_what_is_written_is_what_the_publishers_write(tmp_path):
    save(tmp_path / "it.npz", RIGHT.astype(np.float32))
    with np.load(tmp_path / "it.npz", allow_pickle=False) as found:
        assert list(found) == ["features"]
        assert found["features"].dtype == np.float16
        assert np.array_equal(found["features"], RIGHT)


class Bomb:
    """Runs code when it is unpickled."""

    def __reduce__(self):
        return (pytest.fail, ("what was pickled has run",))


def test_nothing_is_unpickled(tmp_path):
    objects = np.array([[Bomb()]], dtype=object)
    np.savez(tmp_path / "it.npz", features=objects)
    header = array(np.zeros((1, 1)))
    with pytest.raises(UserError, match="its numbers are object, and features are of floating point"):
        load(tmp_path / "it.npz", "it")
    archive(tmp_path / "it.npz", features=pickle.dumps(Bomb()) + header)
    with pytest.raises(UserError, match="cannot be read as features"):
        load(tmp_path / "it.npz", "it")


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (np.zeros(3), r"it has the shape \(3,\), and features have a row per segment"),
        (np.zeros((0, 3)), r"it has the shape \(0, 3\)"),
        (np.zeros((2, 3), dtype=int), "its numbers are int64"),
        (np.array([["a"]]), "its numbers are <U1"),
    ],
)
def test_another_kind_of_array_is_refused(tmp_path, values, reason):
    np.savez(tmp_path / "it.npz", features=values)
    for read in (shape_of, load):
        with pytest.raises(UserError, match=reason):
            read(tmp_path / "it.npz", "it")


def test_numbers_that_are_not_finite_are_found_when_they_are_read(tmp_path):
    values = RIGHT.copy()
    values[2, 1] = np.inf
    np.savez(tmp_path / "it.npz", features=values)
    assert shape_of(tmp_path / "it.npz", "it") == (4, 3)
    with pytest.raises(UserError, match=r'it \(".*it.npz"\) .* the features of segment 2 are not finite; replace'):
        load(tmp_path / "it.npz", "it")


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "not a zip file"), (b"\x93NUMPY", "not a zip file"), (array(RIGHT), "not a zip file")],
)
def test_what_is_no_archive_is_refused(tmp_path, content, reason):
    (tmp_path / "it.npz").write_bytes(content)
    with pytest.raises(UserError, match=reason):
        shape_of(tmp_path / "it.npz", "it")


def test_an_archive_without_the_array_or_with_half_of_it_is_refused(tmp_path):
    np.savez(tmp_path / "it.npz", other=RIGHT)
    with pytest.raises(UserError, match='it has no array "features"'):
        shape_of(tmp_path / "it.npz", "it")
    archive(tmp_path / "it.npz", features=array(RIGHT)[:-4])
    with pytest.raises(UserError, match="cannot be read as features"):
        load(tmp_path / "it.npz", "it")
    with pytest.raises(UserError, match="No such file"):
        shape_of(tmp_path / "none.npz", "it")


def test_a_small_file_that_claims_to_be_large_is_refused_before_it_is_read(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f2", "fortran_order": False, "shape": (MOST_SEGMENTS, 10**6)}
    )
    archive(tmp_path / "it.npz", features=header.getvalue())
    with pytest.raises(UserError, match="more than 100,000,000 numbers are not read"):
        load(tmp_path / "it.npz", "it")
