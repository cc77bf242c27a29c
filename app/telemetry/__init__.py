"""Observation of requests: a record, a log line, metrics, and a trace."""
