"""Tasks: the schema of a task file, loading it with good errors, listing and creating tasks."""
