"""The home page: the release, the tables of the database and the rows of the catalogue, as plain text."""

import os
from datetime import UTC, datetime

from django.db import connection
from django.http import HttpRequest, HttpResponse

from catalogue.models import Product

_STARTED = datetime.now(UTC)


def home(request: HttpRequest) -> HttpResponse:
    tables = sorted(connection.introspection.table_names())
    lines = [f"release {os.environ.get('SHOP_RELEASE', 'of no image')}"]
    lines += [f"{len(tables)} tables: {', '.join(tables)}" if tables else "no tables yet"]
    if Product._meta.db_table in tables:
        lines += [f"  {product}" for product in Product.objects.order_by("name")]
    # So that a reader sees that the app was not restarted in between.
    lines.append(f"(this web process has been up since {_STARTED:%H:%M:%S} UTC)")
    return HttpResponse("\n".join(lines) + "\n", content_type="text/plain; charset=utf-8")
