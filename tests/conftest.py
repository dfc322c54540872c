"""What holds for all tests.

Owns the settings of the property tests. It must not know any module under test.
"""

from __future__ import annotations

from hypothesis import settings

# The first example of a test may have to compile a kernel, and machines are shared.
settings.register_profile("entropyd", deadline=None)
settings.load_profile("entropyd")
