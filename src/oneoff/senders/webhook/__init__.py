"""How deliveries reach the receivers of webhooks: over HTTP, or by mail."""
