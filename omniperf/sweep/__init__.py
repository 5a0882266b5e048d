"""Runs: what to attempt, how often, and what a run leaves behind."""
