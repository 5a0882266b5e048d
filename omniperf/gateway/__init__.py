"""Between an agent and its model: what a call costs, what may be spent, what is done when it fails."""
