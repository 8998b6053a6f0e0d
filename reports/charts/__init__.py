"""Interactive figures of the page, drawn by Vega-Lite in the reader's browser from the numbers of the leaderboards."""

from parbench.reports.charts.chart import REPLACED, Chart
from parbench.reports.charts.charts import Charts, charts_of

__all__ = ["REPLACED", "Chart", "Charts", "charts_of"]
