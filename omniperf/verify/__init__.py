"""Verification: from a patch to a verdict."""
