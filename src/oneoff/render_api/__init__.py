"""The Render-compatible faces: a thin translation onto the same operations as the native API, with no rules of its own."""
