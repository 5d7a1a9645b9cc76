"""The rules of definitions, slots and hosts. Pure: no I/O, no clock, standard library only (and the shared codes)."""
