"""Agents: the protocol, the tools and budget of a session, and the agents without a model."""
