"""Claims of papers: stated in YAML files before they are tested, planned as runs, and judged from the records."""
