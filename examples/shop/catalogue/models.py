"""Tables of the catalogue."""

from django.db import models


class Product(models.Model):
    """One thing that is sold."""

    name = models.CharField(max_length=100, unique=True)
    price_cents = models.PositiveIntegerField()

    def __str__(self) -> str:
        return f"{self.name} at {self.price_cents / 100:.2f}"
