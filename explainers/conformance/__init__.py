"""Check that an explainer follows the rules that all explainers must follow.

`check` reports the result of every check; `assert_conforms` is for pytest.

>>> from explainers.conformance import assert_conforms, check
"""

from an8flower.ground.deprecated import renamed
from explainers.conformance.checking import CHECKS, ConformanceReport, Result, assert_conforms, check

__all__ = ["CHECKS", "ConformanceReport", "Result", "assert_conforms", "check"]

__getattr__ = renamed(__name__, {"Report": "ConformanceReport"})
