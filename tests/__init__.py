"""The tests. A package, so that `tests.rig` can be imported from every folder."""
