import numpy as np
import pytest

from sparse_jax.data.token_file import TokenWriter, read_tokens


@pytest.mark.parametrize(("vocab_size", "dtype"), [(65_536, np.uint16), (65_537, np.uint32)])
def test_numpy_reads_what_was_written_in_pieces(tmp_path, vocab_size, dtype):
    path = tmp_path / "x.npy"
    ids = np.random.default_rng(0).integers(0, vocab_size, 100_000)
    ids[-1] = vocab_size - 1
    with TokenWriter(path, vocab_size) as tokens:
        for piece in np.split(ids, [0, 1, 10, 99_999]):
            tokens.write(piece)
    assert tokens.count == 100_000
    for read in (np.load(path), read_tokens(path)):
        assert read.dtype == dtype
        np.testing.assert_array_equal(read, ids)
    assert isinstance(read_tokens(path), np.memmap)


def test_the_digest_tells_contents_apart_and_not_pieces(tmp_path):
    def digest(*pieces, vocab_size=300):
        with TokenWriter(tmp_path / "x.npy", vocab_size) as tokens:
            for piece in pieces:
                tokens.write(np.array(piece))
        return tokens.digest

    assert digest([1, 2], [3]) == digest([1], [2, 3])
    assert len({digest([1, 2, 3]), digest([1, 2, 4]), digest([1, 2]), digest([])}) == 4
    assert digest([1]) != digest([1], vocab_size=2**17)


def test_no_tokens(tmp_path):
    with TokenWriter(tmp_path / "x.npy", 300):
        pass
    assert read_tokens(tmp_path / "x.npy").shape == (0,)
