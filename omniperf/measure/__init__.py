"""Measurement: workers, the outside clock, pairs, sequential statistics, lanes."""
