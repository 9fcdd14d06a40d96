"""A model field that is encrypted at rest and a `Secret` in hand.

The ciphertext is bound to the row through the model's `identity` (a UUID made with the object), so a value copied to
another row does not open. Reading decrypts on access; loading a row does not.
"""

from __future__ import annotations

from typing import Any

from django.db import models
from django.db.models.query_utils import DeferredAttribute

from providers import keyring
from providers.secrets import Secret, is_ciphertext


class Sealed:
    """A ciphertext as it lies in the database."""

    __slots__ = ("ciphertext",)

    def __init__(self, ciphertext: str) -> None:
        self.ciphertext = ciphertext

    def __repr__(self) -> str:
        return "Sealed('••••')"


class _EncryptedAttribute(DeferredAttribute):
    def __get__(self, instance: models.Model | None, cls: type | None = None) -> Any:
        if instance is None:
            return self
        value = super().__get__(instance, cls)
        if isinstance(value, Sealed):
            return Secret(keyring.current().decrypt(value.ciphertext, bound_to=self.field.bound_to(instance)))
        return value

    def __set__(self, instance: models.Model, value: Any) -> None:
        instance.__dict__[self.field.attname] = Secret(value) if isinstance(value, str) else value


class EncryptedField(models.TextField):
    """Accepts `str` or `Secret`, gives `Secret`, stores ciphertext. Needs `identity` on the model."""

    descriptor_class = _EncryptedAttribute

    def to_python(self, value: Any) -> Any:
        # TextField's own would make a text of the mask, and cleaning a row would store it.
        return value if isinstance(value, (Secret, Sealed)) else super().to_python(value)

    def validate(self, value: Any, model_instance: Any) -> None:
        super().validate(value.reveal() if isinstance(value, Secret) else value, model_instance)

    def bound_to(self, instance: models.Model) -> str:
        return f"{instance._meta.label_lower}/{instance.identity}/{self.name}"  # type: ignore[attr-defined]

    def sealed(self, instance: models.Model) -> Sealed | None:
        """The ciphertext of this row's value, encrypting it now if it is new."""
        value = instance.__dict__.get(self.attname)
        if value is None and self.attname in instance.get_deferred_fields():
            getattr(instance, self.attname)
            value = instance.__dict__.get(self.attname)
        if value is None or isinstance(value, Sealed):
            return value
        sealed = Sealed(keyring.current().encrypt(value.reveal(), bound_to=self.bound_to(instance)))
        instance.__dict__[self.attname] = sealed
        return sealed

    def from_db_value(self, value: str | None, expression: Any, connection: Any) -> Sealed | None:
        return None if value is None else Sealed(value)

    def pre_save(self, model_instance: models.Model, add: bool) -> Sealed | None:
        return self.sealed(model_instance)

    def get_prep_value(self, value: Any) -> str | None:
        if value is None:
            return None
        if isinstance(value, Sealed):
            return value.ciphertext
        if isinstance(value, str) and is_ciphertext(value):
            return value
        raise TypeError(f"{self.name} can only be written through save() or bulk_create(): encryption needs the row")

    def value_to_string(self, obj: models.Model) -> str:
        sealed = self.sealed(obj)
        return sealed.ciphertext if sealed else ""
