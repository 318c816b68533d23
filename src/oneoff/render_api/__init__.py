"""The Render-compatible faces: a thin translation onto the operations of the native API, with no rules of its own."""
