"""Prompts: rendering a task for an agent."""
