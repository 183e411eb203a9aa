"""The shared pool: Jobs queued by Kueue."""
