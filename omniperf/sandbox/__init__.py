"""Sandboxes: run commands with limits, away from everything they must not see."""
