"""Where Submissions wait and run."""
