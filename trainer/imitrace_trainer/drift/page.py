"""Show what a check for drift found as one HTML page that needs nothing else."""

from imitrace_trainer.drift.findings import DriftReport
from imitrace_trainer.pages import page


def render(report: DriftReport) -> str:
    """Return the page of a check."""
    return page(f"{report.clone} v{report.version}: drift", [f"<pre>{report.render()}</pre>"])
