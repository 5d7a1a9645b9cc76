"""The rules: what a service's status is, what a day was like, how the whole is. No await, no clock, no I/O."""
