"""The rule that was meant."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("catalogue", "0002_first_products")]
    operations = [
        migrations.AddConstraint(
            "Product", models.CheckConstraint(condition=models.Q(price_cents__gt=0), name="price_above_0")
        )
    ]
