from tests.models.conftest import released  # noqa: F401
