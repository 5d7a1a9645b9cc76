"""Services to try the monitor on, whose answers are switched at run time, so that nobody else's servers are probed."""
