"""Workspaces: repositories, seals, worktrees, and collecting the patch."""
