"""How the product is run: containers, the local stack, the `sla-monitor` command, the demo."""
