"""Forecasts of the time, memory and disk that runs will take."""
