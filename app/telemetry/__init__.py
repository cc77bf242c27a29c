"""What a request leaves behind: a record, a log line, metrics, a trace."""
