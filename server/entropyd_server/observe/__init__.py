"""What people and their tools see of a running server: log lines, the status page, traces."""
