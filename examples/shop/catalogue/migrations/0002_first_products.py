"""The first rows: a migration that is more than a change of tables, and takes a moment."""

from django.db import migrations

_FIRST = {"Lamp": 4900, "Chair": 12900, "Desk": 39900}


def add_first_products(apps, schema_editor):
    product = apps.get_model("catalogue", "Product")
    for name, price_cents in _FIRST.items():
        product.objects.create(name=name, price_cents=price_cents)


class Migration(migrations.Migration):
    dependencies = [("catalogue", "0001_products")]
    operations = [migrations.RunPython(add_first_products, migrations.RunPython.noop)]
