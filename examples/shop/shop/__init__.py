"""A small real Django app, the one `./demo` deploys."""
