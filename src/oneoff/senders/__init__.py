"""How Oneoff speaks to the outside world: one module per kind of receiver. Used by the loops; they know no rows."""
