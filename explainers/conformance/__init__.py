"""The checks that any explainer, yours or ours, must pass.

>>> from explainers.conformance import assert_conforms, check
"""

from explainers.conformance.checking import CHECKS, Report, Result, assert_conforms, check

__all__ = ["CHECKS", "Report", "Result", "assert_conforms", "check"]
