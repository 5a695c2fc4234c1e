import jax
import pytest

import sparse_jax as sj
from sparse_jax.runtime.settings import require_settings

WRONG = {
    "JAX_ENABLE_X64: True": lambda: jax.enable_x64(True),
    "JAX_NUMPY_RANK_PROMOTION: 'raise'": lambda: jax.numpy_rank_promotion("raise"),
    "JAX_NUMPY_DTYPE_PROMOTION: 'strict'": lambda: jax.numpy_dtype_promotion("strict"),
}


@pytest.mark.parametrize("said", WRONG)
def test_settings_that_change_the_numbers_are_refused_before_any_work(said, tmp_path):
    require_settings()
    calls = (
        lambda: sj.run(None, "x"),
        lambda: sj.generate(None, "x"),
        lambda: sj.score(None, "for_while"),
        lambda: sj.prune(None, "for_while"),
        lambda: sj.train(sj.presets.tiny(), tmp_path / "run"),
    )
    with WRONG[said]():
        for call in calls:
            with pytest.raises(sj.InputError, match=f"^{said} is not supported; valid: "):
                call()
    assert not list(tmp_path.iterdir())
    require_settings()
