"""The certificate: does a trained model use the discriminative part, or something else?"""

from benchmark.certificate.answers import Answers, certify
from benchmark.certificate.judging import Shares, Verdict, judged, shares, shares_by_view, verdict
from benchmark.certificate.pictures import Pictures, Twinned, swap
from benchmark.certificate.records import passing, read_certificates

__all__ = [
    "Answers",
    "Pictures",
    "Shares",
    "Twinned",
    "Verdict",
    "certify",
    "judged",
    "passing",
    "read_certificates",
    "shares",
    "shares_by_view",
    "swap",
    "verdict",
]
