"""Whom everything in a store belongs to: one store has one owner, to S3's eyes the same at every store."""

from gateway.xml import Owner

OWNER = Owner("bd2ea391eff24951b424e3aa570b100abf9e9cf2d537cbe846feeedb55bc6160", "stratumfs")
