"""CodeLupe turns public repositories into a code model that keeps getting better.

The names in ``__init__.pyi`` are what plugins build on; :mod:`codelupe.host.hookspecs` describes the hooks. Each is
imported when it is first used, so that the command line starts quickly.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__version__ = "0.1.0"
