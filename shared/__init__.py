"""What at least three services use and what knows nothing of monitoring (contracts excepted: facts without behaviour)."""
