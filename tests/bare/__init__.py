"""A host without `django.contrib.auth`, sessions and middleware, as sites with an API alone have it."""
