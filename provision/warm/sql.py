"""The services' SQL data: kept as rows, put back by changing only the rows that differ.

Nothing is restarted and no table is dropped: one transaction deletes, inserts and updates what is
not as it was. What services write of themselves all the time (heartbeats, what a node has free) is
theirs and stays.
"""

import base64
import contextlib
import json
import socket
import time

import pymysql
from pymysql.converters import encoders

DATABASES = ("keystone", "glance", "placement", "neutron", "nova", "nova_api", "nova_cell0")
# Told anew by whoever they are about, or by the schema.
LEFT = {
    "alembic_version", "alembic_version_neutron", "migrate_version", "compute_nodes", "agents",
    "ovn_hash_ring", "resource_providers", "inventories", "traits", "resource_classes",
    "console_auth_tokens", "task_log",
}  # fmt: skip
# Of these rows only what somebody decided, not what they say of themselves.
DECIDED = {"services": ("deleted", "disabled", "disabled_reason", "forced_down")}
# Large tables that only count what is taken: {table: its condition, and what frees a row}.
TAKEN = {"ml2_geneve_allocations": ("allocated <> 0", "allocated = 0")}
RETRIES = 5
DEADLOCK = (1205, 1213)


def connect():
    return pymysql.connect(
        unix_socket="/run/mysqld/mysqld.sock",
        user="root",
        charset="utf8mb4",
        # Values stay the text or bytes that the server sends, and go back as such.
        conv=dict(encoders),
        autocommit=False,
    )


class Table:
    def __init__(self, schema, name, columns, keys):
        self.schema, self.name, self.columns, self.keys = schema, name, columns, keys
        self.full = f"`{schema}`.`{name}`"
        self.shown = f"{schema}.{name}"
        self.partial = TAKEN.get(name)
        self.decided = DECIDED.get(name)


def tables(cursor):
    cursor.execute(
        "SELECT c.table_schema, c.table_name, c.column_name, c.column_key"
        " FROM information_schema.columns c JOIN information_schema.tables t"
        " USING (table_schema, table_name)"
        " WHERE t.table_type = 'BASE TABLE' AND c.table_schema IN %s"
        " AND c.extra NOT LIKE '%%GENERATED%%'"
        " ORDER BY c.table_schema, c.table_name, c.ordinal_position",
        (DATABASES,),
    )
    found = {}
    for schema, table, column, key in cursor.fetchall():
        if table not in LEFT:
            one = found.setdefault((schema, table), ([], []))
            one[0].append(column)
            if key == "PRI":
                one[1].append(column)
    return [Table(*place, *columns) for place, columns in found.items()]


def rows(cursor, table):
    """{key: row}; where there is no primary key the whole row is the key."""
    chosen = ", ".join(f"`{column}`" for column in table.columns)
    where = f" WHERE {table.partial[0]}" if table.partial else ""
    cursor.execute(f"SELECT {chosen} FROM {table.full}{where}")
    at = [table.columns.index(column) for column in table.keys] or range(len(table.columns))
    return {tuple(row[i] for i in at): row for row in cursor.fetchall()}


def everything(cursor, chosen):
    return {table.shown: (table, rows(cursor, table)) for table in chosen}


def providers(cursor):
    """Rows of other tables refer to these by number."""
    cursor.execute("SELECT id, uuid FROM placement.resource_providers ORDER BY id")
    return [list(row) for row in cursor.fetchall()]


def packed(value):
    return {"b": base64.b64encode(value).decode()} if isinstance(value, bytes) else value


def unpacked(value):
    return base64.b64decode(value["b"]) if isinstance(value, dict) else value


def save(place):
    with connect() as connection, connection.cursor() as cursor:
        cursor.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT")
        found = everything(cursor, tables(cursor))
        data = {
            "providers": providers(cursor),
            "tables": {
                name: {
                    "columns": table.columns,
                    "keys": table.keys,
                    "rows": [[packed(value) for value in row] for row in its.values()],
                }
                for name, (table, its) in found.items()
            },
        }
        connection.rollback()
    (place / "sql.json").write_text(json.dumps(data, separators=(",", ":")))


def restore(place):
    """Make all rows what they were; how many had to be changed, by table."""
    data = json.loads((place / "sql.json").read_text())
    # As they were then: asking the catalogue of 440 tables takes longer than reading their rows.
    chosen = [
        Table(*name.split(".", 1), its["columns"], its["keys"])
        for name, its in data["tables"].items()
    ]
    total = {}
    with connect() as connection, connection.cursor() as cursor:
        cursor.execute(
            "SET SESSION foreign_key_checks = 0, unique_checks = 0, innodb_lock_wait_timeout = 3"
        )
        cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
        if providers(cursor) != data["providers"]:
            raise SystemExit("a compute node has registered anew: its resources have other numbers")
        # Again until nothing differs: a service may write in between.
        for attempt in range(RETRIES):
            try:
                changed = once(cursor, chosen, data["tables"])
                connection.commit()
            except pymysql.err.ProgrammingError as error:  # another schema
                raise SystemExit(f"MariaDB: {error.args[-1]}") from error
            except pymysql.err.OperationalError as error:
                connection.rollback()
                if error.args[0] not in DEADLOCK or attempt == RETRIES - 1:
                    raise SystemExit(f"MariaDB: {error.args[-1]}") from error
                time.sleep(0.2)
                continue
            if not changed:
                return total
            for name, count in changed.items():
                total[name] = total.get(name, 0) + count
    raise SystemExit("rows change as fast as they are put back: " + ", ".join(changed))


def flush_cache():
    """memcached remembers tokens and users that may be gone now."""
    cache = ("127.0.0.1", 11211)
    with contextlib.suppress(OSError), socket.create_connection(cache, 5) as connection:
        connection.sendall(b"flush_all\r\n")
        connection.recv(64)


def once(cursor, chosen, saved):
    """Change what differs; how many rows that were, by table."""
    changed = {}
    for name, (table, current) in everything(cursor, chosen).items():
        kept = saved[name]
        at = [table.columns.index(column) for column in table.keys] or range(len(table.columns))
        old = [tuple(unpacked(value) for value in row) for row in kept["rows"]]
        wanted = {tuple(row[i] for i in at): row for row in old}
        count = (
            decided(cursor, table, wanted, current)
            if table.decided
            else whole(cursor, table, wanted, current)
        )
        if count:
            changed[name] = count
    return changed


def whole(cursor, table, wanted, current):
    gone = [key for key in current if key not in wanted]
    new = [row for key, row in wanted.items() if current.get(key) != row]
    keys = table.keys or table.columns
    same = " AND ".join(f"`{key}` <=> %s" for key in keys)
    if gone and table.partial:
        cursor.executemany(f"UPDATE {table.full} SET {table.partial[1]} WHERE {same}", gone)
    elif gone:
        cursor.executemany(f"DELETE FROM {table.full} WHERE {same}", gone)
    if new:
        names = ", ".join(f"`{column}`" for column in table.columns)
        marks = ", ".join(["%s"] * len(table.columns))
        cursor.executemany(f"REPLACE INTO {table.full} ({names}) VALUES ({marks})", new)
    return len(gone) + len(new)


def decided(cursor, table, wanted, current):
    columns = [column for column in table.decided if column in table.columns]
    at = [table.columns.index(column) for column in columns]
    same = " AND ".join(f"`{key}` <=> %s" for key in table.keys)
    setting = ", ".join(f"`{column}` = %s" for column in columns)
    count = 0
    for key, row in wanted.items():
        now = current.get(key)
        if now is not None and [now[i] for i in at] != [row[i] for i in at]:
            cursor.execute(
                f"UPDATE {table.full} SET {setting} WHERE {same}", [*(row[i] for i in at), *key]
            )
            count += 1
    return count
