"""Rules of the gateway: standard library and the product's codes only."""
