"""The certificate: does a trained model use the discriminative part, or something else?"""

from benchmark.certificate.judging import Shares, certify, judged, shares, shares_by_view
from benchmark.certificate.pictures import Pictures, Twinned, swap
from benchmark.certificate.records import passing, read_certificates

__all__ = [
    "Pictures",
    "Shares",
    "Twinned",
    "certify",
    "judged",
    "passing",
    "read_certificates",
    "shares",
    "shares_by_view",
    "swap",
]
