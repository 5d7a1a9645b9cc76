"""The rules: when an incident begins, what may happen to it, and when it ends. No await, no clock, no I/O."""
