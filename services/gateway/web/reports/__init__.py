"""SLA reports for people: one content, drawn as a page, as PDF and as tables."""
