"""The command takes a model to another format and shows what it did, or refuses in one line."""

import numpy as np
import pytest
from tokenizers import Tokenizer, models

from sparse_jax.data.tokenizer import END_OF_TEXT
from sparse_jax.model.config import ModelConfig
from sparse_jax.model.forward import param_shapes
from sparse_jax.models.compact import write_compact
from sparse_jax.models.formats import load_model
from sparse_jax.models.means import ablation_values, node_means, program_windows
from sparse_jax.models.model import Model
from sparse_jax.models.released import write_released
from sparse_jax.trees import map_named


@pytest.fixture
def released(tmp_path):
    config = ModelConfig(vocab_size=8, context=8, n_layers=1, d_model=8, d_head=4, bigram="none")
    params = map_named(lambda _, leaf: np.eye(*leaf.shape[-2:], dtype=np.float32) if leaf.ndim == 2 else
                       np.ones(leaf.shape, np.float32), param_shapes(config))  # fmt: skip
    write_released(Model(config, params), tmp_path / "released")
    return tmp_path / "released"


@pytest.fixture
def convert(command):
    def run(source, target, kind, *more):
        return command("convert", f"--from={source}", f"--to={target}", f"--format={kind}", *more)

    return run


def test_it_prints_the_nonzero_weights_the_size_a_sample_and_the_difference(convert, released, tmp_path):
    ended = convert(released, tmp_path / "out", "safetensors")
    assert ended.returncode == 0, ended.stderr
    size = sum(path.stat().st_size for path in (tmp_path / "out").iterdir())
    assert "embed/kernel                                     8 x 8          64   12.50 %" in ended.stdout
    assert f"size: {size:,} bytes" in ended.stdout
    assert "sample: [" in ended.stdout
    assert "round trip: largest difference of a weight 0\n" in ended.stdout


def test_a_model_made_elsewhere_can_be_pruned_once_its_tokenizer_is_there(convert, released, tmp_path):
    tokenizer = Tokenizer(models.BPE(vocab={chr(ord("a") + i): i for i in range(8)}, merges=[]))
    tokenizer.save(str(released / "tokenizer.json"))
    ended = convert(released, tmp_path / "out", "safetensors")
    assert ended.returncode == 0, ended.stderr
    model = load_model(tmp_path / "out")
    again = convert(tmp_path / "out", tmp_path / "again", "compact")
    assert again.returncode == 0, again.stderr
    kept, copied = (tmp_path / name / "means_128.npz" for name in ("out", "again"))
    assert kept.read_bytes() == copied.read_bytes()
    means = ablation_values(model)
    # letters of programs alone, every one of them, in windows of the context
    windows = program_windows(tokenizer, 128, 8)
    assert windows.shape == (128, 8) and set(windows.ravel().tolist()) == set(range(8))
    found = node_means(model.config, model.params, windows)
    for site, mean in means.items():
        np.testing.assert_allclose(mean, found[site], atol=1e-6, err_msg=site)


@pytest.mark.parametrize(("end", "said"), [(5, "bbbbbbb"), (None, "ccccccc")])
def test_the_sample_begins_after_the_end_of_a_text_whatever_its_id(convert, tmp_path, end, said):
    """The bigram table alone decides: b after b and after id 5, else c."""
    config = ModelConfig(vocab_size=8, context=8, n_layers=1, d_model=8, d_head=4)
    following = np.array([2, 1, 2, 2, 2, 1, 2, 2])
    params = map_named(lambda name, leaf: 99 * np.eye(8, dtype=np.float32)[following] if "bigram" in name else
                       np.zeros(leaf.shape, np.float32), param_shapes(config))  # fmt: skip
    vocabulary = {(END_OF_TEXT if i == end else chr(ord("a") + i)): i for i in range(8)}
    write_compact(Model(config, params, Tokenizer(models.BPE(vocab=vocabulary, merges=[]))), tmp_path / "in")
    ended = convert(tmp_path / "in", tmp_path / "out", "openai")
    assert f"sample: '{' '.join(said)}'" in ended.stdout, ended.stderr


def test_an_existing_target_is_refused_in_one_line(convert, released, tmp_path):
    ended = convert(released, tmp_path, "openai")
    assert ended.returncode == 2
    assert ended.stderr.splitlines()[-1].startswith(f"error: {tmp_path}: exists")


def test_a_control_is_written_and_its_seed_told(convert, released, tmp_path):
    ended = convert(released, tmp_path / "out", "compact", "--control=random_weights", "--seed=2")
    assert ended.returncode == 0, ended.stderr
    real, control = load_model(released), load_model(tmp_path / "out")
    assert control.control == f"random weights of model {real.fingerprint}, seed 2"
    assert control.fingerprint != real.fingerprint
    assert "round trip: largest difference of a weight 0\n" in ended.stdout
    alone = convert(released, tmp_path / "other", "compact", "--seed=2")
    assert alone.returncode == 2 and "--seed: 2 is not valid; valid: none without --control" in alone.stderr
    assert not (tmp_path / "other").exists()
