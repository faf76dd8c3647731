"""From texts to prompts, and from replies to answers."""
