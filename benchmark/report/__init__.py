"""The report: one page that shows a results folder, and needs nothing but a browser."""

from benchmark.report.page import Report, write_report

__all__ = ["Report", "write_report"]
