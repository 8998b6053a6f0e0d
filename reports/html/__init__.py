"""The whole report as one HTML file that needs no network."""

from parbench.reports.html.page import Page, render_page, write_html

__all__ = ["Page", "render_page", "write_html"]
