"""Modified backward passes: a recorded forward pass, rules for going back, and the stride fix."""
