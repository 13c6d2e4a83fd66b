"""Closed-form answers for queues, networks of queues and caches."""
