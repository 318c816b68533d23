"""What all faces of the HTTP API share: who calls, how much they may send, and what a request says of itself."""
