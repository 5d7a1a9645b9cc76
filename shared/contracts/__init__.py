"""The words that the services say to each other: events, check results, commands. Facts without behaviour."""
