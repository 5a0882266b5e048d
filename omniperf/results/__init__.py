"""Results: the schema of what an attempt leaves behind, and how it is written so that nothing is lost."""
