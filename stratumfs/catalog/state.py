"""The engine's own table: small numbers that must be as durable as the rows they speak of."""

STATE_DDL = "create table catalog_state (key text primary key, value integer not null)"
"""The engine's own rows:
schema_version   of the tables
sequence         number of the last transaction
tick             moves so that there is something to commit (an opening, a checkpoint)
next_inode, next_cookie, next_extent   ids below were, or may have been, handed out
"""
GET_STATE = "select value from catalog_state where key = ?"
SET_STATE = "update catalog_state set value = ? where key = ?"
TICK = "update catalog_state set value = value + 1 where key = 'tick'"
