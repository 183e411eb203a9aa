"""The embedded queue: a SQLite database, a detached worker per user, and a sandbox for each Attempt."""
