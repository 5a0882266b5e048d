"""The control arm `pattern`: a real optimizer without a model, by profile, rules and measurement."""

from omniperf.agents.arms.pattern.agent import PatternAgent

__all__ = ["PatternAgent"]
