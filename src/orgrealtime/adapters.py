"""How this app learns about organisations and members: one adapter, named by `ORGREALTIME["ADAPTER"]`."""

from __future__ import annotations

import functools
import logging
from collections.abc import Collection, Iterator
from typing import Any, NamedTuple, cast

from django.apps import apps
from django.contrib.auth import get_user_model
from django.core.exceptions import (
    FieldDoesNotExist,
    ImproperlyConfigured,
    ObjectDoesNotExist,
    PermissionDenied,
    ValidationError,
)
from django.db import DataError, models, router
from django.http import Http404
from django.utils.module_loading import import_string

from orgrealtime import tables
from orgrealtime.conf import get_settings, organization_model
from orgrealtime.keys import can_hold, organization_keys
from orgrealtime.overrides import is_overridden
from orgrealtime.stream.access import Access
from orgrealtime.stream.topics import with_topics

logger = logging.getLogger("orgrealtime.adapters")

# What comes of looking for a slug that isn't there, or can't be: by `get`, as a number or a UUID. Not LookupError: that
# is a mistake as often, and clients that are told 4403 don't come back when it is mended.
NO_ORGANIZATION = (
    ObjectDoesNotExist,
    Http404,
    PermissionDenied,
    ValidationError,
    ValueError,
    OverflowError,
    DataError,
)
ITSELF = "pk"  # the path from a row to itself, where users or organisations are their own memberships
MANY_TO_MANY = "; for a many-to-many field set ORGREALTIME['MEMBERSHIP'], as 'teams__members'"


class OrganizationAdapter:
    """What this app must know of the host's organisations; every method may use the database and runs in a thread."""

    def find(self, slug: str, user: Any) -> tuple[models.Model, Access] | None:
        """Return the organisation with this slug and the user's access, or None.

        Whether the organisation doesn't exist or the user isn't a member must not show, neither in the result
        nor in the time it takes.
        """
        raise NotImplementedError

    def find_together(
        self, pairs: Collection[tuple[str, Any]]
    ) -> dict[tuple[str, Any], tuple[models.Model, Access]]:
        """Return what `find` does for several (slug, user) pairs, without pairs that have no access; the keys are
        (slug, primary key of the user).

        Override it, with one query, where many clients connect at the same moment, as after a restart: their handshakes
        are then looked up together. It isn't used if a subclass has a `find` of its own beside it.
        """
        found = {(slug, user.pk): self.find(slug, user) for slug, user in pairs}
        return {pair: access for pair, access in found.items() if access is not None}

    def accesses(self, pairs: Collection[tuple[Any, Any]]) -> dict[tuple[Any, Any], tuple[Access, Any]]:
        """Return today's access and user for the (organisation id, user id) pairs that still have an access.

        Called regularly with all pairs of a process: use one query.
        """
        raise NotImplementedError

    def resolve(self, slug: str) -> models.Model | None:
        """Return the organisation with this slug, or None, whatever its members; for commands, not for requests."""
        raise NotImplementedError

    def member_ids(self, organization: models.Model) -> Collection[Any]:
        """Return the primary keys of the users who are members."""
        raise NotImplementedError

    def check(self) -> None:
        """Raise ImproperlyConfigured if this adapter can't work with the settings; called by the system checks."""

    def membership_models(self) -> Collection[type[models.Model]]:
        """Return the models whose changes may end a user's access, each with a user at `user_of(instance)`."""
        return ()

    def user_of(self, membership: models.Model) -> Any:
        """Return the primary key of the user whose access an instance of `membership_models` gives, or None."""
        raise NotImplementedError

    def users_of(self, instance: models.Model) -> Collection[Any]:
        """Return the primary keys of the users whose access a change of this instance may end: that of `user_of`."""
        user_id = self.user_of(instance)
        return () if user_id is None else (user_id,)


class MembershipAdapter(OrganizationAdapter):
    """For hosts with a membership model, whose rows lead by foreign keys to an organisation and to a user.

    Set `ORGREALTIME["MEMBERSHIP"]` or `ORGREALTIME["MEMBERSHIP_MODEL"]`; override `queryset` to leave out memberships
    that don't count (invited, suspended), and `access` to give roles or hide event types.
    """

    def __init__(self) -> None:
        settings = get_settings()
        self.membership_model = settings.MEMBERSHIP_MODEL
        self.organization_field = settings.MEMBERSHIP_ORGANIZATION_FIELD
        self.user_field = settings.MEMBERSHIP_USER_FIELD
        self.slug_field = settings.ORGANIZATION_SLUG_FIELD
        if settings.MEMBERSHIP:
            if settings.MEMBERSHIP_MODEL:
                raise ImproperlyConfigured("Set ORGREALTIME['MEMBERSHIP'] or ['MEMBERSHIP_MODEL'], not both")
            found = _follow(settings.MEMBERSHIP, organization_model())
            self.membership_model, self.organization_field, self.user_field = found

    def queryset(self) -> models.QuerySet[Any]:
        """Return the memberships that count, from the primary: a replica may not know yet that one has ended."""
        model = self._model()
        return model._default_manager.using(router.db_for_write(model))

    def organizations(self) -> models.QuerySet[Any]:
        """Return the organisations that exist: those that the default manager shows. All others count as gone."""
        model: type[models.Model] = apps.get_model(organization_model())
        return model._default_manager.all()

    def access(self, membership: Any) -> Access:
        """Return what a membership lets its user see; default: everything that is for all members or for them."""
        return Access(
            organization_id=_key_at(membership, self.organization_field),
            user_id=_key_at(membership, self.user_field),
            role=str(getattr(membership, "role", "")),
        )

    def find(self, slug: str, user: Any) -> tuple[models.Model, Access] | None:
        """Return organisation and access in one query that is the same for all slugs that there can be."""
        if not self._can_be(slug):
            return None
        of_user = {
            _lookup(self.organization_field, self.slug_field): slug,
            _lookup(self.user_field, "pk"): user.pk,
        }
        membership = self._members(self.organization_field).filter(**of_user).first()
        if membership is None:
            return None
        return _object_at(membership, self.organization_field), self.access(membership)

    def find_together(
        self, pairs: Collection[tuple[str, Any]]
    ) -> dict[tuple[str, Any], tuple[models.Model, Access]]:
        """Return organisations and accesses in one query."""
        pairs = [(slug, user) for slug, user in pairs if self._can_be(slug)]
        wanted = {(slug, user.pk) for slug, user in pairs}
        if not wanted:
            return {}
        members = self._members(self.organization_field).filter(
            **{
                _lookup(self.organization_field, f"{self.slug_field}__in"): {slug for slug, _ in wanted},
                _lookup(self.user_field, "pk__in"): {user_id for _, user_id in wanted},
            }
        )
        found: dict[tuple[str, Any], tuple[models.Model, Access]] = {}
        for membership in _first_come(members):
            organization = _object_at(membership, self.organization_field)
            pair = (str(getattr(organization, self.slug_field)), _key_at(membership, self.user_field))
            if pair not in found:
                found[pair] = organization, self.access(membership)
        # To the database slugs may be equal that aren't to Python, as where case doesn't count: it has to say which.
        strays = {user_id for _, user_id in found.keys() - wanted}
        rest = [(slug, user) for slug, user in pairs if user.pk in strays and (slug, user.pk) not in found]
        return {pair: found[pair] for pair in wanted & found.keys()} | super().find_together(rest)

    def accesses(self, pairs: Collection[tuple[Any, Any]]) -> dict[tuple[Any, Any], tuple[Access, Any]]:
        """Return today's accesses in one query."""
        wanted = set(pairs)
        organization_ids, user_ids = {pair[0] for pair in wanted}, {pair[1] for pair in wanted}
        members = self._members(self.user_field).filter(
            **{
                _lookup(self.organization_field, "pk__in"): organization_ids,
                _lookup(self.user_field, "pk__in"): user_ids,
            }
        )
        accesses: dict[tuple[Any, Any], tuple[Access, Any]] = {}
        for membership in _first_come(members):
            try:
                access = self.access(membership)
            except Exception:
                logger.exception(
                    "access failed for a membership, it counts as none", extra={"pk": membership.pk}
                )
                continue
            pair = (access.organization_id, access.user_id)
            accesses.setdefault(pair, (access, _object_at(membership, self.user_field)))
        return {pair: found for pair, found in accesses.items() if pair in wanted}

    def resolve(self, slug: str) -> models.Model | None:
        """Return the organisation by its slug."""
        if not self._can_be(slug):
            return None
        found: models.Model | None = self.organizations().filter(**{self.slug_field: slug}).first()
        return found

    def member_ids(self, organization: models.Model) -> Collection[Any]:
        """Return the ids of the members, in one query."""
        key = organization_keys().of(organization)
        members = self.queryset().filter(**{_lookup(self.organization_field, "pk"): key})
        # An invitation, say, or an organisation without its owner, refers to nobody.
        return set(members.values_list(_lookup(self.user_field, "pk"), flat=True)) - {None}

    def membership_models(self) -> Collection[type[models.Model]]:
        """Return the membership model, unless that is the organisation's or the user's own, and those in between."""
        own = () if ITSELF in {self.organization_field, self.user_field} else (self._model(),)
        return (*own, *self._between().values())

    def user_of(self, membership: models.Model) -> Any:
        """Return the id of the membership's user; None if the user has been deleted."""
        try:
            return _key_at(membership, self.user_field)
        except ObjectDoesNotExist:
            return None

    def users_of(self, instance: models.Model) -> Collection[Any]:
        """Return the user of a membership, or those of all memberships that lead over this instance."""
        for path, model in self._between().items():
            if isinstance(instance, model) and not isinstance(instance, self._model()):
                model = self._model()
                members = model._base_manager.using(router.db_for_write(model)).filter(**{path: instance})
                return set(members.values_list(_lookup(self.user_field, "pk"), flat=True))
        return super().users_of(instance)

    def check(self) -> None:
        """Raise ImproperlyConfigured unless the models have the fields that the settings name."""
        organization, user = apps.get_model(organization_model()), get_user_model()
        _check_reference(
            self._model(), self.organization_field, organization, "MEMBERSHIP_ORGANIZATION_FIELD"
        )
        _check_reference(self._model(), self.user_field, user, "MEMBERSHIP_USER_FIELD")
        _get_field(organization, self.slug_field, "ORGANIZATION_SLUG_FIELD")

    def _members(self, *related: str) -> models.QuerySet[Any]:
        """The memberships that count in organisations that exist, loaded with what they refer to."""
        members = self.queryset()
        for path in (self.organization_field, self.user_field):
            before = path.rpartition("__")[0]
            needed = path if path in related or not _refers_by_key(members.model, path) else before
            if needed and needed != ITSELF:
                members = members.select_related(needed)
        existing = self.organizations()
        if existing.query.where or existing.query.is_sliced:  # else it hides nothing, and needn't be asked
            members = members.filter(**{f"{self.organization_field}__in": existing})
        return members

    def _can_be(self, slug: str) -> bool:
        """Tell whether there can be an organisation with this slug: the field may be a number or a UUID."""
        organizations = self.organizations()
        field = organizations.model._meta.get_field(self.slug_field)
        return can_hold(field, slug, router.db_for_write(organizations.model))

    def _between(self) -> dict[str, type[models.Model]]:
        """The models over which memberships lead to organisation and user, by the path from a membership."""
        return {
            path: _model_at(self._model(), path)
            for whole in (self.organization_field, self.user_field)
            for path in _beginnings(whole)
        }

    def _model(self) -> type[models.Model]:
        if not self.membership_model:
            raise ImproperlyConfigured(
                "Set ORGREALTIME['MEMBERSHIP'] to the path of fields from an organisation to its users, as "
                "'memberships__user', ['MEMBERSHIP_MODEL'] to the model that links the two, or ['ADAPTER'] to an "
                "OrganizationAdapter of your own"
            )
        try:
            return apps.get_model(self.membership_model)
        except LookupError as error:
            raise ImproperlyConfigured(f"ORGREALTIME['MEMBERSHIP_MODEL']: {error.args[0]}") from None
        except ValueError:
            raise ImproperlyConfigured(
                f"ORGREALTIME['MEMBERSHIP_MODEL'] is 'app_label.ModelName', not {self.membership_model!r}"
            ) from None


def _first_come(members: models.QuerySet[Any]) -> models.QuerySet[Any]:
    """Where a user has several memberships the first counts: in the order of `find`."""
    return members if members.ordered else members.order_by("pk")


class _Step(NamedTuple):
    """A step of a path over relations: the `model` it leads to, by a foreign key called `name`.

    `is_to_many` if the key is on that model, and any number of its rows refer to where the step begins.
    """

    model: type[models.Model]
    name: str
    is_to_many: bool


@functools.lru_cache(maxsize=8)
def _follow(path: str, organization: str) -> tuple[str, str, str]:
    """Return the label of the membership model, and the paths from it to organisation and user.

    `path` leads from an organisation to its users, by names of fields as in a query; raises ImproperlyConfigured.
    """
    at = membership = apps.get_model(organization)
    back: list[str] = []
    onward: list[str] = []
    for name in path.split("__"):
        for step in _steps(at, name):
            if step.is_to_many and onward:
                raise ImproperlyConfigured(
                    f"ORGREALTIME['MEMBERSHIP'] leads to one {at._meta.label} and from there to many "
                    f"{step.model._meta.label}: one row must say who is a member of what; for all else write an "
                    "ORGREALTIME['ADAPTER']"
                )
            at = step.model
            if step.is_to_many:
                membership = at
                back.insert(0, step.name)
            else:
                onward.append(step.name)
    if not _is_same(at, get_user_model()):
        raise ImproperlyConfigured(
            f"ORGREALTIME['MEMBERSHIP'] is a path from {organization} to its users, but {path!r} ends at "
            f"{at._meta.label}"
        )
    return membership._meta.label, "__".join(back) or ITSELF, "__".join(onward) or ITSELF


def _steps(model: type[models.Model], name: str) -> Iterator[_Step]:
    field = _get_field(model, name, "MEMBERSHIP")
    if isinstance(field, models.ManyToManyField):
        yield _Step(_through(field), field.m2m_field_name(), is_to_many=True)
        yield _Step(field.related_model, field.m2m_reverse_field_name(), is_to_many=False)
    elif isinstance(field, models.ManyToManyRel):
        yield _Step(_through(field.field), field.field.m2m_reverse_field_name(), is_to_many=True)
        yield _Step(field.related_model, field.field.m2m_field_name(), is_to_many=False)
    elif isinstance(field, models.ForeignKey):
        yield _Step(field.related_model, field.name, is_to_many=False)
    elif isinstance(field, models.ManyToOneRel):
        yield _Step(field.related_model, field.field.name, is_to_many=True)
    else:
        raise ImproperlyConfigured(
            f"ORGREALTIME['MEMBERSHIP'] names {name!r}, which is no relation of {model._meta.label}"
        )


def _through(field: Any) -> Any:
    return field.remote_field.through


def _lookup(path: str, name: str) -> str:
    return name if path == ITSELF else f"{path}__{name}"


def _beginnings(path: str) -> Iterator[str]:
    """The paths that lead only a part of the way."""
    names = path.split("__")
    return ("__".join(names[:count]) for count in range(1, len(names)))


def _model_at(model: type[models.Model], path: str) -> type[models.Model]:
    for name in path.split("__"):
        model = cast(Any, model._meta.get_field(name)).related_model
    return model


def _object_at(membership: models.Model, path: str) -> Any:
    return membership if path == ITSELF else functools.reduce(getattr, path.split("__"), membership)


def _refers_by_key(model: type[models.Model], path: str) -> bool:
    if path == ITSELF:
        return True
    before, _, name = path.rpartition("__")
    field: Any = (_model_at(model, before) if before else model)._meta.get_field(name)
    return bool(field.target_field.primary_key)


def _key_at(membership: models.Model, path: str) -> Any:
    """The primary key of what a membership refers to: a foreign key may hold another value (`to_field`)."""
    if path != ITSELF and _refers_by_key(type(membership), path):
        return _object_at(membership, f"{path}_id")
    return _object_at(membership, path).pk


def _check_reference(model: type[models.Model], path: str, target: type[models.Model], setting: str) -> None:
    at = model
    for name in path.split("__") if path != ITSELF else ():
        field = _get_field(at, name, setting)
        if not isinstance(field, models.ForeignKey):
            raise ImproperlyConfigured(
                f"ORGREALTIME['{setting}'] names {path!r}, but {name!r} isn't a foreign key of {at._meta.label}"
                + MANY_TO_MANY * bool(field.many_to_many)
            )
        at = field.related_model
    if not _is_same(at, target):
        raise ImproperlyConfigured(
            f"ORGREALTIME['{setting}'] names {path!r}, which isn't a foreign key from {model._meta.label} "
            f"to {target._meta.label}"
        )


def _is_same(model: Any, target: type[models.Model]) -> bool:
    """Tell whether two models are one, or a proxy of it."""
    return bool(model._meta.concrete_model is target._meta.concrete_model)


def _get_field(model: type[models.Model], name: str, setting: str) -> Any:
    try:
        return model._meta.get_field(name)
    except FieldDoesNotExist:
        names = ", ".join(sorted(field.name for field in model._meta.get_fields()))
        raise ImproperlyConfigured(
            f"ORGREALTIME['{setting}'] names {name!r}, but {model._meta.label} has only {names}"
        ) from None


class DjangoOrganizationsAdapter(MembershipAdapter):
    """For django-organizations: `ORGREALTIME_ORGANIZATION_MODEL = "organizations.Organization"` and this adapter."""

    def __init__(self) -> None:
        super().__init__()
        self.membership_model = "organizations.OrganizationUser"
        self.organization_field = "organization"
        self.user_field = "user"
        self.slug_field = "slug"

    def queryset(self) -> models.QuerySet[Any]:
        """Return the memberships in organisations that are active."""
        return super().queryset().filter(organization__is_active=True)


Found = tuple[models.Model, Access]


def find(slug: str, user: Any) -> Found | None:
    """Return what the adapter in force finds; None also for a slug of which it can make nothing.

    Needs a thread that may use the database.
    """
    if not _is_text(slug):
        return None
    try:
        found = get_adapter().find(slug, user)
    except NO_ORGANIZATION as error:
        _log_no_organization(error)
        return None
    return None if found is None else (found[0], with_topics([found[1]])[0])


def find_together(pairs: Collection[tuple[str, Any]]) -> dict[tuple[str, Any], Found]:
    """Return what the adapter in force finds together, as `find` does for each."""
    wanted = {(slug, user) for slug, user in pairs if _is_text(slug)}
    try:
        found = get_adapter().find_together(wanted) if wanted else {}
    except NO_ORGANIZATION:
        one_by_one = {(slug, user.pk): find(slug, user) for slug, user in wanted}
        return {pair: access for pair, access in one_by_one.items() if access is not None}
    accesses = with_topics(access for _, access in found.values())
    return {
        pair: (organization, access)
        for (pair, (organization, _)), access in zip(found.items(), accesses, strict=True)
    }


def accesses(pairs: Collection[tuple[Any, Any]]) -> dict[tuple[Any, Any], tuple[Access, Any]]:
    """Return today's accesses, with their topics, and users of (organisation id, user id) pairs.

    Needs a thread that may use the database.
    """
    found = get_adapter().accesses(pairs)
    today = with_topics(access for access, _ in found.values())
    return {pair: (access, user) for (pair, (_, user)), access in zip(found.items(), today, strict=True)}


def resolve(slug: str) -> models.Model | None:
    """Return what the adapter in force resolves; None also for a slug of which it can make nothing."""
    if not _is_text(slug):
        return None
    try:
        return get_adapter().resolve(slug)
    except NO_ORGANIZATION as error:
        _log_no_organization(error)
        return None


def _is_text(slug: str) -> bool:
    """Tell whether a database can be asked for this: PostgreSQL takes no NUL, and no driver half a character."""
    return "\x00" not in slug and not any("\ud800" <= character <= "\udfff" for character in slug)


def _log_no_organization(error: Exception) -> None:
    # Every member of nothing can cause it, and a mistake in an adapter too: it is no error, and it is to be found.
    logger.info("the adapter can't read a slug, it counts as unknown", extra={"error": type(error).__name__})


def find_in_request(slug: str, user: Any) -> tuple[models.Model, Access] | None:
    """Return what `find` does, but nothing where the user's key is that of another table's user.

    For threads whose connections the host's middleware may have given another search path.
    """
    found = find(slug, user)
    if found is not None and not tables.are_those_of_the_streams():
        logger.error(
            "users here aren't those of the streams, refused",
            extra={"org": slug, "table": user._meta.db_table},
        )
        return None
    return found


def finds_together() -> bool:
    """Tell whether the adapter in force has a `find_together` of its own that agrees with its `find`."""
    adapter = _adapter_class()
    ways = next(found for base in adapter.__mro__ if (found := {"find", "find_together"} & vars(base).keys()))
    return "find_together" in ways and is_overridden(adapter, OrganizationAdapter, "find_together")


def get_adapter() -> OrganizationAdapter:
    """Return an instance of the adapter in force; needs a thread that may use the database."""
    return _adapter_class()()


def _adapter_class() -> type[OrganizationAdapter]:
    name = get_settings().ADAPTER
    adapter = import_string(name)
    if not (isinstance(adapter, type) and issubclass(adapter, OrganizationAdapter)):
        raise ImproperlyConfigured(f"ORGREALTIME['ADAPTER'] is a subclass of OrganizationAdapter, not {name}")
    return adapter
