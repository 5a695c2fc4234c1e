"""Imports of the modules that lie beside a user's file."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType


class ModulesBeside:
    """Lets the code of a file import the modules beside it, as a script does.

    Each file has its own: a module of the same name beside another file is another module.
    """

    def __init__(self, path: str):
        self._folder = Path(path).resolve().parent
        self._modules: dict[str, ModuleType] = {}

    @contextlib.contextmanager
    def imported(self) -> Iterator[None]:
        """Within the block imports find them; afterwards nothing is left in `sys.path` and `sys.modules`."""
        entry, before = str(self._folder), dict(sys.modules)
        sys.modules.update(self._modules)
        sys.path.insert(0, entry)
        try:
            yield
        finally:
            with contextlib.suppress(ValueError):  # the file may have taken it out itself
                sys.path.remove(entry)
            # a block for every pair that is drawn: looking at thousands of modules would take the most time
            for name in set(sys.modules).difference(before):
                if self._lies_there(sys.modules[name]):
                    self._modules[name] = sys.modules[name]
            for name in self._modules:
                sys.modules.pop(name, None)
                if name in before:
                    sys.modules[name] = before[name]

    def _lies_there(self, module: object) -> bool:
        file = getattr(module, "__file__", None) or next(iter(getattr(module, "__path__", ())), None)
        if not isinstance(file, str):
            return False
        path = Path(file).resolve()
        # an environment with its packages may lie beside the file
        return path.is_relative_to(self._folder) and "site-packages" not in path.parts
