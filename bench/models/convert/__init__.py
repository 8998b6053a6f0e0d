"""Base models made from files that packages carry in other formats."""
