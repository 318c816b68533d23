"""What every operation works with."""

from oneoff.engine.context import Context as Context
