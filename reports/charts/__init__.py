"""Charts of start-ups, grids, model runs and captures in numbers and words; `reports.plots` and `charts.html` draw them."""
