"""What people see: terminal views of results."""
