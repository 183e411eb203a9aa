"""A real Kubernetes with a real Kueue on one Linux machine, for tests; see docs/testbed.md."""
