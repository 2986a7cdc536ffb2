"""The models as the how-to has them."""

from tests.project import fenced, read

exec(fenced(read("howto/tenants-by-schema.md"), "python")[1])  # noqa: S102 - our own page
