"""A rule that the rows of production break. The database is as before: a migration is one transaction."""

from django.core.management.base import CommandError
from django.db import migrations, models

_MOST_CENTS = 10_000


def check_prices(apps, schema_editor):
    for product in apps.get_model("catalogue", "Product").objects.filter(price_cents__gt=_MOST_CENTS):
        raise CommandError(f"{product.name} costs {product.price_cents / 100:.2f}, and nothing may cost above 100")


class Migration(migrations.Migration):
    dependencies = [("catalogue", "0002_first_products")]
    operations = [
        migrations.AddConstraint(
            "Product", models.CheckConstraint(condition=models.Q(price_cents__gt=0), name="price_above_0")
        ),
        migrations.RunPython(check_prices, migrations.RunPython.noop),
    ]
