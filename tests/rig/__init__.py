"""Real images and private servers for the tests; nothing here is part of the product."""
