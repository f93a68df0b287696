"""Checking a result by eye: a page that walks through polygons, and what the verdicts say and do."""
