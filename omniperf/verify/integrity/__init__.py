"""Integrity: what a patch, an agent's commands, and what measuring saw say of how a speedup came about."""
