"""The report: one HTML page that shows a results folder and works offline in any browser."""

from benchmark.report.page import Report, write_report

__all__ = ["Report", "write_report"]
