"""REST: a router per noun, who may use it, and how errors are said."""
