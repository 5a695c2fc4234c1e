"""What the tests of launching share."""

import pytest

from tests.launch.checkout import Checkout


@pytest.fixture
def checkout(tmp_path):
    return Checkout(tmp_path)
